//! The first bytes of a link: the preamble in clear, and the Hello.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tillmesh::wire::frame::Preamble;
use tillmesh::wire::hello::{Hello, negotiate};
use tillmesh_fuzz::Meter;

fuzz_target!(|data: &[u8]| {
    let meter = Meter::new();
    let (hello, preamble) = (Hello::decode(data), Preamble::decode(data));
    assert!(meter.peak() <= 1024 + 2 * data.len(), "{} bytes for {}", meter.peak(), data.len());
    if let Ok(preamble) = preamble {
        let bytes = preamble.encode();
        assert_eq!(bytes, data[..bytes.len()]);
        assert_eq!(Preamble::decode(&bytes), Ok(preamble));
    }
    if let Ok(hello) = hello {
        let bytes = hello.encode();
        assert!(bytes.len() <= data.len(), "what follows is ignored");
        assert_eq!(Hello::decode(&bytes).as_ref(), Ok(&hello));
        if let Err(refusal) = negotiate(&hello, &hello) {
            assert!(!refusal.to_string().is_empty());
        }
    }
});
