//! What the board tells, as alerts and status.

use super::super::alerts::Code;
use super::super::board::Report;
use super::Driver;
use crate::api::BoardStatus;
use crate::board::Board;

impl Driver {
    /// Which board this is, once and for all.
    pub(super) fn know_board(&mut self, board: Board) {
        let problems = (!board.problems.is_empty()).then(|| board.problems.join("; "));
        self.set_alert(Code::BoardProfile, "", problems);
        self.base.board =
            BoardStatus { name: board.profile.name, profile: board.file, model: board.model, ..BoardStatus::default() };
    }

    pub(super) fn on_board(&mut self, report: Report) {
        let Report { seen, readings, ills, update } = report;
        let alerts = [
            (Code::LedMissing, seen.missing),
            (Code::OverTemperature, ills.hot),
            (Code::Undervoltage, ills.undervoltage),
            (Code::DiskNearlyFull, ills.full),
            (Code::DiskReadOnly, ills.read_only),
            (Code::DiskFailing, ills.worn),
            (Code::UpdateFailed, update),
        ];
        for (code, cause) in alerts {
            self.set_alert(code, "", cause);
        }
        let known = std::mem::take(&mut self.base.board);
        self.base.board = BoardStatus {
            led: seen.place,
            temperature_celsius: readings.celsius.map(|celsius| (celsius * 10.0).round() / 10.0),
            undervoltage: readings.undervoltage,
            card_used_percent: readings.card_used_percent,
            disk_bytes_free: readings.space.map(|space| space.free),
            disk_bytes: readings.space.map(|space| space.total),
            disk_read_only: readings.read_only,
            watchdog: readings.watchdog,
            battery_clock: readings.rtc,
            ..known
        };
    }
}
