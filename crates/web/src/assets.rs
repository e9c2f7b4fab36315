//! Scripts and styles, embedded in the binary and served under an address that contains their hash, so that a browser may keep
//! them for ever. The vendored ones are listed in `assets/vendor/VENDOR.tsv` with package, version, licence and SHA-256.

use std::sync::LazyLock;

use axum::{
    extract::Path,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use sha2::{Digest, Sha256};

/// One embedded file.
pub struct Asset {
    /// Its name, as in a page's source.
    pub name: &'static str,
    content_type: &'static str,
    bytes: &'static [u8],
    /// Its address, with the hash of its content.
    pub url: String,
}

const JS: &str = "text/javascript; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";

/// Name, type and content of every file.
const FILES: [(&str, &str, &[u8]); 7] = [
    ("app.css", CSS, include_bytes!("../assets/app.css")),
    ("app.js", JS, include_bytes!("../assets/app.js")),
    ("charts.js", JS, include_bytes!("../assets/charts.js")),
    ("htmx.min.js", JS, include_bytes!("../assets/vendor/htmx.min.js")),
    ("uPlot.iife.min.js", JS, include_bytes!("../assets/vendor/uPlot.iife.min.js")),
    ("uPlot.min.css", CSS, include_bytes!("../assets/vendor/uPlot.min.css")),
    ("icon.svg", "image/svg+xml", include_bytes!("../assets/icon.svg")),
];

static ASSETS: LazyLock<Vec<Asset>> = LazyLock::new(|| {
    let asset = |(name, content_type, bytes): (&'static str, &'static str, &'static [u8])| {
        let hash = hex(&Sha256::digest(bytes)[..8]);
        Asset { name, content_type, bytes, url: format!("/assets/{hash}/{name}") }
    };
    FILES.into_iter().map(asset).collect()
});

/// Every embedded file.
pub fn all() -> &'static [Asset] {
    &ASSETS
}

/// The address of a file; the empty text when there is no such file (a test asks for all that pages use).
pub fn url(name: &str) -> &'static str {
    ASSETS.iter().find(|asset| asset.name == name).map_or("", |asset| &asset.url)
}

/// `GET /assets/{hash}/{name}`.
pub async fn serve(Path((hash, name)): Path<(String, String)>, headers: HeaderMap) -> Response {
    let wanted = format!("/assets/{hash}/{name}");
    let Some(asset) = ASSETS.iter().find(|asset| asset.url == wanted) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let tag = format!("\"{hash}\"");
    let kept = (header::CACHE_CONTROL, "public, max-age=31536000, immutable".to_owned());
    if headers.get(header::IF_NONE_MATCH).is_some_and(|value| value.as_bytes() == tag.as_bytes()) {
        return (StatusCode::NOT_MODIFIED, [kept, (header::ETAG, tag)]).into_response();
    }
    ([(header::CONTENT_TYPE, asset.content_type.to_owned()), kept, (header::ETAG, tag)], asset.bytes).into_response()
}

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vendored_files_are_the_listed_ones() {
        let list = include_str!("../assets/vendor/VENDOR.tsv");
        let licences: [(&str, &[u8]); 2] = [
            ("LICENSE-htmx.txt", include_bytes!("../assets/vendor/LICENSE-htmx.txt")),
            ("LICENSE-uPlot.txt", include_bytes!("../assets/vendor/LICENSE-uPlot.txt")),
        ];
        let mut seen = 0;
        for line in list.lines().skip(1) {
            let fields: Vec<&str> = line.split('\t').collect();
            let [file, package, licence, sha256] = fields[..] else { panic!("four fields: {line}") };
            assert!(package.contains('@') && !licence.is_empty(), "{line}");
            let bytes = FILES
                .iter()
                .map(|(name, _, bytes)| (*name, *bytes))
                .chain(licences)
                .find_map(|(name, bytes)| (name == file).then_some(bytes))
                .unwrap_or_else(|| panic!("{file} is listed and not embedded"));
            assert_eq!(hex(&Sha256::digest(bytes)), sha256, "{file} differs from the listed one");
            seen += 1;
        }
        assert_eq!(seen, 5);
    }
}
