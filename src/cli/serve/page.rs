//! The dashboard: the files of `page/`, kept in the program.
//!
//! They are served as they are: there is nothing to build, and what a browser runs is what
//! the sources say. All that it shows it has from the API.

use axum::extract::Path;
use axum::http::{header, HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use rust_embed::Embed;

#[derive(Embed)]
#[folder = "serve/page/"]
struct Files;

/// `/`.
pub async fn index(headers: HeaderMap) -> Response {
    answer("index.html", &headers)
}

/// `/page/…`.
pub async fn file(Path(path): Path<String>, headers: HeaderMap) -> Response {
    answer(&path, &headers)
}

/// A browser keeps them, and asks each time whether they are still the same: after an
/// upgrade no page is made of two versions.
fn answer(path: &str, headers: &HeaderMap) -> Response {
    let (Some(file), Some(kind)) = (Files::get(path), kind(path)) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let hash = file.metadata.sha256_hash();
    let hash: String = hash[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    let tag = format!("\"{hash}\"");
    let has = headers.get(header::IF_NONE_MATCH).and_then(|tags| tags.to_str().ok());
    let same = has.is_some_and(|tags| tags.split(',').any(|one| one.trim() == tag));
    let about = [(header::ETAG, tag.as_str()), (header::CACHE_CONTROL, "no-cache")];
    if same {
        return (StatusCode::NOT_MODIFIED, about).into_response();
    }
    (about, [(header::CONTENT_TYPE, kind)], file.data).into_response()
}

/// What a file is; `None`: nothing that is served.
fn kind(path: &str) -> Option<&'static str> {
    Some(match path.rsplit_once('.')?.1 {
        "html" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "svg" => "image/svg+xml",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_has_a_kind() {
        assert!(Files::get("index.html").is_some());
        for path in Files::iter().filter(|path| !path.ends_with("LICENSE")) {
            assert!(kind(&path).is_some(), "{path}");
        }
    }

    #[test]
    fn what_is_not_there_is_not_found() {
        for path in ["", "none", "../page.rs", "vendor", "/etc/passwd.js", "vendor/../../page.rs"] {
            assert_eq!(answer(path, &HeaderMap::new()).status(), StatusCode::NOT_FOUND, "{path}");
        }
    }
}
