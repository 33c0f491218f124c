//! What the system's clock says, and what that is worth.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::model::clock::ClockQuality;
use crate::store::Now;

/// No till runs this version before it was released: 2026-11-22. A system clock that says less was never set.
pub(super) const RELEASED_MS: u64 = 1_795_305_600_000;

/// There once systemd-timesyncd has set the clock since the boot.
const SYNCHRONISED: &str = "/run/systemd/timesync/synchronized";
/// There where a clock runs on while the power is off.
const HARDWARE_CLOCK: &str = "/sys/class/rtc/rtc0";
/// There on boards, which often have no such clock; a PC always has one, seen or not.
const DEVICE_TREE: &str = "/proc/device-tree";

/// Something keeps or sets this machine's clock.
static KEPT: AtomicBool = AtomicBool::new(false);

/// The time now. At least [`RELEASED_MS`]: the store's own clock then keeps it growing.
pub(super) fn now() -> Now {
    let wall_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(0));
    let is_there = |path: &str| Path::new(path).exists();
    now_from(wall_ms, || once(&KEPT, || is_there(SYNCHRONISED) || is_there(HARDWARE_CLOCK) || !is_there(DEVICE_TREE)))
}

/// Whether something has been so since the start: a clock that was once set is not unset before the next boot. The time is asked many times
/// for each sale.
fn once(known: &AtomicBool, is_so: impl FnOnce() -> bool) -> bool {
    known.load(Ordering::Relaxed) || {
        let found = is_so();
        known.store(found, Ordering::Relaxed);
        found
    }
}

fn now_from(wall_ms: u64, kept: impl FnOnce() -> bool) -> Now {
    let sane = wall_ms >= RELEASED_MS;
    let quality = if sane && kept() { ClockQuality::Trusted } else { ClockQuality::Untrusted };
    Now { wall_ms: wall_ms.max(RELEASED_MS), quality }
}

/// Milliseconds since the agent started, by the monotonic clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Uptime(Instant);

impl Uptime {
    pub(super) fn start() -> Self {
        Self(Instant::now())
    }

    pub(super) fn ms(self) -> u64 {
        u64::try_from(self.0.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub(super) fn at(self, ms: u64) -> Instant {
        self.0 + std::time::Duration::from_millis(ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_never_set_is_not_trusted() {
        assert_eq!(now_from(0, || true), Now { wall_ms: RELEASED_MS, quality: ClockQuality::Untrusted });
        let later = RELEASED_MS + 1;
        assert_eq!(now_from(later, || false), Now { wall_ms: later, quality: ClockQuality::Untrusted });
        assert_eq!(now_from(later, || true), Now { wall_ms: later, quality: ClockQuality::Trusted });
    }

    #[test]
    fn what_was_so_once_is_not_asked_again() {
        let known = AtomicBool::new(false);
        assert!(!once(&known, || false) && once(&known, || true));
        assert!(once(&known, || panic!("asked again")));
    }
}
