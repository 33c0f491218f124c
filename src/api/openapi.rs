//! `GET /openapi.json`: the API, for programs (OpenAPI 3.1). The file is part of the source; the tests below hold it to the code: the
//! paths to the table of routes, the schemas to the types.

use axum::http::header;
use axum::response::{IntoResponse, Response};

const DOCUMENT: &str = include_str!("openapi.json");

/// What is for people's eyes is left out when it is compiled: nearly half of it.
static COMPACT: [u8; compact_length(DOCUMENT.as_bytes())] = compact(DOCUMENT.as_bytes());

pub(super) async fn document() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], COMPACT.as_slice()).into_response()
}

/// How long a JSON text is without space outside its strings.
const fn compact_length(json: &[u8]) -> usize {
    let (mut at, mut length, mut text) = (0, 0, false);
    while at < json.len() {
        let (keep, skip);
        (keep, skip, text) = step(json, at, text);
        length += keep;
        at += skip;
    }
    length
}

/// A JSON text without space outside its strings.
const fn compact<const N: usize>(json: &[u8]) -> [u8; N] {
    let mut out = [0; N];
    let (mut at, mut length, mut text) = (0, 0, false);
    while at < json.len() {
        let (keep, skip);
        (keep, skip, text) = step(json, at, text);
        let mut i = 0;
        while i < keep {
            out[length + i] = json[at + i];
            i += 1;
        }
        length += keep;
        at += skip;
    }
    out
}

/// Of the next bytes, how many are kept, how many they are, and whether what follows is in a string.
const fn step(json: &[u8], at: usize, text: bool) -> (usize, usize, bool) {
    match json[at] {
        b'\\' if text => (2, 2, text),
        b'"' => (1, 1, !text),
        b' ' | b'\n' | b'\r' | b'\t' if !text => (0, 1, text),
        _ => (1, 1, text),
    }
}

#[cfg(test)]
mod tests;
