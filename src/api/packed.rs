//! Texts that are packed in the program: a till's card and memory hold them always, and somebody asks for them now and then.

use miniz_oxide::inflate::decompress_to_vec;

/// A text that `src/build.rs` has packed.
///
/// # Panics
/// Where it is something else: it was put there when this program was built.
pub(super) fn text(packed: &[u8]) -> String {
    let bytes = decompress_to_vec(packed).expect("what was packed can be unpacked");
    String::from_utf8(bytes).expect("it was a text")
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_is_served_is_the_source_in_fewer_bytes() {
        for (packed, source) in [
            (include_bytes!(concat!(env!("OUT_DIR"), "/openapi.json")).as_slice(), include_str!("openapi.json")),
            (include_bytes!(concat!(env!("OUT_DIR"), "/page.html")).as_slice(), include_str!("page.html")),
        ] {
            assert_eq!(super::text(packed), source);
            assert!(packed.len() < source.len() / 2, "{} of {}", packed.len(), source.len());
        }
    }
}
