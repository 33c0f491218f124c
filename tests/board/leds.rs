//! A folder that stands for `/`: a board, and LEDs that do what those of the kernel do.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tempfile::TempDir;

const TRIGGERS: [&str; 4] = ["none", "mmc0", "timer", "pattern"];

/// The root of a Raspberry Pi 4 B without any LED. Dropped, it is gone.
pub(crate) struct Root {
    folder: TempDir,
    done: Arc<AtomicBool>,
    kernel: Option<JoinHandle<()>>,
}

impl Root {
    pub(crate) fn new() -> Self {
        Self::of("raspberrypi,4-model-b\0brcm,bcm2711\0")
    }

    pub(crate) fn of(compatible: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let done = Arc::new(AtomicBool::new(false));
        let (ends, leds) = (done.clone(), folder.path().join("sys/class/leds"));
        fs::create_dir_all(&leds).unwrap();
        let kernel = thread::spawn(move || {
            let mut replaced: Vec<Replaced> = Vec::new();
            while !ends.load(Ordering::Relaxed) {
                for led in fs::read_dir(&leds).into_iter().flatten().flatten() {
                    replaced.extend(serve(&led.path()));
                }
                replaced.retain_mut(Replaced::is_to_be_watched);
                thread::sleep(Duration::from_millis(2));
            }
        });
        let root = Self { folder, done, kernel: Some(kernel) };
        root.put("proc/device-tree/compatible", compatible);
        root.put("proc/device-tree/model", "Raspberry Pi 4 Model B Rev 1.4\0");
        root
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn put(&self, path: &str, text: &str) {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn led(&self, name: &str) -> PathBuf {
        self.path().join("sys/class/leds").join(name)
    }

    /// An LED comes up, as its board's device tree leaves it: on the card's trigger.
    pub(crate) fn plug(&self, name: &str) {
        let made = self.path().join(format!("making-{name}"));
        fs::create_dir_all(&made).unwrap();
        for (file, text) in
            [("max_brightness", "1\n"), ("brightness", "0\n"), ("trigger", "none [mmc0] timer pattern \n")]
        {
            fs::write(made.join(file), text).unwrap();
        }
        fs::rename(made, self.led(name)).unwrap();
    }

    pub(crate) fn unplug(&self, name: &str) {
        // Out of the way in one go, as far as whoever uses it can tell.
        let gone = self.path().join(format!("gone-{name}"));
        fs::rename(self.led(name), &gone).unwrap();
        fs::remove_dir_all(gone).unwrap();
    }

    /// What an LED does: `on`, `off`, milliseconds of light and dark, or another trigger's name.
    pub(crate) fn shows(&self, name: &str) -> String {
        let read = |file: &str| fs::read_to_string(self.led(name).join(file)).unwrap_or_default().trim().to_owned();
        match at_work(&read("trigger")).as_str() {
            "none" if read("brightness") == "0" => "off".to_owned(),
            "none" => "on".to_owned(),
            "timer" => format!("{} {}", read("delay_on"), read("delay_off")),
            other => other.to_owned(),
        }
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Relaxed);
        if let Some(kernel) = self.kernel.take() {
            // It has panicked: the test has failed already, or does not care.
            drop(kernel.join());
        }
    }
}

fn at_work(list: &str) -> String {
    let marked = list.split_whitespace().find_map(|word| word.strip_prefix('[')?.strip_suffix(']'));
    marked.unwrap_or(list.trim()).to_owned()
}

/// Does with a fresh word in `trigger` what the kernel does: the list with that one marked, and the files of that trigger.
fn serve(led: &Path) -> Option<Replaced> {
    let mut former = File::open(led.join("trigger")).ok()?;
    let mut text = String::new();
    former.read_to_string(&mut text).ok()?;
    let word = text.trim();
    if text.contains('[') || !TRIGGERS.contains(&word) {
        return None;
    }
    let parameters: &[(&str, &str)] = match word {
        "timer" => &[("delay_on", "500\n"), ("delay_off", "500\n")],
        "pattern" => &[("pattern", "\n"), ("repeat", "-1\n")],
        _ => &[],
    };
    for file in ["delay_on", "delay_off", "pattern", "repeat"] {
        if !parameters.iter().any(|(name, _)| *name == file) {
            // It may not be there.
            drop(fs::remove_file(led.join(file)));
        }
    }
    // Whole and under their names at once: what the agent writes to them comes after.
    for (file, text) in parameters.iter().filter(|(file, _)| !led.join(file).exists()) {
        put_whole(led, file, text);
    }
    let list = TRIGGERS.map(|name| if name == word { format!("[{name}]") } else { name.to_owned() }).join(" ");
    let list = format!("{list}\n");
    put_whole(led, "trigger", &list);
    Some(Replaced { led: led.to_owned(), former, text, list, since: Instant::now() })
}

/// A `trigger` that the list has taken the place of. The kernel's is one file, so nobody writes to a former one: here the agent may
/// have opened it just before, and its word is passed on.
struct Replaced {
    led: PathBuf,
    former: File,
    text: String,
    list: String,
    since: Instant,
}

impl Replaced {
    fn is_to_be_watched(&mut self) -> bool {
        let mut text = String::new();
        let read = self.former.rewind().and_then(|()| self.former.read_to_string(&mut text));
        let is_word = read.is_ok() && text != self.text && TRIGGERS.contains(&text.trim());
        let path = self.led.join("trigger");
        if is_word && fs::read_to_string(&path).is_ok_and(|now| now == self.list) {
            // It may be unplugged meanwhile.
            drop(fs::write(path, &text));
        }
        !is_word && self.since.elapsed() < Duration::from_secs(1)
    }
}

fn put_whole(led: &Path, file: &str, text: &str) {
    let whole = led.join(".whole");
    // The LED may be unplugged meanwhile.
    drop(fs::write(&whole, text).and_then(|()| fs::rename(&whole, led.join(file))));
}
