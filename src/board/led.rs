//! What the status LED says: one state, decided from a few facts. Pure.

/// The state of a till as its LED shows it, the most pressing first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LedState {
    /// Sales cannot be stored, or the till cannot be reached.
    Fault,
    /// The agent is starting.
    Starting,
    /// P2P is turned off.
    Disabled,
    /// The store has this till alone: no alarm.
    Solo,
    /// The store has other tills, and none is linked.
    Alone,
    /// Some tills of the store are linked.
    Partial,
    /// All are linked, and this till lacks something that they have.
    Syncing,
    /// All are linked, and this till has all that they have.
    Connected,
}

/// What the state is decided from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Facts {
    /// The agent has started.
    pub started: bool,
    /// The store does not store, or the port is taken.
    pub fault: bool,
    /// P2P is on.
    pub enabled: bool,
    /// Other tills of the roster.
    pub others: usize,
    /// Those of them that are linked.
    pub linked: usize,
    /// Ops that linked tills have and this one lacks.
    pub behind: u64,
}

impl LedState {
    /// All, the most pressing first.
    pub const ALL: [Self; 8] = [
        Self::Fault,
        Self::Starting,
        Self::Disabled,
        Self::Solo,
        Self::Alone,
        Self::Partial,
        Self::Syncing,
        Self::Connected,
    ];

    /// Reads its name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }

    /// How well the till is: less is worse. What somebody has chosen is as well as can be.
    #[must_use]
    pub fn wellness(self) -> u8 {
        match self {
            Self::Fault => 0,
            Self::Starting => 1,
            Self::Alone => 2,
            Self::Partial => 3,
            Self::Syncing => 4,
            Self::Disabled | Self::Solo | Self::Connected => 5,
        }
    }

    /// The name in the API and in a board's file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Fault => "fault",
            Self::Starting => "starting",
            Self::Disabled => "disabled",
            Self::Solo => "solo",
            Self::Alone => "alone",
            Self::Partial => "partial",
            Self::Syncing => "syncing",
            Self::Connected => "connected",
        }
    }

    /// The state for these facts.
    #[must_use]
    pub fn of(facts: Facts) -> Self {
        match facts {
            Facts { fault: true, .. } => Self::Fault,
            Facts { started: false, .. } => Self::Starting,
            Facts { enabled: false, .. } => Self::Disabled,
            Facts { others: 0, linked: 0, .. } => Self::Solo,
            Facts { linked: 0, .. } => Self::Alone,
            Facts { others, linked, .. } if linked < others => Self::Partial,
            Facts { behind: 1.., .. } => Self::Syncing,
            _ => Self::Connected,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_pressing_is_shown() {
        let well = Facts { started: true, fault: false, enabled: true, others: 2, linked: 2, behind: 0 };
        let cases = [
            (well, LedState::Connected),
            (Facts { behind: 1, ..well }, LedState::Syncing),
            (Facts { linked: 1, behind: 1, ..well }, LedState::Partial),
            (Facts { linked: 0, ..well }, LedState::Alone),
            (Facts { linked: 0, others: 0, ..well }, LedState::Solo),
            (Facts { enabled: false, linked: 0, ..well }, LedState::Disabled),
            (Facts { started: false, ..well }, LedState::Starting),
            (Facts { started: false, fault: true, ..well }, LedState::Fault),
        ];
        for (facts, state) in cases {
            assert_eq!(LedState::of(facts), state, "{facts:?}");
        }
    }
}
