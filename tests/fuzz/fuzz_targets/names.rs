//! Texts that stand in addresses, configs and files: what is read from one is what is written to it.
#![no_main]

use std::fmt::{Debug, Display};
use std::str::FromStr;

use libfuzzer_sys::fuzz_target;
use tillmesh::config::{Ipv4Net, PeerAddress, StoreKey};
use tillmesh::model::id::{StoreId, TillId, hex, unhex};
use tillmesh::store::ConflictId;
use tillmesh_fuzz::Meter;

fuzz_target!(|text: &str| {
    let meter = Meter::new();
    there_and_back::<ConflictId>(text);
    there_and_back::<TillId>(text);
    there_and_back::<StoreId>(text);
    there_and_back::<PeerAddress>(text);
    if let Ok(net) = text.parse::<Ipv4Net>() {
        assert!(text.parse::<Ipv4Net>().as_ref() == Ok(&net));
    }
    if let Ok(key) = text.parse::<StoreKey>() {
        assert_eq!(key.to_text().parse().as_ref(), Ok(&key));
        assert!(!format!("{key:?}").contains(&key.to_text()));
    }
    if let Some(bytes) = unhex(text) {
        assert_eq!(hex(&bytes), text.to_ascii_lowercase());
    }
    assert!(meter.peak() <= 8192 + 64 * text.len(), "{} bytes for {}", meter.peak(), text.len());
});

fn there_and_back<T: FromStr + Display + Debug + PartialEq>(text: &str)
where
    T::Err: Debug + Display,
{
    match text.parse::<T>() {
        Ok(value) => assert_eq!(value.to_string().parse::<T>().expect("what is written can be read"), value),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
