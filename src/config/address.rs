//! Addresses as they are written in a config. Pure.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// The port of the mesh where none is given.
pub const MESH_PORT: u16 = 3030;

/// Where another till is to be dialled: `192.168.1.21`, `192.168.1.21:3030`, `caisse2.local:3030`, `[fe80::1%eth0]:3030`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerAddress {
    /// A host name, or an address without brackets; IPv6 may carry a scope (`%eth0`).
    pub host: String,
    /// [`MESH_PORT`] where the text gives none; never 0.
    pub port: u16,
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// A text that is not the address of a till.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a host or host:port, such as 192.168.1.21:3030")]
pub struct PeerAddressError;

impl FromStr for PeerAddress {
    type Err = PeerAddressError;

    fn from_str(text: &str) -> Result<Self, PeerAddressError> {
        let (host, port) = split(text).ok_or(PeerAddressError)?;
        let port = match port {
            // `parse` alone would take `+3030`.
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
                digits.parse().map_err(|_| PeerAddressError)?
            }
            Some(_) => return Err(PeerAddressError),
            None => MESH_PORT,
        };
        if port == 0 {
            return Err(PeerAddressError);
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

/// The host and the text of the port.
fn split(text: &str) -> Option<(&str, Option<&str>)> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, after) = rest.split_once(']')?;
        let port = if after.is_empty() { None } else { Some(after.strip_prefix(':')?) };
        return is_ipv6(host).then_some((host, port));
    }
    if is_ipv6(text) {
        return Some((text, None));
    }
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    (host.parse::<Ipv4Addr>().is_ok() || is_host_name(host)).then_some((host, port))
}

/// An IPv6 address, with or without the scope that link-local ones need.
fn is_ipv6(text: &str) -> bool {
    let (address, scope) = match text.split_once('%') {
        Some((address, scope)) => (address, Some(scope)),
        None => (text, None),
    };
    let scope_ok =
        scope.is_none_or(|s| !s.is_empty() && s.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)));
    scope_ok && address.parse::<Ipv6Addr>().is_ok()
}

/// A DNS name (RFC 1123; underscores are let pass). A name whose last label is a number is a mistyped address.
fn is_host_name(text: &str) -> bool {
    let name = text.strip_suffix('.').unwrap_or(text);
    let label_ok = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let last_is_number = name.rsplit('.').next().is_none_or(|last| last.bytes().all(|b| b.is_ascii_digit()));
    name.len() <= 253 && name.split('.').all(label_ok) && !last_is_number
}

/// An IPv4 address and the length of its network's prefix: `192.168.1.20/24`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ipv4Net {
    /// The till's own address.
    pub address: Ipv4Addr,
    /// 1 to 30.
    pub prefix: u8,
}

impl Ipv4Net {
    /// Whether an address can be given to a box of this network: neither its first nor its last.
    #[must_use]
    pub fn has_host(&self, address: Ipv4Addr) -> bool {
        let hosts = u32::MAX >> self.prefix;
        let (own, other) = (self.address.to_bits(), address.to_bits());
        own & !hosts == other & !hosts && other & hosts != 0 && other & hosts != hosts
    }
}

impl fmt::Display for Ipv4Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// A text that is not a till's address with its network's prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an IPv4 address of a till with its prefix, such as 192.168.1.20/24")]
pub struct Ipv4NetError;

impl FromStr for Ipv4Net {
    type Err = Ipv4NetError;

    fn from_str(text: &str) -> Result<Self, Ipv4NetError> {
        let (address, prefix) = text.split_once('/').ok_or(Ipv4NetError)?;
        if !prefix.bytes().all(|b| b.is_ascii_digit()) {
            return Err(Ipv4NetError);
        }
        let net = Self {
            address: address.parse().map_err(|_| Ipv4NetError)?,
            prefix: prefix.parse().ok().filter(|prefix| (1..=30).contains(prefix)).ok_or(Ipv4NetError)?,
        };
        let a = net.address;
        let unfit = a.is_unspecified() || a.is_loopback() || a.is_multicast() || a.is_broadcast() || !net.has_host(a);
        if unfit { Err(Ipv4NetError) } else { Ok(net) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_are_hosts_with_or_without_a_port() {
        for (text, host, port) in [
            ("192.168.1.21", "192.168.1.21", 3030),
            ("192.168.1.21:4000", "192.168.1.21", 4000),
            ("caisse-2.local", "caisse-2.local", 3030),
            ("caisse_2:1", "caisse_2", 1),
            ("till.example.", "till.example.", 3030),
            ("fe80::1%eth0.2", "fe80::1%eth0.2", 3030),
            ("[fe80::1%eth0]:65535", "fe80::1%eth0", 65535),
            ("[::1]", "::1", 3030),
        ] {
            let peer: PeerAddress = text.parse().unwrap();
            assert_eq!((peer.host.as_str(), peer.port), (host, port));
            assert_eq!(peer.to_string().parse::<PeerAddress>().unwrap(), peer);
        }
    }

    #[test]
    fn what_is_no_peer_is_refused() {
        for text in [
            "",
            ":3030",
            "host:",
            "host:0",
            "host:65536",
            "host:+1",
            "host:http",
            "192.168.1.300",
            "192.168.1",
            "a b",
            "-a",
            "a..b",
            "http://a",
            "a/b",
            "[::1",
            "[::1]3030",
            "[a]:1",
            "::g",
            "fe80::1%",
            "caissé",
            "1.2.3.4:1:2",
        ] {
            assert_eq!(text.parse::<PeerAddress>(), Err(PeerAddressError), "{text:?}");
        }
        assert!(format!("{}.fr", "a".repeat(64)).parse::<PeerAddress>().is_err());
        assert!("a.".repeat(127).parse::<PeerAddress>().is_ok());
        assert!("a.".repeat(128).parse::<PeerAddress>().is_err());
    }

    #[test]
    fn a_static_address_can_be_given_to_a_till() {
        let net: Ipv4Net = "192.168.1.20/24".parse().unwrap();
        assert_eq!(net.to_string(), "192.168.1.20/24");
        assert!(net.has_host(Ipv4Addr::new(192, 168, 1, 1)));
        assert!(!net.has_host(Ipv4Addr::new(192, 168, 2, 1)));
        for text in [
            "192.168.1.20",
            "192.168.1.20/0",
            "192.168.1.20/31",
            "192.168.1.20/+24",
            "192.168.1.20/",
            "192.168.1.0/24",
            "192.168.1.255/24",
            "0.0.0.0/8",
            "127.0.0.1/8",
            "224.0.0.5/8",
            "fe80::1/64",
            "192.168.1.20/24/1",
        ] {
            assert_eq!(text.parse::<Ipv4Net>(), Err(Ipv4NetError), "{text:?}");
        }
    }
}
