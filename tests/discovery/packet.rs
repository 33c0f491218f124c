//! An mDNS announcement built by hand (RFC 1035 section 4), for what no well-behaved responder would send.

const CLASS_IN: u16 = 1;
const TTL_SECS: u32 = 120;
const SERVICE: [&str; 3] = ["_posplus-p2p", "_tcp", "local"];

/// PTR, SRV, TXT and A of one service whose host is the single label `host`.
pub(crate) fn announcement(instance: &str, host: &str, address: [u8; 4], port: u16, txt: &[&str]) -> Vec<u8> {
    let service = name(&SERVICE);
    let full = name(&[&[instance], &SERVICE[..]].concat());
    let host = name(&[host]);
    let srv = [&[0, 0, 0, 0], &port.to_be_bytes()[..], &host].concat();
    let txt: Vec<u8> = txt.iter().flat_map(|entry| label(entry)).collect();
    let records =
        [record(&service, 12, &full), record(&full, 33, &srv), record(&full, 16, &txt), record(&host, 1, &address)];
    // Id 0, an authoritative response, no questions, four answers.
    let header = [0, 0, 0x84, 0, 0, 0, 0, 4, 0, 0, 0, 0];
    [&header[..], &records.concat()].concat()
}

fn record(name: &[u8], kind: u16, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(data.len()).expect("short data");
    [name, &kind.to_be_bytes(), &CLASS_IN.to_be_bytes(), &TTL_SECS.to_be_bytes(), &length.to_be_bytes(), data].concat()
}

fn name(labels: &[&str]) -> Vec<u8> {
    labels.iter().flat_map(|l| label(l)).chain([0]).collect()
}

fn label(text: &str) -> Vec<u8> {
    let length = u8::try_from(text.len()).expect("short label");
    [&[length], text.as_bytes()].concat()
}
