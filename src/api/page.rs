//! `GET /`: a page for the shop's staff and the technician: are the tills linked, do they store sales, is there anything to do.

use std::sync::LazyLock;

use axum::http::header;
use axum::response::{Html, IntoResponse, Response};
use sha2::{Digest as _, Sha256};

use super::packed;

/// Packed by `src/build.rs`; here once somebody has asked for it.
static PAGE: LazyLock<String> = LazyLock::new(|| packed::text(include_bytes!(concat!(env!("OUT_DIR"), "/page.html"))));

/// The page's own style and script, by their hashes, and nothing else: what somebody slips into it does not run. It asks this till alone.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    let [style, script] = ["style", "script"].map(|name| base64(&Sha256::digest(between(&PAGE, name))));
    format!(
        "default-src 'none'; style-src 'sha256-{style}'; script-src 'sha256-{script}'; img-src data:; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
});

pub(super) async fn page() -> Response {
    ([(header::CONTENT_SECURITY_POLICY, POLICY.as_str())], Html(PAGE.as_str())).into_response()
}

/// What stands in the page's only element of a name.
fn between<'a>(page: &'a str, name: &str) -> &'a str {
    let inside = page.split_once(&format!("<{name}>")).and_then(|(_, rest)| rest.split_once(&format!("</{name}>")));
    inside.map_or("", |(inside, _)| inside)
}

/// RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let bits = three.iter().fold(0, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
        for place in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * place) & 63) as usize];
            text.push(if place <= three.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_as_the_rfc_has_it() {
        for (bytes, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
        assert_eq!(base64(&[0xfb, 0xff]), "+/8=");
    }

    #[test]
    fn the_page_is_small_and_its_policy_names_what_is_in_it() {
        assert!(PAGE.len() < 60_000, "{} bytes", PAGE.len());
        assert!(between(&PAGE, "script").contains("use strict") && between(&PAGE, "style").contains("color-scheme"));
        assert!(!POLICY.contains("unsafe") && !PAGE.contains(" style=") && !PAGE.contains(" onclick="));
        assert_eq!((PAGE.matches("<script").count(), PAGE.matches("<style").count()), (1, 1));
    }
}
