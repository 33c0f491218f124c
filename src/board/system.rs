//! Where the board is looked at: `/`, or a folder that stands for it in a rig.

use std::fs;
use std::path::{Path, PathBuf};

/// Set to a folder, it stands for `/` wherever the board is looked at: `/sys`, `/proc`, `/dev`, `/etc/tillmesh`. For rigs.
const OVERRIDE: &str = "TILLMESH_ROOT";

/// The system's files, as far as they tell of the board.
#[derive(Clone, Debug)]
pub struct System(PathBuf);

impl System {
    /// This machine.
    #[must_use]
    pub fn this() -> Self {
        let given = std::env::var_os(OVERRIDE).filter(|folder| !folder.is_empty());
        Self(given.map_or_else(|| PathBuf::from("/"), PathBuf::from))
    }

    /// A folder that stands for `/`.
    #[must_use]
    pub fn under(root: &Path) -> Self {
        Self(root.to_owned())
    }

    /// A file, by its path below `/`.
    #[must_use]
    pub fn path(&self, path: &str) -> PathBuf {
        self.0.join(path)
    }

    /// What a small file says, without blanks and NULs around it; `None` where it cannot be read.
    #[must_use]
    pub fn text(&self, path: &str) -> Option<String> {
        let text = fs::read_to_string(self.path(path)).ok()?;
        Some(text.trim_matches(|c: char| c == '\0' || c.is_whitespace()).to_owned())
    }

    /// What is in a folder, by name, in order.
    #[must_use]
    pub fn names(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(folder)).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        names
    }
}
