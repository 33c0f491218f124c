//! Alerts: what a person should know and do. Pure: time is an argument.
//!
//! A cause is reported whenever it is looked at ([`Alerts::set`]); the alert is raised once the cause has lasted as long as its code asks,
//! and cleared when the cause is gone; where causes come and go by themselves, as links do, when it has been gone for as long as its code
//! asks. A cause that comes back before has never gone. What is only ever seen to happen, as a refusal is, stands for that long
//! ([`Alerts::happened`]).

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
    UpdateFailed,
    UnauthenticatedPeer,
    OverRefund,
    NegativeStock,
    PosplusStock,
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
    /// When it went.
    gone: Option<u64>,
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
            Self::UpdateFailed => "updateFailed",
            Self::UnauthenticatedPeer => "unauthenticatedPeer",
            Self::OverRefund => "overRefund",
            Self::NegativeStock => "negativeStock",
            Self::PosplusStock => "posplusStock",
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

    /// How long the cause has been gone before it counts as gone, in milliseconds. What the board measures has bounds of its own.
    fn linger_ms(self) -> u64 {
        match self {
            Self::Disconnected | Self::PeerUnreachable => 5_000,
            // Who is refused tries again, and is told of, within two minutes.
            Self::CurrencyMismatch | Self::WrongStoreKey | Self::VersionTooOld => 300_000,
            // A till whose clock is wrong may sell little.
            Self::PeerClockAhead => 3_600_000,
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
                if let Some(cause) = self.causes.get_mut(&key) {
                    cause.gone.get_or_insert(now);
                }
                self.causes.retain(|(code, _), cause| !cause.is_over(*code, now));
            }
            Some(detail) if self.causes.len() < CAUSES_MAX || self.causes.contains_key(&key) => {
                let fresh = || Cause { began: now, since_ms: wall_ms, detail: String::new(), gone: None };
                let cause = self.causes.entry(key).or_insert_with(fresh);
                if cause.is_over(code, now) {
                    *cause = fresh();
                }
                (cause.detail, cause.gone) = (detail, None);
            }
            Some(_) => {}
        }
    }

    /// Says that a cause was seen at work, and that nobody will say when it is gone.
    pub(super) fn happened(&mut self, now: u64, wall_ms: u64, code: Code, subject: &str, cause: String) {
        self.set(now, wall_ms, code, subject, Some(cause));
        self.set(now, wall_ms, code, subject, None);
    }

    /// Whether a cause of a code is at work, or not long gone.
    pub(super) fn is_set(&self, code: Code) -> bool {
        self.causes.keys().any(|(c, _)| *c == code)
    }

    /// Forgets causes of a code whose subject is not among those that still are.
    pub(super) fn keep(&mut self, code: Code, still: impl Fn(&str) -> bool) {
        self.causes.retain(|(c, subject), _| *c != code || still(subject));
    }

    /// The alerts that are raised.
    pub(super) fn raised(&self, now: u64) -> Vec<Alert> {
        let lasting = self.causes.iter().filter(|((code, _), cause)| cause.is_raised(*code, now));
        lasting
            .map(|((code, subject), c)| Alert {
                code: *code,
                subject: subject.clone(),
                since_ms: c.since_ms,
                detail: c.detail.clone(),
            })
            .collect()
    }

    /// When the next alert is raised, if its cause stays, or is cleared, if it does not come back.
    pub(super) fn next(&self, now: u64) -> Option<u64> {
        let turns = self.causes.iter().map(|((code, _), cause)| match cause.gone {
            Some(gone) => gone + code.linger_ms(),
            None => cause.began + code.delay_ms(),
        });
        turns.filter(|at| *at > now).min()
    }
}

impl Cause {
    fn is_over(&self, code: Code, now: u64) -> bool {
        self.gone.is_some_and(|gone| now >= gone + code.linger_ms())
    }

    /// One that went before it had lasted long enough is not raised while it lingers.
    fn is_raised(&self, code: Code, now: u64) -> bool {
        self.gone.unwrap_or(now) >= self.began + code.delay_ms() && !self.is_over(code, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Code; 31] = [
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
        Code::UpdateFailed,
        Code::UnauthenticatedPeer,
        Code::OverRefund,
        Code::NegativeStock,
        Code::PosplusStock,
    ];

    #[test]
    fn disconnected_is_raised_after_a_minute_exactly_and_cleared_when_the_link_holds() {
        let mut alerts = Alerts::default();
        alerts.set(1_000, 5, Code::Disconnected, "", Some(String::new()));
        alerts.set(30_000, 6, Code::Disconnected, "", Some("cable".into()));
        assert!(alerts.raised(60_999).is_empty());
        assert_eq!(alerts.next(60_999), Some(61_000));
        let raised = alerts.raised(61_000);
        assert_eq!((raised.len(), raised[0].since_ms, raised[0].detail.as_str()), (1, 5, "cable"));
        // A link that flaps does not clear it, and what it began with stays.
        for flap in 0..5 {
            alerts.set(61_001 + flap * 4_999, 7, Code::Disconnected, "", None);
            assert_eq!(alerts.raised(61_001 + flap * 4_999).len(), 1);
            alerts.set(61_002 + flap * 4_999, 8, Code::Disconnected, "", Some("cable".into()));
        }
        assert_eq!(alerts.raised(100_000)[0].since_ms, 5);
        alerts.set(100_000, 9, Code::Disconnected, "", None);
        assert_eq!((alerts.raised(104_999).len(), alerts.next(100_000)), (1, Some(105_000)));
        assert!(alerts.raised(105_000).is_empty());
        // The next one begins anew.
        alerts.set(106_000, 10, Code::Disconnected, "", Some(String::new()));
        assert!(alerts.raised(165_999).is_empty());
        assert_eq!(alerts.raised(166_000)[0].since_ms, 10);
    }

    #[test]
    fn a_cause_that_ended_too_early_is_never_raised() {
        let mut alerts = Alerts::default();
        alerts.set(0, 0, Code::PeerUnreachable, "a", Some(String::new()));
        alerts.set(299_999, 0, Code::PeerUnreachable, "a", None);
        assert!((299_999..=310_000).step_by(1_000).all(|now| alerts.raised(now).is_empty()));
        alerts.set(0, 0, Code::PortInUse, "", Some(String::new()));
        alerts.set(5, 0, Code::PortInUse, "", None);
        assert!(
            alerts.raised(5).is_empty() && !alerts.is_set(Code::PortInUse),
            "what does not flap is cleared at once"
        );
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
    fn what_happened_stands_until_it_has_not_happened_for_long() {
        let mut alerts = Alerts::default();
        let refused = |alerts: &mut Alerts, now| {
            alerts.happened(now, now, Code::WrongStoreKey, "10.0.0.9", "another key".into());
        };
        refused(&mut alerts, 0);
        refused(&mut alerts, 120_000);
        assert_eq!((alerts.raised(419_999).len(), alerts.next(120_000)), (1, Some(420_000)));
        assert_eq!((alerts.raised(419_999)[0].since_ms, alerts.raised(420_000).len()), (0, 0));
        refused(&mut alerts, 500_000);
        assert_eq!(alerts.raised(500_000)[0].since_ms, 500_000, "it begins anew");
        assert!(alerts.is_set(Code::WrongStoreKey));
        // It is linked: refused no more.
        alerts.keep(Code::WrongStoreKey, |subject| subject != "10.0.0.9");
        assert!(alerts.raised(500_000).is_empty() && !alerts.is_set(Code::WrongStoreKey));
        alerts.happened(600_000, 0, Code::PeerClockAhead, "Caisse 2", String::new());
        assert_eq!((alerts.raised(4_199_999).len(), alerts.raised(4_200_000).len()), (1, 0));
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
