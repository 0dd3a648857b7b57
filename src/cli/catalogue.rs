//! Real records for the demonstration: the package catalogue that every
//! Debian machine carries, in the control-file format of apt and dpkg.
//!
//! ```text
//! Package: redis-server
//! Section: database
//! Description: Persistent key-value database with network interface
//!  continued lines begin with a blank
//!
//! Package: …
//! ```

use anyhow::{bail, Context, Result};
use std::collections::HashSet;
use std::path::Path;
use std::process::{Command, Stdio};

/// Fewer packages than this are no catalogue: apt's lists are empty then.
const SMALLEST_CATALOGUE: usize = 1000;
const DPKG_STATUS: &str = "/var/lib/dpkg/status";

/// What is known about one package.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The part of the archive it is in.
    pub section: String,
    /// Who looks after it.
    pub maintainer: String,
    /// Its web page.
    pub homepage: String,
    /// What it needs.
    pub depends: String,
    /// What it is.
    pub description: String,
}

/// Packages, and where they were found.
pub struct Catalogue {
    /// One record a name.
    pub packages: Vec<Package>,
    /// For people: what was read.
    pub source: String,
}

impl Catalogue {
    /// Reads `file` if named, else apt's lists, else what dpkg has installed.
    pub fn find(file: Option<&Path>) -> Result<Self> {
        if let Some(path) = file {
            let packages = read(path)?;
            if packages.is_empty() {
                bail!(
                    "{} holds no packages: it should be in the format of `apt-cache dumpavail`",
                    path.display()
                );
            }
            return Ok(Self { packages, source: path.display().to_string() });
        }
        let available = available().unwrap_or_default();
        if available.len() >= SMALLEST_CATALOGUE {
            return Ok(Self { packages: available, source: "Debian's package catalogue".into() });
        }
        match read(Path::new(DPKG_STATUS)) {
            Ok(packages) if !packages.is_empty() => Ok(Self {
                packages,
                source: format!("the installed packages in {DPKG_STATUS} (apt's lists are empty: `apt-get update` fills them)"),
            }),
            _ => bail!(
                "found no package catalogue: apt-cache names no packages and {DPKG_STATUS} cannot be read; name one with --catalogue FILE"
            ),
        }
    }
}

fn read(path: &Path) -> Result<Vec<Package>> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(parse(&String::from_utf8_lossy(&bytes)))
}

fn available() -> Option<Vec<Package>> {
    let output = Command::new("apt-cache")
        .arg("dumpavail")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    output.status.success().then(|| parse(&String::from_utf8_lossy(&output.stdout)))
}

/// Reads control paragraphs. Those without a name are passed over, and of a
/// name that comes again (another version or architecture) the first is kept.
pub fn parse(text: &str) -> Vec<Package> {
    let mut packages = Vec::new();
    let mut seen = HashSet::new();
    let mut package = Package::default();
    let mut field = None;
    for line in text.lines().chain([""]) {
        if line.trim().is_empty() {
            let done = std::mem::take(&mut package);
            if !done.name.is_empty() && seen.insert(done.name.clone()) {
                packages.push(done);
            }
            field = None;
        } else if line.starts_with([' ', '\t']) {
            if let Some(value) = field.and_then(|field| place(&mut package, field)) {
                value.push('\n');
                value.push_str(line.trim());
            }
        } else if let Some((name, value)) = line.split_once(':') {
            field = Some(name);
            if let Some(place) = place(&mut package, name) {
                *place = value.trim().to_string();
            }
        } else {
            field = None;
        }
    }
    packages
}

fn place<'a>(package: &'a mut Package, field: &str) -> Option<&'a mut String> {
    Some(match field {
        "Package" => &mut package.name,
        "Version" => &mut package.version,
        "Section" => &mut package.section,
        "Maintainer" => &mut package.maintainer,
        "Homepage" => &mut package.homepage,
        "Depends" => &mut package.depends,
        "Description" => &mut package.description,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &str = "Package: adduser\nVersion: 3.134\nSection: admin\nMaintainer: Debian <d@example.org>\n\
        Description: add and remove users\n This package\n .\n ends here\nTag: admin::user,\n role::program\n\n\n\
        Package: zoo\nDepends: libc6 (>= 2.34), libzoo\nHomepage: https://example.org/a:b\n";

    #[test]
    fn reads_fields_and_continued_lines() {
        let packages = parse(TWO);
        assert_eq!(packages.len(), 2);
        assert_eq!(packages[0].description, "add and remove users\nThis package\n.\nends here");
        assert_eq!(packages[0].section, "admin");
        assert_eq!(packages[1].homepage, "https://example.org/a:b");
        assert_eq!(packages[1].section, "");
    }

    #[test]
    fn keeps_the_first_of_a_name_and_passes_over_what_has_none() {
        let packages = parse("Package: a\nVersion: 1\n\nVersion: 9\n\nPackage: a\nVersion: 2\n");
        assert_eq!(packages.len(), 1);
        assert_eq!(packages[0].version, "1");
    }

    #[test]
    fn any_text_is_read_without_harm() {
        for text in [
            "",
            "\n\n",
            " continued first",
            "no colon",
            ":",
            ": x\n y",
            "Package:",
            "Package: \n\n",
            "Package: a",
        ] {
            parse(text);
        }
        for end in (0..TWO.len()).filter(|end| TWO.is_char_boundary(*end)) {
            parse(&TWO[..end]);
        }
    }
}
