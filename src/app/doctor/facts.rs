//! What the doctor knows, as plain data: it goes from the agent to the command line as JSON. A field that the other side does not know is
//! at its default.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

/// Everything.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(in super::super) struct Facts {
    /// What the agent knows; none where no agent answers.
    pub(in super::super) agent: Option<AgentFacts>,
    /// Why no agent answers.
    pub(in super::super) absence: Option<String>,
    pub(in super::super) system: SystemFacts,
}

/// What the agent knows.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(in super::super) struct AgentFacts {
    pub(in super::super) running_ms: u64,
    /// Whether the till links with others.
    pub(in super::super) enabled: bool,
    pub(in super::super) discovery_enabled: bool,
    /// The port on which it listens for other tills, if it does.
    pub(in super::super) listening: Option<u16>,
    pub(in super::super) alerts: Vec<AlertFact>,
    pub(in super::super) peers: Vec<PeerFacts>,
    /// Whether POSPlus is let in (`posplus.enabled`).
    pub(in super::super) posplus_enabled: bool,
    /// From where (`posplus.allow`).
    pub(in super::super) posplus_allow: Vec<IpAddr>,
    /// POSPlus tills that are connected, or announce themselves.
    pub(in super::super) posplus: Vec<PosplusFacts>,
    /// Who was refused lately.
    pub(in super::super) posplus_refused: Vec<PosplusRefused>,
}

/// A POSPlus till.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(in super::super) struct PosplusFacts {
    /// Its posId.
    pub(in super::super) id: String,
    /// What people call it.
    pub(in super::super) name: String,
    pub(in super::super) address: Option<SocketAddr>,
    pub(in super::super) online: bool,
    /// What came of the last try to connect.
    pub(in super::super) detail: Option<String>,
}

/// A connection as POSPlus makes it, that was refused.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in super::super) struct PosplusRefused {
    pub(in super::super) address: IpAddr,
    /// As the counters of the mesh call it.
    pub(in super::super) cause: String,
    pub(in super::super) seconds_ago: u64,
}

/// A raised alert.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(in super::super) struct AlertFact {
    pub(in super::super) code: String,
    pub(in super::super) subject: String,
    pub(in super::super) detail: String,
}

/// Another till, or an address where one should be.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(in super::super) struct PeerFacts {
    /// What people call it.
    pub(in super::super) name: String,
    /// Its id, where it is known.
    pub(in super::super) till: Option<String>,
    /// Where it is linked, or was found.
    pub(in super::super) addresses: Vec<SocketAddr>,
    pub(in super::super) linked: bool,
    /// Whether mDNS has heard it.
    pub(in super::super) heard: bool,
}

/// What the system tells.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(in super::super) struct SystemFacts {
    /// The port for other tills, by the config.
    pub(in super::super) mesh_port: u16,
    /// The port of the local API, by the config.
    pub(in super::super) api_port: u16,
    /// Programs that listen on one of them.
    pub(in super::super) holders: Vec<Holder>,
    pub(in super::super) networks: Vec<Network>,
    pub(in super::super) probes: Vec<Probe>,
    pub(in super::super) firewall: Firewall,
    /// What is left of the data's disk, in bytes.
    pub(in super::super) disk_bytes_free: Option<u64>,
    /// Whether the system's clock is past this version's release.
    pub(in super::super) clock_sane: bool,
}

/// A program that listens on a port.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(in super::super) struct Holder {
    pub(in super::super) port: u16,
    /// None where this user may not see it.
    pub(in super::super) pid: Option<u32>,
    pub(in super::super) program: Option<String>,
}

/// A network that this till is in.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in super::super) struct Network {
    pub(in super::super) interface: String,
    pub(in super::super) address: IpAddr,
    pub(in super::super) prefix: u8,
}

/// What came of dialling an address.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in super::super) struct Probe {
    pub(in super::super) address: SocketAddr,
    pub(in super::super) outcome: Outcome,
    /// Whether the box answers on the network itself (ARP); none where the system does not tell.
    pub(in super::super) neighbour: Option<bool>,
}

/// How a dial ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in super::super) enum Outcome {
    Connected,
    /// The box says that nothing listens, or its firewall rejects.
    Refused,
    /// No answer.
    Silent,
    /// A firewall on the way, or the box's own, says so.
    Prohibited,
    /// No way there.
    Unreachable,
}

/// What this box's own firewall does with the port for other tills.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in super::super) enum Firewall {
    /// This user may not see its rules.
    #[default]
    Unknown,
    Open,
    /// By this table and chain.
    Closed(String),
}

impl Network {
    pub(super) fn contains(&self, ip: IpAddr) -> bool {
        let bits = |ip: IpAddr| match ip {
            IpAddr::V4(ip) => (u128::from(ip.to_bits()) << 96, 32),
            IpAddr::V6(ip) => (ip.to_bits(), 128),
        };
        let ((own, width), (other, other_width)) = (bits(self.address), bits(ip.to_canonical()));
        let kept = u32::from(self.prefix).min(width);
        width == other_width && kept > 0 && (own ^ other) >> (128 - kept) == 0
    }
}
