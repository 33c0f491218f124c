//! Why the agent starts: what its last run left behind, and whether the box has started since.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::api::BootReason;

/// The note under which the database keeps the present run.
pub(super) const RUN_NOTE: &str = "run";
/// `WDIOF_CARDRESET` of a watchdog's `bootstatus`: it has reset the box (include/uapi/linux/watchdog.h).
const CARD_RESET: u32 = 0x20;

/// A run of the agent.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Run {
    /// The kernel's start: random, made anew at each.
    kernel: Option<String>,
    /// Whether it was ended in order.
    stopped: bool,
}

impl Run {
    /// The one that begins.
    pub(super) fn begins() -> Self {
        let kernel = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok();
        Self { kernel: kernel.map(|id| id.trim().to_owned()), stopped: false }
    }

    /// The same, ended in order.
    pub(super) fn stopped(&self) -> Self {
        Self { stopped: true, ..self.clone() }
    }

    pub(super) fn to_note(&self) -> String {
        serde_json::to_string(self).expect("plain data serialises")
    }

    /// Why it begins, by the note of the last one.
    pub(super) fn reason(&self, last: Option<&str>) -> BootReason {
        let Some(last) = last.and_then(|note| serde_json::from_str::<Self>(note).ok()) else {
            return BootReason::First;
        };
        match (last.kernel == self.kernel, last.stopped) {
            (true, true) => BootReason::Restart,
            (true, false) => BootReason::Crash,
            (false, _) if watchdog_has_reset(Path::new("/")) => BootReason::Watchdog,
            (false, true) => BootReason::Reboot,
            (false, false) => BootReason::PowerCut,
        }
    }
}

fn watchdog_has_reset(root: &Path) -> bool {
    let status = fs::read_to_string(root.join("sys/class/watchdog/watchdog0/bootstatus"));
    status.ok().and_then(|text| text.trim().parse::<u32>().ok()).is_some_and(|bits| bits & CARD_RESET != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_last_run_left_tells_why() {
        let run = |kernel: &str, stopped| Run { kernel: Some(kernel.to_owned()), stopped };
        let now = run("b", false);
        for (last, reason) in [
            (run("b", true), BootReason::Restart),
            (run("b", false), BootReason::Crash),
            (run("a", true), BootReason::Reboot),
            (run("a", false), BootReason::PowerCut),
        ] {
            assert_eq!(now.reason(Some(&last.to_note())), reason);
        }
        assert_eq!((now.reason(None), now.reason(Some("?"))), (BootReason::First, BootReason::First));
        assert!(Run::begins().stopped().stopped);
    }

    #[test]
    fn a_watchdog_tells_of_its_reset() {
        let root = tempfile::tempdir().unwrap();
        assert!(!watchdog_has_reset(root.path()));
        let folder = root.path().join("sys/class/watchdog/watchdog0");
        fs::create_dir_all(&folder).unwrap();
        for (status, reset) in [("0\n", false), ("32\n", true), ("33\n", true)] {
            fs::write(folder.join("bootstatus"), status).unwrap();
            assert_eq!(watchdog_has_reset(root.path()), reset, "{status}");
        }
    }
}
