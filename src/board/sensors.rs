//! What the board and its card tell of themselves. Read seldom, from small files of the kernel; nothing is written.

use std::path::{Path, PathBuf};

use super::profile::Profile;
use super::system::System;

/// One reading. `None` is what the board does not tell.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Readings {
    /// The processor's temperature, in °C.
    pub celsius: Option<f64>,
    /// Whether the voltage is too low.
    pub undervoltage: Option<bool>,
    /// How much of the card's life is used, in percent, rounded up to tens; 100 and more is beyond it.
    pub card_used_percent: Option<u8>,
    /// Whether the card has used up most of its spare blocks.
    pub card_worn: Option<bool>,
    /// What is left of the data folder's disk.
    pub space: Option<Space>,
    /// Whether the data folder's disk has turned read-only.
    pub read_only: Option<bool>,
    /// Whether the watchdog is armed: something would restart a box that hangs.
    pub watchdog: Option<bool>,
    /// Whether the battery clock is there.
    pub rtc: Option<bool>,
}

/// Room on a disk, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Space {
    /// For us.
    pub free: u64,
    /// In all.
    pub total: u64,
}

/// Reads a board's sensors.
#[derive(Clone, Debug)]
pub struct Sensors {
    system: System,
    profile: Profile,
    folder: PathBuf,
}

impl Sensors {
    /// `folder` is the data folder.
    #[must_use]
    pub fn new(system: System, profile: Profile, folder: &Path) -> Self {
        let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
        Self { system, profile, folder }
    }

    /// Reads all. It may wait for the disk.
    #[must_use]
    pub fn read(&self) -> Readings {
        let card = self.profile.card.as_ref().map(|block| format!("sys/class/block/{block}/device"));
        let of_card = |file: &str| self.system.text(&format!("{}/{file}", card.as_ref()?));
        let watchdog = self.profile.watchdog.as_ref();
        let watchdog = watchdog.and_then(|name| self.system.text(&format!("sys/class/watchdog/{name}/state")));
        let rtc = self.profile.rtc.as_ref();
        Readings {
            celsius: self.celsius(),
            undervoltage: self.undervoltage(),
            card_used_percent: of_card("life_time").and_then(|text| used_percent(&text)),
            // 1 is normal, 2 and 3 are most and nearly all of the spare blocks used (JEDEC 84-B50, PRE_EOL_INFO).
            card_worn: of_card("pre_eol_info").and_then(|text| hexadecimal(&text)).map(|level| level >= 2),
            space: self.space(),
            read_only: self.system.text("proc/self/mountinfo").and_then(|mounts| read_only(&mounts, &self.folder)),
            watchdog: watchdog.map(|state| state == "active"),
            rtc: rtc.map(|name| self.system.path("sys/class/rtc").join(name).exists()),
        }
    }

    fn celsius(&self) -> Option<f64> {
        let wanted = self.profile.temperature.as_ref()?;
        let zone = self.device("sys/class/thermal", "type", &wanted.zone)?;
        let thousandths: f64 = self.system.text(&format!("{zone}/temp"))?.parse().ok()?;
        Some(thousandths / 1000.0)
    }

    fn undervoltage(&self) -> Option<bool> {
        let wanted = self.profile.undervoltage.as_ref()?;
        let device = self.device("sys/class/hwmon", "name", &wanted.hwmon)?;
        Some(self.system.text(&format!("{device}/{}", wanted.alarm))? != "0")
    }

    /// The device of a class whose file says so. They are numbered as they come.
    fn device(&self, class: &str, file: &str, says: &str) -> Option<String> {
        let devices = self.system.names(class).into_iter().map(|name| format!("{class}/{name}"));
        devices.into_iter().find(|device| self.system.text(&format!("{device}/{file}")).as_deref() == Some(says))
    }

    fn space(&self) -> Option<Space> {
        let disk = rustix::fs::statvfs(&self.folder).ok()?;
        let bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
        Some(Space { free: bytes(disk.f_bavail), total: bytes(disk.f_blocks) })
    }
}

/// eMMC says `0x02 0x01`: how many tenths of their life two kinds of blocks have used; 0 is not told, 11 is beyond it.
fn used_percent(text: &str) -> Option<u8> {
    let tenths = text.split_whitespace().filter_map(hexadecimal).max().filter(|tenths| *tenths > 0)?;
    Some(tenths.saturating_mul(10))
}

fn hexadecimal(text: &str) -> Option<u8> {
    u8::from_str_radix(text.trim_start_matches("0x"), 16).ok()
}

/// Whether the file system under a folder is read-only, by proc_pid_mountinfo(5). A disk that fails is remounted so by the kernel, which
/// newer ones call `emergency_ro`.
fn read_only(mounts: &str, folder: &Path) -> Option<bool> {
    let mut nearest: Option<(usize, bool)> = None;
    for line in mounts.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let (Some(place), Some(options), Some(of_disk)) = (words.get(4), words.get(5), words.last()) else { continue };
        let place = PathBuf::from(unescaped(place));
        let depth = place.components().count();
        // A later line of the same depth lies over an earlier one.
        if folder.starts_with(&place) && nearest.is_none_or(|(known, _)| depth >= known) {
            let is = |word: &str| word == "ro" || word == "emergency_ro";
            nearest = Some((depth, options.split(',').chain(of_disk.split(',')).any(is)));
        }
    }
    nearest.map(|(_, read_only)| read_only)
}

/// Blanks of a path are written in octal.
fn unescaped(path: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .into_iter()
        .fold(path.to_owned(), |path, (code, plain)| path.replace(code, plain))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::board::Board;

    /// A Raspberry Pi 4 B with a card that tells how worn it is.
    fn board() -> (tempfile::TempDir, impl Fn(&str, &str)) {
        let root = tempfile::tempdir().unwrap();
        let top = root.path().to_owned();
        let write = move |path: &str, text: &str| {
            let path = top.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("proc/device-tree/compatible", "raspberrypi,4-compute-module\0brcm,bcm2711\0");
        write("sys/class/thermal/cooling_device0/type", "gpio-fan\n");
        write("sys/class/thermal/thermal_zone1/type", "cpu-thermal\n");
        write("sys/class/thermal/thermal_zone1/temp", "48312\n");
        write("sys/class/hwmon/hwmon0/name", "cpu_thermal\n");
        write("sys/class/hwmon/hwmon1/name", "rpi_volt\n");
        write("sys/class/hwmon/hwmon1/in0_lcrit_alarm", "0\n");
        write("sys/class/block/mmcblk0/device/life_time", "0x01 0x03\n");
        write("sys/class/block/mmcblk0/device/pre_eol_info", "0x01\n");
        write("sys/class/watchdog/watchdog0/state", "active\n");
        write("sys/class/rtc/rtc0/name", "rtc-pcf85063\n");
        write("proc/self/mountinfo", "29 1 0:26 / / rw,relatime shared:1 - ext4 /dev/root rw\n");
        (root, write)
    }

    fn read(root: &Path) -> Readings {
        let system = System::under(root);
        let profile = Board::find(&system, "auto").profile;
        Sensors::new(system, profile, root).read()
    }

    #[test]
    fn a_board_that_tells_all_is_read() {
        let (root, write) = board();
        let readings = read(root.path());
        let space = readings.space.unwrap();
        assert!(space.free > 0 && space.total >= space.free);
        let expected = Readings {
            celsius: Some(48.312),
            undervoltage: Some(false),
            card_used_percent: Some(30),
            card_worn: Some(false),
            space: Some(space),
            read_only: Some(false),
            watchdog: Some(true),
            rtc: Some(true),
        };
        assert_eq!(readings, expected);
        write("sys/class/hwmon/hwmon1/in0_lcrit_alarm", "1\n");
        write("sys/class/block/mmcblk0/device/life_time", "0x0b 0x01\n");
        write("sys/class/block/mmcblk0/device/pre_eol_info", "0x02\n");
        write("sys/class/watchdog/watchdog0/state", "inactive\n");
        let readings = read(root.path());
        assert_eq!((readings.undervoltage, readings.card_used_percent), (Some(true), Some(110)));
        assert_eq!((readings.card_worn, readings.watchdog), (Some(true), Some(false)));
    }

    #[test]
    fn a_board_that_tells_nothing_is_no_failure() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("proc/device-tree")).unwrap();
        fs::write(root.path().join("proc/device-tree/compatible"), "raspberrypi,4-model-b\0").unwrap();
        let readings = read(root.path());
        assert_eq!(Readings { space: readings.space, ..Readings::default() }, readings);
        assert_eq!(used_percent("0x00 0x00"), None);
    }

    #[test]
    fn the_nearest_mount_decides_what_is_read_only() {
        let mounts = "29 1 0:26 / / ro,relatime shared:1 - squashfs /dev/root ro\n\
                      30 29 8:1 / /data rw,noatime - ext4 /dev/sda1 rw,errors=remount-ro\n\
                      31 30 8:2 / /data/with\\040blank rw - ext4 /dev/sda2 ro,errors=remount-ro\n\
                      32 29 8:3 / /broken rw - ext4 /dev/sda3 rw,emergency_ro\n\
                      33 29 8:4 / /over ro - ext4 /dev/sda4 rw\n\
                      34 33 8:5 / /over rw - ext4 /dev/sda5 rw\n";
        let cases = [
            ("/data/till", false),
            ("/database", true),
            ("/data/with blank/till", true),
            ("/broken", true),
            ("/over/till", false),
            ("/", true),
        ];
        for (folder, expected) in cases {
            assert_eq!(read_only(mounts, Path::new(folder)), Some(expected), "{folder}");
        }
        assert_eq!(read_only("", Path::new("/")), None);
    }
}
