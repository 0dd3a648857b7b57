//! A secret: read from a file or the environment, never printed.

use anyhow::{ensure, Context, Result};
use std::path::Path;

/// The longest that is taken: a file that is longer is another.
const LONGEST: usize = 4096;

/// See the module's text.
#[derive(Clone)]
pub struct Secret(String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Secret {
    /// That of a file, else that of the first of these variables that is set; an empty
    /// variable is as none.
    pub fn read(file: Option<&Path>, variables: &[&str]) -> Result<Option<Secret>> {
        if let Some(path) = file {
            return Secret::of_file(path).map(Some);
        }
        let set = variables.iter().find_map(|name| std::env::var(name).ok().filter(|text| !text.is_empty()));
        Ok(set.map(Secret))
    }

    /// The first line of a file, which must not be empty.
    pub fn of_file(path: &Path) -> Result<Secret> {
        let text = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        ensure!(text.len() <= LONGEST, "{} is too long for a secret", path.display());
        // What is wrong with it is not told: it would be shown.
        let text = String::from_utf8(text).ok().with_context(|| format!("{} is no text", path.display()))?;
        let line = text.lines().next().unwrap_or_default();
        ensure!(!line.is_empty(), "the first line of {} is empty", path.display());
        Ok(Secret(line.to_string()))
    }

    /// The secret itself, for who needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_of_a_file() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("secret");
        for (text, secret) in
            [("s3cret", Some("s3cret")), ("a b \nrest", Some("a b ")), ("", None), ("\nx", None)]
        {
            std::fs::write(&path, text).expect("written");
            let read = Secret::of_file(&path);
            assert_eq!(read.as_ref().ok().map(Secret::reveal), secret);
            assert!(!format!("{read:?}").contains("s3cret"));
        }
        std::fs::write(&path, b"\xff").expect("written");
        assert!(Secret::of_file(&path).is_err());
    }
}
