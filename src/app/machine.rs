//! Which box this is. A data folder that wakes up in another box than the one that its database remembers is a copied or a moved card:
//! the till takes a new key and a fresh origin, so that nothing is ever written twice under one name.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// The note under which the database keeps the box.
pub(super) const MACHINE_NOTE: &str = "machine";

/// Set to any text, it stands for the box's identity: for rigs that run several boxes on one.
const OVERRIDE: &str = "TILLMESH_MACHINE";

/// What names a box. A part is `None` where the system does not tell it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(super) struct Machine {
    /// Burnt into the board: stays when the card or the image is replaced.
    board: Option<String>,
    /// Made when the system was installed (machine-id(5)): may change with a new image.
    system: Option<String>,
}

impl Machine {
    /// This box, as the system tells.
    pub(super) fn this() -> Self {
        if let Some(given) = std::env::var(OVERRIDE).ok().filter(|given| !given.is_empty()) {
            return Self { board: Some(given), system: None };
        }
        Self::under(Path::new("/"))
    }

    fn under(root: &Path) -> Self {
        let read = |path: &str| {
            let text = fs::read_to_string(root.join(path)).ok()?;
            // A device tree ends its strings with a NUL.
            let text = text.trim_matches(|c: char| c == '\0' || c.is_whitespace()).to_owned();
            // What makers leave in when they have no number to burn.
            let is_blank = text.chars().all(|c| matches!(c, '0' | '-' | 'f' | 'F'));
            (!is_blank).then_some(text)
        };
        let board = read("proc/device-tree/serial-number").or_else(|| read("sys/class/dmi/id/product_uuid"));
        Self { board, system: read("etc/machine-id") }
    }

    /// Whether the box that the database remembers is certainly another one. The board decides where both are known.
    pub(super) fn is_other_than(&self, remembered: &Self) -> bool {
        let differ = |a: &Option<String>, b: &Option<String>| Some(a.as_ref()? != b.as_ref()?);
        differ(&self.board, &remembered.board).or_else(|| differ(&self.system, &remembered.system)).unwrap_or(false)
    }

    pub(super) fn to_note(&self) -> String {
        serde_json::to_string(self).expect("two texts serialise")
    }

    /// A note that does not read says nothing.
    pub(super) fn of_note(note: &str) -> Option<Self> {
        serde_json::from_str(note).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(board: Option<&str>, system: Option<&str>) -> Machine {
        Machine { board: board.map(str::to_owned), system: system.map(str::to_owned) }
    }

    #[test]
    fn another_board_is_another_box_and_a_new_image_is_not() {
        let ours = machine(Some("a"), Some("1"));
        assert!(ours.is_other_than(&machine(Some("b"), Some("1"))));
        assert!(!ours.is_other_than(&machine(Some("a"), Some("2"))));
        assert!(ours.is_other_than(&machine(None, Some("2"))));
        assert!(!ours.is_other_than(&machine(None, Some("1"))));
        assert!(!ours.is_other_than(&Machine::default()) && !Machine::default().is_other_than(&ours));
    }

    #[test]
    fn it_is_read_from_the_board_first_and_survives_its_note() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        assert_eq!(Machine::under(root.path()), Machine::default());
        write("etc/machine-id", "4f2a\n");
        write("sys/class/dmi/id/product_uuid", "00000000-0000-0000-0000-000000000000\n");
        assert_eq!(Machine::under(root.path()), machine(None, Some("4f2a")));
        write("proc/device-tree/serial-number", "10000000abcd\0");
        let found = Machine::under(root.path());
        assert_eq!(found, machine(Some("10000000abcd"), Some("4f2a")));
        assert_eq!(Machine::of_note(&found.to_note()), Some(found));
        assert_eq!(Machine::of_note("{"), None);
    }
}
