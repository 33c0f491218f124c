//! The files that the system reads, as a till's config has them. Pure.

use std::fmt::Write as _;
use std::net::IpAddr;

use crate::config::{Config, Network, Wifi};

/// A file to be written, below the system's root.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BoxFile {
    pub(super) path: String,
    pub(super) mode: u32,
    pub(super) text: String,
}

/// The port of the ssh daemon, which runs where there is a key.
const SSH_PORT: u16 = 22;

/// All files of a till.
pub(super) fn of(config: &Config) -> Vec<BoxFile> {
    let file = |path: &str, mode, text| BoxFile { path: path.to_owned(), mode, text };
    let mut files = vec![file("run/tillmesh-box/nftables/till.nft", 0o644, firewall(config))];
    if let Some(network) = network(config) {
        files.push(file("run/systemd/network/70-tillmesh.network", 0o644, network));
    }
    if !config.system.ssh_keys.is_empty() {
        let keys: String = config.system.ssh_keys.iter().map(|key| format!("{}\n", key.as_str())).collect();
        files.push(file("run/tillmesh-box/ssh/authorized_keys", 0o600, keys));
    }
    if let Some(wifi) = &config.system.wifi {
        files.push(file("run/tillmesh-box/wifi.conf", 0o600, wpa(wifi)));
    }
    files
}

/// Fills the sets of `config/nftables.conf`.
fn firewall(config: &Config) -> String {
    let mut text = elements("mesh_ports", &[config.p2p.port]);
    if !config.api.listen.ip().is_loopback() {
        text += &elements("api_ports", &[config.api.listen.port()]);
    }
    if !config.system.ssh_keys.is_empty() {
        text += &elements("ssh_ports", &[SSH_PORT]);
    }
    let (mut v4, mut v6): (Vec<IpAddr>, Vec<IpAddr>) =
        config.peers.iter().filter_map(|peer| peer.host.parse::<IpAddr>().ok()).partition(IpAddr::is_ipv4);
    for (name, addresses) in [("peers4", &mut v4), ("peers6", &mut v6)] {
        addresses.sort_unstable();
        addresses.dedup();
        text += &elements(name, addresses);
    }
    text
}

fn elements<T: ToString>(set: &str, items: &[T]) -> String {
    if items.is_empty() {
        return String::new();
    }
    let items: Vec<String> = items.iter().map(ToString::to_string).collect();
    format!("add element inet tillmesh {set} {{ {} }}\n", items.join(", "))
}

/// A static address, with its conflict detection (RFC 5227); the image's own files ask the router. It is the radio's where a Wi-Fi
/// is given, else the cable's.
fn network(config: &Config) -> Option<String> {
    let Network::Static { address, gateway, dns } = &config.network else { return None };
    let kind = if config.system.wifi.is_some() { "wlan" } else { "ether" };
    let mut text = format!(
        "[Match]\nType={kind}\n\n[Network]\nLinkLocalAddressing=ipv6\nIPv6AcceptRA=yes\nMulticastDNS=no\nLLMNR=no\n"
    );
    for server in dns {
        // Writing to a text cannot fail, here and below.
        let _ = writeln!(text, "DNS={server}");
    }
    let _ = write!(
        text,
        "\n[Address]\nAddress={address}\nDuplicateAddressDetection=ipv4\nNFTSet=prefix:inet:tillmesh:local4\n"
    );
    if let Some(gateway) = gateway {
        let _ = write!(text, "\n[Route]\nGateway={gateway}\n");
    }
    text += "\n[IPv6AcceptRA]\nNFTSet=prefix:inet:tillmesh:local6\n";
    Some(text)
}

/// For wpa_supplicant. The name is in hex, since it may hold anything.
fn wpa(wifi: &Wifi) -> String {
    let ssid: String = wifi.ssid.as_str().bytes().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    });
    let access = match &wifi.passphrase {
        None => "key_mgmt=NONE".to_owned(),
        Some(key) if key.is_raw_key() => format!("psk={}\n\tkey_mgmt=WPA-PSK", key.as_str()),
        // Its quotes are the first and the last of the line: one within needs no escape.
        Some(words) => format!("psk=\"{}\"\n\tkey_mgmt=WPA-PSK SAE\n\tieee80211w=1", words.as_str()),
    };
    format!(
        "country={}\nupdate_config=0\nnetwork={{\n\tssid={ssid}\n\tscan_ssid=1\n\t{access}\n}}\n",
        wifi.country.as_str()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ConfigManager, DataDir};

    /// The files of a till whose config holds these members beside its identity.
    fn files(more: &str) -> Vec<BoxFile> {
        let place = tempfile::tempdir().unwrap();
        let folder = DataDir::resolve(Some(place.path()), |_| None).unwrap();
        let text = format!("{{\"posId\": \"POS-1\"{more}}}");
        std::fs::write(folder.config(), text).unwrap();
        of(&ConfigManager::peek(&folder).unwrap().unwrap())
    }

    fn text<'a>(files: &'a [BoxFile], path: &str) -> &'a str {
        &files.iter().find(|file| file.path.ends_with(path)).unwrap().text
    }

    #[test]
    fn a_plain_till_opens_the_mesh_alone() {
        let files = files("");
        assert_eq!(files.len(), 1);
        assert_eq!(text(&files, "till.nft"), "add element inet tillmesh mesh_ports { 3030 }\n");
    }

    #[test]
    fn ports_and_peers_of_the_config_are_opened() {
        let key = format!("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{}", "b".repeat(43));
        let files = files(&format!(
            r#", "p2p": {{"port": 5000}}, "api": {{"listen": "0.0.0.0:3031", "plaintext": true}}, "ssh": {{"keys": ["{key}"]}},
               "peers": ["10.2.0.9", "till-2.local", "10.2.0.9:3031", "[fd00::7]:3030"]"#
        ));
        let rules = text(&files, "till.nft");
        for line in [
            "mesh_ports { 5000 }",
            "api_ports { 3031 }",
            "ssh_ports { 22 }",
            "peers4 { 10.2.0.9 }",
            "peers6 { fd00::7 }",
        ] {
            assert!(rules.contains(line), "{line}: {rules}");
        }
        assert_eq!(text(&files, "authorized_keys"), format!("{key}\n"));
    }

    #[test]
    fn a_static_address_is_defended() {
        let fixed = r#", "network": {"mode": "static", "address": "192.168.1.23/24", "gateway": "192.168.1.1", "dns": ["192.168.1.1"]}"#;
        let files = files(fixed);
        let network = text(&files, "70-tillmesh.network");
        for line in [
            "Type=ether",
            "Address=192.168.1.23/24",
            "DuplicateAddressDetection=ipv4",
            "Gateway=192.168.1.1",
            "DNS=192.168.1.1",
        ] {
            assert!(network.contains(line), "{line}: {network}");
        }
    }

    #[test]
    fn wifi_is_written_so_that_no_name_or_word_breaks_out() {
        let wifi = r#", "country": "TN", "network": {"wifi": {"ssid": "Café \"1\"", "passphrase": "a\"b}c d!e"}}"#;
        let files = files(wifi);
        let conf = text(&files, "wifi.conf");
        assert!(conf.contains("ssid=436166c3a920223122\n") && conf.contains("psk=\"a\"b}c d!e\"\n"), "{conf}");
        assert!(conf.starts_with("country=TN\n"));
        assert_eq!(files.iter().find(|file| file.path.ends_with("wifi.conf")).unwrap().mode, 0o600);
    }
}
