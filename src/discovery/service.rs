//! What a service record says: building ours, reading others'. Pure.

use std::net::{SocketAddr, SocketAddrV6};

use mdns_sd::{ResolvedService, ScopedIp, ServiceInfo};

use super::{DiscoveryConfig, Found, Kin, TILL_ADDRESSES_MAX};
use crate::model::id::TillId;

/// DNS-SD service type that tills announce and browse, POSPlus's as well as ours.
///
/// The host record behind our instance is `<hostname>-<8 hex of the till id>.local.`, not `<hostname>.local.`: cards that are
/// copied share a host name, and records of one name from two machines would have their addresses merged.
pub const SERVICE_TYPE: &str = "_posplus-p2p._tcp.local.";

/// Longest DNS label, in bytes (RFC 1035 section 2.3.4).
const LABEL_BYTES_MAX: usize = 63;
/// What stays of an instance name, in bytes: room for our ` (xxxx)` and for a responder's ` (NN)`.
const INSTANCE_BYTES_MAX: usize = LABEL_BYTES_MAX - 12;
/// What stays of a host name, in bytes: room for a hyphen and 8 hex digits, and for the `-NN` of a renaming.
const HOSTNAME_BYTES_MAX: usize = LABEL_BYTES_MAX - 12;
/// Longest TXT value that we send or report, in bytes. RFC 6763 section 6.1 allows 255 with the key.
const TXT_VALUE_BYTES_MAX: usize = 128;
/// The loopback interface of Linux.
const LOOPBACK_INTERFACE: &str = "lo";

/// Keys of the TXT record (RFC 6763 section 6.4: case does not count).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TxtKey {
    /// The till's human name.
    Id,
    /// Version of the program.
    Version,
    /// Highest protocol version; tells tillmesh from POSPlus.
    Proto,
    /// Short hash of the store id.
    Store,
    /// Till id.
    Till,
}

impl TxtKey {
    /// The key as it stands in the record.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Id => "id",
            Self::Version => "version",
            Self::Proto => "proto",
            Self::Store => "store",
            Self::Till => "till",
        }
    }
}

/// What a till calls itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Naming {
    /// As the config says.
    Given,
    /// With four digits of the till id behind it, because another machine has the given name.
    Distinct,
}

/// The service that announces this till on `port`; its addresses follow those of the machine.
pub(super) fn announcement(config: &DiscoveryConfig, naming: Naming, port: u16) -> mdns_sd::Result<ServiceInfo> {
    let txt = [
        (TxtKey::Id.as_str(), text(&config.pos_id, TXT_VALUE_BYTES_MAX)),
        (TxtKey::Version.as_str(), text(&config.version, TXT_VALUE_BYTES_MAX)),
        (TxtKey::Proto.as_str(), config.proto.to_string()),
        (TxtKey::Store.as_str(), config.store.short_hash()),
        (TxtKey::Till.as_str(), config.till.to_string()),
    ];
    let mut instance = text(&config.instance, INSTANCE_BYTES_MAX);
    if instance.is_empty() {
        "till".clone_into(&mut instance);
    }
    if naming == Naming::Distinct {
        instance = format!("{instance} ({})", &config.till.to_string()[..4]);
    }
    let host = format!("{}.local.", host_label(&config.hostname, &config.till));
    Ok(ServiceInfo::new(SERVICE_TYPE, &instance, &host, "", port, &txt[..])?.enable_addr_auto())
}

/// The host label of a till: letters, digits and hyphens alone (RFC 952), unlike any other till's.
fn host_label(hostname: &str, till: &TillId) -> String {
    let first_label = hostname.split('.').next().unwrap_or_default();
    let mut label: String = first_label.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    label.truncate(HOSTNAME_BYTES_MAX);
    let label = label.trim_matches('-');
    let till = &till.to_string()[..8];
    if label.is_empty() { format!("till-{till}") } else { format!("{label}-{till}") }
}

/// `value` without control characters, cut to `bytes_max` between characters.
fn text(value: &str, bytes_max: usize) -> String {
    let mut kept = String::with_capacity(value.len().min(bytes_max));
    for c in value.trim().chars().filter(|c| !c.is_control()) {
        if kept.len() + c.len_utf8() > bytes_max {
            break;
        }
        kept.push(c);
    }
    kept
}

/// What a resolved service tells, to a till whose store has the short hash `our_store`.
///
/// `None` where there is nowhere to dial.
pub(super) fn read(service: &ResolvedService, our_store: &str) -> Option<Found> {
    let value = |key: TxtKey| service.get_property_val_str(key.as_str()).map(|v| text(v, TXT_VALUE_BYTES_MAX));
    let addresses = dialable(&service.addresses, service.port);
    if addresses.is_empty() {
        return None;
    }
    let proto = value(TxtKey::Proto).and_then(|v| v.parse().ok());
    let store = value(TxtKey::Store);
    let kin = match (proto, store.as_deref()) {
        (None, _) => Kin::Posplus,
        (Some(_), Some(store)) if store.eq_ignore_ascii_case(our_store) => Kin::OurStore,
        (Some(_), _) => Kin::OtherStore,
    };
    Some(Found {
        key: service.fullname.clone(),
        pos_id: value(TxtKey::Id).filter(|id| !id.is_empty()),
        till: till_of(service),
        store,
        proto,
        kin,
        addresses,
    })
}

/// The till id that a service announces.
pub(super) fn till_of(service: &ResolvedService) -> Option<TillId> {
    service.get_property_val_str(TxtKey::Till.as_str())?.parse().ok()
}

/// Where to dial: usable addresses in order of preference.
///
/// A loopback address counts only where it was heard on the loopback interface, that is, from this very machine, and only
/// where the service has no other address.
fn dialable<'a>(addresses: impl IntoIterator<Item = &'a ScopedIp>, port: u16) -> Vec<SocketAddr> {
    if port == 0 {
        return Vec::new();
    }
    let mut ranked: Vec<(AddressClass, SocketAddr)> =
        addresses.into_iter().filter_map(|ip| Some((AddressClass::of(ip)?, socket_address(ip, port)))).collect();
    ranked.sort_unstable();
    ranked.dedup();
    if ranked.iter().any(|(class, _)| *class != AddressClass::Loopback) {
        ranked.retain(|(class, _)| *class != AddressClass::Loopback);
    }
    ranked.truncate(TILL_ADDRESSES_MAX);
    ranked.into_iter().map(|(_, address)| address).collect()
}

/// Kinds of address, the one to try first foremost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum AddressClass {
    V4,
    /// 169.254/16: a till that got no lease. Routable ones are tried before.
    V4LinkLocal,
    V6,
    V6LinkLocal,
    Loopback,
}

impl AddressClass {
    /// `None` for what nobody can be dialled at.
    fn of(ip: &ScopedIp) -> Option<Self> {
        match ip {
            ScopedIp::V4(v4) => {
                let address = v4.addr();
                if address.is_loopback() {
                    let heard_here = v4.interface_ids().iter().any(|i| i.name == LOOPBACK_INTERFACE);
                    return heard_here.then_some(Self::Loopback);
                }
                if address.is_unspecified() || address.is_multicast() || address.is_broadcast() {
                    return None;
                }
                Some(if address.is_link_local() { Self::V4LinkLocal } else { Self::V4 })
            }
            ScopedIp::V6(v6) => {
                let address = v6.addr();
                if address.is_loopback() {
                    return (v6.scope_id().name == LOOPBACK_INTERFACE).then_some(Self::Loopback);
                }
                if address.is_unspecified() || address.is_multicast() || address.to_ipv4_mapped().is_some() {
                    return None;
                }
                if address.is_unicast_link_local() {
                    // Without the interface there is no telling which link it is on.
                    return (v6.scope_id().index != 0).then_some(Self::V6LinkLocal);
                }
                Some(Self::V6)
            }
            _ => None,
        }
    }
}

fn socket_address(ip: &ScopedIp, port: u16) -> SocketAddr {
    match ip {
        ScopedIp::V6(v6) if v6.addr().is_unicast_link_local() => {
            SocketAddr::V6(SocketAddrV6::new(*v6.addr(), port, 0, v6.scope_id().index))
        }
        _ => SocketAddr::new(ip.to_ip_addr(), port),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use mdns_sd::{InterfaceId, ScopedIpV4};

    use super::*;
    use crate::model::id::{StoreId, Uuid};

    fn config() -> DiscoveryConfig {
        DiscoveryConfig {
            instance: "POSPlus-caisse1".into(),
            hostname: "caisse1".into(),
            port: 3030,
            pos_id: "POS-001".into(),
            version: "1.2.3".into(),
            proto: 1,
            store: StoreId(Uuid::nil()),
            till: TillId([0xab; 16]),
        }
    }

    /// What another till would resolve of `config`, at one address.
    fn resolved(config: &DiscoveryConfig) -> ResolvedService {
        let mut service = announcement(config, Naming::Given, config.port).unwrap().as_resolved_service();
        service.addresses.insert(IpAddr::from([192, 168, 1, 5]).into());
        service
    }

    fn v4(address: [u8; 4], interface: &str) -> ScopedIp {
        let interface = InterfaceId { name: interface.into(), index: 1 };
        ScopedIp::V4(ScopedIpV4::new(Ipv4Addr::from(address), interface))
    }

    #[test]
    fn what_one_till_announces_another_reads() {
        let config = config();
        let found = read(&resolved(&config), &config.store.short_hash()).unwrap();
        assert_eq!(
            found,
            Found {
                key: format!("POSPlus-caisse1.{SERVICE_TYPE}"),
                pos_id: Some("POS-001".into()),
                till: Some(config.till),
                store: Some(config.store.short_hash()),
                proto: Some(1),
                kin: Kin::OurStore,
                addresses: vec![SocketAddr::from(([192, 168, 1, 5], 3030))],
            }
        );
        assert_eq!(read(&resolved(&config), "00000000").unwrap().kin, Kin::OtherStore);
    }

    #[test]
    fn a_service_of_posplus_is_told_by_the_missing_protocol() {
        let txt = [("id", "POS-002"), ("version", "1.0.0")];
        let info = ServiceInfo::new(SERVICE_TYPE, "POSPlus-x", "x.local.", "192.168.1.6", 3030, &txt[..]).unwrap();
        let found = read(&info.as_resolved_service(), "00000000").unwrap();
        assert_eq!((found.kin, found.proto, found.till), (Kin::Posplus, None, None));
        assert_eq!(found.pos_id.as_deref(), Some("POS-002"));
    }

    #[test]
    fn names_fit_into_labels_whatever_the_config_says() {
        for (instance, hostname) in [
            ("", ""),
            ("Caisse n° 1 \u{7}", "..."),
            (&*"é".repeat(100), &*"a".repeat(100)),
            ("مقهى", "مقهى"),
            (&*"x".repeat(1000), "caisse1.lan"),
        ] {
            let config = DiscoveryConfig { instance: instance.into(), hostname: hostname.into(), ..config() };
            let info = announcement(&config, Naming::Given, 3030).unwrap();
            let name = info.get_fullname().strip_suffix(&format!(".{SERVICE_TYPE}")).unwrap();
            assert!((1..=INSTANCE_BYTES_MAX).contains(&name.len()), "{name:?}");
            assert!(!name.contains(char::is_control), "{name:?}");
            let host = info.get_hostname().strip_suffix("-abababab.local.").unwrap();
            assert!(host.len() <= HOSTNAME_BYTES_MAX && !host.starts_with('-'), "{host:?}");
            let distinct = announcement(&config, Naming::Distinct, 3030).unwrap();
            assert_eq!(distinct.get_fullname(), format!("{name} (abab).{SERVICE_TYPE}"));
            assert!(host.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'), "{host:?}");
        }
    }

    #[test]
    fn long_and_dirty_txt_values_are_cut() {
        let config = DiscoveryConfig { pos_id: format!("A\r\n{}", "é".repeat(500)), ..config() };
        let pos_id = read(&resolved(&config), "").unwrap().pos_id.unwrap();
        assert!(pos_id.starts_with("Aéé") && pos_id.len() <= TXT_VALUE_BYTES_MAX, "{pos_id:?}");
    }

    #[test]
    fn addresses_come_in_the_order_of_trying() {
        let global: IpAddr = "2001:db8::1".parse().unwrap();
        let unscoped: IpAddr = "fe80::1".parse().unwrap();
        let table: &[(&str, Vec<ScopedIp>, &[&str])] = &[
            ("nothing", vec![], &[]),
            ("IPv4 before IPv6", vec![global.into(), v4([10, 0, 0, 1], "eth0")], &["10.0.0.1:9", "[2001:db8::1]:9"]),
            (
                "a lease before none",
                vec![v4([169, 254, 1, 1], "eth0"), v4([192, 168, 1, 1], "eth0")],
                &["192.168.1.1:9", "169.254.1.1:9"],
            ),
            ("link-local IPv6 without a link", vec![unscoped.into()], &[]),
            ("this machine alone", vec![v4([127, 0, 0, 1], "lo")], &["127.0.0.1:9"]),
            ("loopback is not needed", vec![v4([127, 0, 0, 1], "lo"), v4([10, 0, 0, 1], "eth0")], &["10.0.0.1:9"]),
            ("loopback from afar is a lie", vec![v4([127, 0, 0, 1], "eth0")], &[]),
            ("nobody's", vec![v4([0; 4], "eth0"), v4([224, 0, 0, 251], "eth0"), v4([255; 4], "eth0")], &[]),
        ];
        for (name, addresses, wanted) in table {
            let got: Vec<String> = dialable(addresses, 9).iter().map(ToString::to_string).collect();
            assert_eq!(got, *wanted, "{name}");
            assert_eq!(dialable(addresses, 0), [], "{name}, without a port");
        }
    }
}
