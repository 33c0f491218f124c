//! Alerts: what a person should know and do. Pure: time is an argument.
//!
//! A cause is reported whenever it is looked at ([`Alerts::set`]); the alert is raised once the cause has lasted as long as its code asks,
//! and cleared when the cause is gone.

mod history;
mod texts;

use std::collections::BTreeMap;

use crate::api;

pub(super) use history::History;

/// What an alert is about.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) enum Code {
    Disconnected,
    PeerUnreachable,
    PortInUse,
    MulticastBlocked,
    ClockUntrusted,
    PeerClockAhead,
    Fork,
    Clone,
    Divergence,
    StoreDamaged,
    StoreFault,
    CurrencyMismatch,
    WrongStoreKey,
    VersionTooOld,
    OpsHeld,
    ConfigDamaged,
    ConfigInvalid,
    StoreKeyExposed,
    DiskNearlyFull,
    DiskReadOnly,
    DiskFailing,
    Undervoltage,
    OverTemperature,
    LedMissing,
    BoardProfile,
    BoxSetup,
    UnauthenticatedPeer,
}

/// How pressing an alert is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Severity {
    Warning,
    Critical,
}

/// The texts of an alert.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Texts {
    pub(super) en: &'static str,
    pub(super) fr: &'static str,
    pub(super) ar: &'static str,
}

/// A raised alert.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Alert {
    pub(super) code: Code,
    /// Which peer or file, where there can be several.
    pub(super) subject: String,
    /// When its cause began, in milliseconds since 1970.
    pub(super) since_ms: u64,
    /// The cause in its own words.
    pub(super) detail: String,
}

#[derive(Debug)]
struct Cause {
    began: u64,
    since_ms: u64,
    detail: String,
}

/// All causes at work.
#[derive(Debug, Default)]
pub(super) struct Alerts {
    causes: BTreeMap<(Code, String), Cause>,
}

/// The most causes kept: more of one kind than tills in any store says nothing new.
const CAUSES_MAX: usize = 256;

impl Code {
    /// The name in the API.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Disconnected => "disconnected",
            Self::PeerUnreachable => "peerUnreachable",
            Self::PortInUse => "portInUse",
            Self::MulticastBlocked => "multicastBlocked",
            Self::ClockUntrusted => "clockUntrusted",
            Self::PeerClockAhead => "peerClockAhead",
            Self::Fork => "fork",
            Self::Clone => "clone",
            Self::Divergence => "divergence",
            Self::StoreDamaged => "storeDamaged",
            Self::StoreFault => "storeFault",
            Self::CurrencyMismatch => "currencyMismatch",
            Self::WrongStoreKey => "wrongStoreKey",
            Self::VersionTooOld => "versionTooOld",
            Self::OpsHeld => "opsHeld",
            Self::ConfigDamaged => "configDamaged",
            Self::ConfigInvalid => "configInvalid",
            Self::StoreKeyExposed => "storeKeyExposed",
            Self::DiskNearlyFull => "diskNearlyFull",
            Self::DiskReadOnly => "diskReadOnly",
            Self::DiskFailing => "diskFailing",
            Self::Undervoltage => "undervoltage",
            Self::OverTemperature => "overTemperature",
            Self::LedMissing => "ledMissing",
            Self::BoardProfile => "boardProfile",
            Self::BoxSetup => "boxSetup",
            Self::UnauthenticatedPeer => "unauthenticatedPeer",
        }
    }

    /// The one of a name.
    pub(super) fn named(name: &str) -> Option<Self> {
        texts::TEXTS.iter().map(|(code, _)| *code).find(|code| code.name() == name)
    }

    pub(super) fn severity(self) -> Severity {
        match self {
            Self::PortInUse
            | Self::Fork
            | Self::Divergence
            | Self::StoreDamaged
            | Self::StoreFault
            | Self::CurrencyMismatch
            | Self::ConfigDamaged
            | Self::DiskReadOnly
            | Self::DiskFailing
            | Self::BoxSetup => Severity::Critical,
            _ => Severity::Warning,
        }
    }

    /// How long the cause lasts before the alert is raised, in milliseconds.
    fn delay_ms(self) -> u64 {
        match self {
            Self::Disconnected => 60_000,
            Self::PeerUnreachable => 300_000,
            Self::MulticastBlocked => 30_000,
            // While a box starts, its LED appears late.
            Self::LedMissing => 15_000,
            _ => 0,
        }
    }

    /// What it is and what to do.
    pub(super) fn texts(self) -> &'static Texts {
        let entry = texts::TEXTS.iter().find(|(code, _)| *code == self);
        &entry.expect("each code has its texts: tested").1
    }
}

/// How pressing it is, as the API tells it.
pub(super) fn tell_severity(severity: Severity) -> api::Severity {
    match severity {
        Severity::Warning => api::Severity::Warning,
        Severity::Critical => api::Severity::Critical,
    }
}

impl Alerts {
    /// Says whether a cause is at work. `now` is monotonic, `wall_ms` since 1970; both in milliseconds.
    pub(super) fn set(&mut self, now: u64, wall_ms: u64, code: Code, subject: &str, cause: Option<String>) {
        let key = (code, subject.to_owned());
        match cause {
            None => {
                self.causes.remove(&key);
            }
            Some(detail) if self.causes.len() < CAUSES_MAX || self.causes.contains_key(&key) => {
                let fresh = Cause { began: now, since_ms: wall_ms, detail: String::new() };
                self.causes.entry(key).or_insert(fresh).detail = detail;
            }
            Some(_) => {}
        }
    }

    /// Whether a cause of a code is at work.
    pub(super) fn is_set(&self, code: Code) -> bool {
        self.causes.keys().any(|(c, _)| *c == code)
    }

    /// Forgets causes of a code whose subject is not among those that still are.
    pub(super) fn keep(&mut self, code: Code, still: impl Fn(&str) -> bool) {
        self.causes.retain(|(c, subject), _| *c != code || still(subject));
    }

    /// The alerts that are raised.
    pub(super) fn raised(&self, now: u64) -> Vec<Alert> {
        let lasting = self.causes.iter().filter(|((code, _), c)| now >= c.began + code.delay_ms());
        lasting
            .map(|((code, subject), c)| Alert {
                code: *code,
                subject: subject.clone(),
                since_ms: c.since_ms,
                detail: c.detail.clone(),
            })
            .collect()
    }

    /// When the next alert is raised, if its cause stays.
    pub(super) fn next(&self, now: u64) -> Option<u64> {
        self.causes.iter().map(|((code, _), c)| c.began + code.delay_ms()).filter(|at| *at > now).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Code; 27] = [
        Code::Disconnected,
        Code::PeerUnreachable,
        Code::PortInUse,
        Code::MulticastBlocked,
        Code::ClockUntrusted,
        Code::PeerClockAhead,
        Code::Fork,
        Code::Clone,
        Code::Divergence,
        Code::StoreDamaged,
        Code::StoreFault,
        Code::CurrencyMismatch,
        Code::WrongStoreKey,
        Code::VersionTooOld,
        Code::OpsHeld,
        Code::ConfigDamaged,
        Code::ConfigInvalid,
        Code::StoreKeyExposed,
        Code::DiskNearlyFull,
        Code::DiskReadOnly,
        Code::DiskFailing,
        Code::Undervoltage,
        Code::OverTemperature,
        Code::LedMissing,
        Code::BoardProfile,
        Code::BoxSetup,
        Code::UnauthenticatedPeer,
    ];

    #[test]
    fn disconnected_is_raised_after_a_minute_exactly_and_cleared_at_once() {
        let mut alerts = Alerts::default();
        alerts.set(1_000, 5, Code::Disconnected, "", Some(String::new()));
        alerts.set(30_000, 6, Code::Disconnected, "", Some("cable".into()));
        assert!(alerts.raised(60_999).is_empty());
        assert_eq!(alerts.next(60_999), Some(61_000));
        let raised = alerts.raised(61_000);
        assert_eq!((raised.len(), raised[0].since_ms, raised[0].detail.as_str()), (1, 5, "cable"));
        alerts.set(61_001, 7, Code::Disconnected, "", None);
        assert!(alerts.raised(u64::MAX).is_empty());
    }

    #[test]
    fn a_peer_is_unreachable_after_five_minutes_and_forgotten_with_the_peer() {
        let mut alerts = Alerts::default();
        alerts.set(0, 0, Code::PeerUnreachable, "a", Some(String::new()));
        alerts.set(0, 0, Code::PeerUnreachable, "b", Some(String::new()));
        assert_eq!(alerts.raised(299_999).len(), 0);
        assert_eq!(alerts.raised(300_000).len(), 2);
        alerts.keep(Code::PeerUnreachable, |subject| subject == "b");
        assert_eq!(alerts.raised(300_000).len(), 1);
    }

    #[test]
    fn each_code_has_its_texts() {
        for code in ALL {
            let texts = code.texts();
            assert!([texts.en, texts.fr, texts.ar].iter().all(|t| t.len() > 20), "{code:?}");
        }
        assert_eq!(texts::TEXTS.len(), ALL.len());
    }

    #[test]
    fn causes_are_bounded() {
        let mut alerts = Alerts::default();
        for i in 0..10_000 {
            alerts.set(0, 0, Code::WrongStoreKey, &i.to_string(), Some(String::new()));
        }
        assert_eq!(alerts.raised(0).len(), CAUSES_MAX);
    }
}
