//! Which board this is: the files inside the program, those of the box, and the choice among them.

use std::collections::BTreeMap;
use std::fs;

use super::pattern::Patterns;
use super::profile::{Profile, parse_patterns};
use super::system::System;

/// A choice left to the device tree.
const AUTO: &str = "auto";

/// What a box is where no file fits.
const GENERIC: &str = "generic-pc";
/// Where a box has files of its own.
const FOLDER: &str = "etc/tillmesh/board";
/// The most bytes of a file.
const FILE_BYTES_MAX: u64 = 64 * 1024;

const PATTERNS: &str = include_str!("../../board/patterns.toml");
/// The files of `board/`: a new one goes in here, and a test says so.
const FILES: [(&str, &str); 9] = [
    ("generic-pc", include_str!("../../board/generic-pc.toml")),
    ("qemu-raspi3b", include_str!("../../board/qemu-raspi3b.toml")),
    ("qemu-virt", include_str!("../../board/qemu-virt.toml")),
    ("raspberrypi-3b", include_str!("../../board/raspberrypi-3b.toml")),
    ("raspberrypi-4b", include_str!("../../board/raspberrypi-4b.toml")),
    ("raspberrypi-5", include_str!("../../board/raspberrypi-5.toml")),
    ("raspberrypi-cm4", include_str!("../../board/raspberrypi-cm4.toml")),
    ("raspberrypi-gpio", include_str!("../../board/raspberrypi-gpio.toml")),
    ("raspberrypi-zero-2w", include_str!("../../board/raspberrypi-zero-2w.toml")),
];

/// The board that this is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Board {
    /// The name of its file, without `.toml`.
    pub file: String,
    /// What the file says.
    pub profile: Profile,
    /// What the board calls itself.
    pub model: Option<String>,
    /// Files that were refused, and a choice that could not be met: with the reason.
    pub problems: Vec<String>,
}

impl Board {
    /// Finds out. `choice` is `led.board` of the config: `auto` or the name of a file. There is always an answer.
    #[must_use]
    pub fn find(system: &System, choice: &str) -> Self {
        let patterns = parse_patterns(PATTERNS).expect("our own file is right: tested");
        let mut problems = Vec::new();
        let files = files(system, &patterns, &mut problems);
        let chosen = (choice != AUTO).then(|| files.get(choice));
        if chosen == Some(None) {
            problems.push(format!(
                "led.board: no usable file {choice}.toml; the board is taken for what its device tree says"
            ));
        }
        let name = match chosen.flatten() {
            Some(_) => choice,
            None => matching(system, &files).unwrap_or(GENERIC),
        };
        let profile = files.get(name).or_else(|| files.get(GENERIC)).expect("our own files are right: tested").clone();
        let model = system.text("proc/device-tree/model").or_else(|| system.text("sys/class/dmi/id/product_name"));
        Self { file: name.to_owned(), profile, model: model.filter(|model| !model.is_empty()), problems }
    }
}

/// All files that can be used, by name: the box's own take the place of ours.
fn files(system: &System, patterns: &Patterns, problems: &mut Vec<String>) -> BTreeMap<String, Profile> {
    let ours = FILES.into_iter().map(|(name, text)| (name.to_owned(), text.to_owned()));
    let parse = |(name, text): (String, String)| {
        let profile = Profile::parse(&text, patterns).expect("our own files are right: tested");
        (name, profile)
    };
    let mut files: BTreeMap<String, Profile> = ours.map(parse).collect();
    for file in system.names(FOLDER) {
        let Some(name) = file.strip_suffix(".toml").filter(|name| !name.starts_with('.')) else { continue };
        let path = system.path(FOLDER).join(&file);
        let read = match fs::metadata(&path) {
            Ok(about) if about.len() > FILE_BYTES_MAX => Err(format!("it has more than {FILE_BYTES_MAX} bytes")),
            Ok(_) => fs::read_to_string(&path).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        match read.and_then(|text| Profile::parse(&text, patterns).map_err(|error| error.to_string())) {
            Ok(profile) => drop(files.insert(name.to_owned(), profile)),
            Err(reason) => problems.push(format!("/{FOLDER}/{file}: {reason}")),
        }
    }
    files
}

/// The file that names the most exact of the names that the device tree has for this board.
fn matching<'f>(system: &System, files: &'f BTreeMap<String, Profile>) -> Option<&'f str> {
    let names = system.text("proc/device-tree/compatible")?;
    let has = |name: &str, profile: &Profile| profile.compatible.iter().any(|known| known == name);
    let of = |name| files.iter().find(|(_, profile)| has(name, profile)).map(|(file, _)| file.as_str());
    names.split('\0').find_map(of)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::super::led::LedState;
    use super::super::pattern::{Colour, Pattern};
    use super::super::profile::{Place, Wire};
    use super::*;

    struct Box(tempfile::TempDir);

    impl Box {
        fn new(compatible: &str) -> Self {
            let root = Self(tempfile::tempdir().unwrap());
            if !compatible.is_empty() {
                root.write("proc/device-tree/compatible", compatible);
            }
            root
        }

        fn write(&self, path: &str, text: &str) {
            let path = self.0.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        fn find(&self, choice: &str) -> Board {
            Board::find(&System::under(self.0.path()), choice)
        }
    }

    #[test]
    fn every_board_is_known_by_its_device_tree() {
        let cases = [
            ("raspberrypi,3-model-b\0brcm,bcm2837\0", "raspberrypi-3b"),
            ("raspberrypi,3-model-b-plus\0brcm,bcm2837\0", "raspberrypi-3b"),
            ("raspberrypi,4-model-b\0brcm,bcm2711\0", "raspberrypi-4b"),
            ("raspberrypi,5-model-b\0brcm,bcm2712\0", "raspberrypi-5"),
            ("raspberrypi,model-zero-2-w\0brcm,bcm2837\0", "raspberrypi-zero-2w"),
            ("raspberrypi,4-compute-module\0brcm,bcm2711\0", "raspberrypi-cm4"),
            ("raspberrypi,4-compute-module-io\0raspberrypi,4-compute-module\0", "raspberrypi-cm4"),
            ("qemu,raspi3b\0raspberrypi,3-model-b\0brcm,bcm2837\0", "qemu-raspi3b"),
            ("linux,dummy-virt\0", "qemu-virt"),
            ("example,unheard-of\0", "generic-pc"),
            ("", "generic-pc"),
        ];
        for (compatible, file) in cases {
            let board = Box::new(compatible).find(AUTO);
            assert_eq!((board.file.as_str(), &board.problems[..]), (file, &[][..]), "{compatible:?}");
            assert_eq!(board.profile.places.is_empty(), file == "generic-pc");
        }
    }

    #[test]
    fn every_file_of_the_folder_is_inside_and_no_board_is_claimed_twice() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("board");
        let mut there = BTreeSet::new();
        for entry in fs::read_dir(folder).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            there.extend(name.strip_suffix(".toml").filter(|name| *name != "patterns").map(str::to_owned));
        }
        assert_eq!(there, FILES.iter().map(|(name, _)| (*name).to_owned()).collect());
        let files = files(&System::under(Path::new("/nowhere")), &Patterns::dark(), &mut Vec::new());
        let all: Vec<&String> = files.values().flat_map(|profile| &profile.compatible).collect();
        assert_eq!(all.len(), all.iter().collect::<BTreeSet<_>>().len(), "{all:?}");
    }

    #[test]
    fn two_colours_mean_what_posplus_means() {
        let patterns = parse_patterns(PATTERNS).unwrap();
        let expected = [
            (LedState::Fault, Colour::Red),
            (LedState::Starting, Colour::Red),
            (LedState::Disabled, Colour::Red),
            (LedState::Solo, Colour::Yellow),
            (LedState::Alone, Colour::Yellow),
            (LedState::Partial, Colour::Green),
            (LedState::Syncing, Colour::Green),
            (LedState::Connected, Colour::Green),
        ];
        for (state, colour) in expected {
            let (shown, pattern) = patterns.two(state);
            assert_eq!(shown, colour, "{state:?}");
            assert!(*pattern != Pattern::Off && *patterns.one(state) != Pattern::Off, "{state:?}");
        }
        // What asks for somebody to come never looks like what does not.
        for state in [LedState::Fault, LedState::Alone, LedState::Partial] {
            for other in LedState::ALL.into_iter().filter(|other| *other != state) {
                assert_ne!(patterns.one(state), patterns.one(other), "{state:?}, {other:?}");
                assert_ne!(patterns.two(state), patterns.two(other), "{state:?}, {other:?}");
            }
        }
    }

    #[test]
    fn a_file_of_the_box_adds_a_board_and_takes_the_place_of_ours() {
        let root = Box::new("example,box-2\0raspberrypi,4-model-b\0");
        root.write("proc/device-tree/model", "Example Box 2\0");
        assert_eq!(root.find(AUTO).file, "raspberrypi-4b");
        root.write(
            "etc/tillmesh/board/box.toml",
            "name = \"Box\"\ncompatible = [\"example,box-2\"]\n[[led]]\nany = {sysfs = \"x\"}",
        );
        let board = root.find(AUTO);
        assert_eq!((board.file.as_str(), board.profile.name.as_str()), ("box", "Box"));
        assert_eq!(board.model.as_deref(), Some("Example Box 2"));
        assert_eq!(board.profile.places, [Place::One(Wire::Sysfs("x".into()))]);
        assert_ne!(
            board.profile.patterns.one(LedState::Alone),
            &Pattern::Off,
            "patterns that it does not name are ours"
        );
        root.write("etc/tillmesh/board/raspberrypi-4b.toml", "name = \"Ours\"\ncompatible = []");
        assert_eq!(root.find("raspberrypi-4b").profile.name, "Ours");
        assert_eq!(root.find("qemu-virt").file, "qemu-virt");
    }

    #[test]
    fn a_bad_file_is_refused_with_its_line_and_the_next_best_is_used() {
        let root = Box::new("raspberrypi,4-model-b\0");
        root.write("etc/tillmesh/board/raspberrypi-4b.toml", "name = \"Ours\"\ncompatible = []\nled = 7\n");
        let board = root.find(AUTO);
        assert_eq!(board.profile.name, "Raspberry Pi 4 Model B");
        assert_eq!(
            board.problems,
            ["/etc/tillmesh/board/raspberrypi-4b.toml: line 3: \"led\" is written [[led]], at most 16 times"]
        );
        let board = root.find("nowhere");
        assert_eq!((board.file.as_str(), board.problems.len()), ("raspberrypi-4b", 2));
        assert!(board.problems[1].contains("nowhere.toml"));
        root.write("etc/tillmesh/board/huge.toml", &" ".repeat(70_000));
        assert!(root.find(AUTO).problems[0].contains("more than"));
    }
}
