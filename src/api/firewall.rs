//! What the box's firewall has counted. The agent has no right to ask the kernel; on the image a timer writes what `nft` says into a file
//! (`tillmesh-counters.service`).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Names another file: for rigs that run several tills on one machine.
const FILE_VARIABLE: &str = "TILLMESH_FIREWALL_COUNTERS";
/// Where the image's timer writes.
const FILE: &str = "/run/tillmesh-box/firewall.json";
/// Far more than the counters of any firewall of ours.
const BYTES_MAX: u64 = 64 * 1024;

/// A counter of a firewall.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Counted {
    /// Packets.
    pub(super) packets: u64,
    /// Their bytes.
    pub(super) bytes: u64,
}

/// By name; none where there is no such file.
pub(super) fn counters() -> Option<BTreeMap<String, Counted>> {
    let path = std::env::var_os(FILE_VARIABLE).map_or_else(|| PathBuf::from(FILE), PathBuf::from);
    let mut text = String::new();
    File::open(path).ok()?.take(BYTES_MAX).read_to_string(&mut text).ok()?;
    parse(&text)
}

/// Of `nft -j list counters` (libnftables-json(5)).
fn parse(text: &str) -> Option<BTreeMap<String, Counted>> {
    #[derive(Deserialize)]
    struct Listing {
        nftables: Vec<Entry>,
    }
    #[derive(Deserialize)]
    struct Entry {
        counter: Option<Named>,
    }
    #[derive(Deserialize)]
    struct Named {
        name: String,
        #[serde(flatten)]
        counted: Counted,
    }
    let listing: Listing = serde_json::from_str(text).ok()?;
    Some(listing.nftables.into_iter().filter_map(|entry| entry.counter).map(|c| (c.name, c.counted)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nft_lists_is_read() {
        let text = r#"{"nftables": [{"metainfo": {"version": "1.0.6", "json_schema_version": 1}},
            {"counter": {"family": "inet", "name": "dropped", "table": "tillmesh", "handle": 2, "packets": 12, "bytes": 720}},
            {"counter": {"family": "inet", "name": "mesh", "table": "tillmesh", "handle": 1, "packets": 3, "bytes": 180}}]}"#;
        let counters = parse(text).unwrap();
        assert_eq!(counters.len(), 2);
        assert_eq!(counters["dropped"], Counted { packets: 12, bytes: 720 });
        assert_eq!(parse("Error: Operation not permitted"), None);
    }
}
