//! Small files that are there whole or not at all.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// Replaces a file, or makes it: a power cut at any moment leaves the old file or the new one, and the new one once this
/// returns. The mode is exact, whatever the umask. Callers hold the folder's lock: two at once would share a temporary file.
pub(super) fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let temporary = temporary(path)?;
    // What a power cut left of an earlier try; it may have another mode.
    remove_if_there(&temporary)?;
    let written = write_whole(&temporary, bytes, mode).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // Best effort: on a full disk the half-written file would keep what little space there is.
        let _ = remove_if_there(&temporary);
    }
    written?;
    sync_folder_of(path)
}

/// The bytes of a file, at most `max` and one more; `None` where there is no such file.
pub(super) fn read(path: &Path, max: usize) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(max as u64 + 1).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

/// Takes away from a file's mode what `mode` does not grant; tells whether there was something to take.
pub(super) fn restrict(path: &Path, mode: u32) -> io::Result<bool> {
    let current = fs::metadata(path)?.permissions().mode() & 0o7777;
    if current & !mode == 0 {
        return Ok(false);
    }
    fs::set_permissions(path, Permissions::from_mode(current & mode))?;
    Ok(true)
}

/// Renames a file, overwriting nothing: where the name is taken, a number is added to it. Gives the name.
pub(super) fn move_aside(path: &Path, aside: &Path) -> io::Result<PathBuf> {
    let mut free = aside.to_owned();
    let mut number = 1;
    while fs::symlink_metadata(&free).is_ok() {
        number += 1;
        let mut name = aside.as_os_str().to_owned();
        name.push(format!("-{number}"));
        free = PathBuf::from(name);
    }
    fs::rename(path, &free)?;
    sync_folder_of(path)?;
    Ok(free)
}

fn temporary(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidFilename))?;
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(".tmp");
    Ok(path.with_file_name(hidden))
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn write_whole(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    // Private from the first moment, widened only once it is ours.
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.set_permissions(Permissions::from_mode(mode))?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// A rename is durable only once its folder is.
fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_file_is_replaced_whole_with_its_mode() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        replace(&path, b"one", 0o600).unwrap();
        assert_eq!((read(&path, 9).unwrap().unwrap(), mode(&path)), (b"one".to_vec(), 0o600));
        replace(&path, b"two", 0o640).unwrap();
        assert_eq!((read(&path, 9).unwrap().unwrap(), mode(&path)), (b"two".to_vec(), 0o640));
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
    }

    #[test]
    fn what_a_power_cut_left_is_neither_read_nor_in_the_way() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        let left = folder.path().join(".f.tmp");
        replace(&path, b"old", 0o600).unwrap();
        fs::write(&left, b"half a fi").unwrap();
        fs::set_permissions(&left, Permissions::from_mode(0o644)).unwrap();
        assert_eq!(read(&path, 9).unwrap().unwrap(), b"old");
        replace(&path, b"new", 0o600).unwrap();
        assert_eq!((read(&path, 9).unwrap().unwrap(), mode(&path)), (b"new".to_vec(), 0o600));
        assert!(!left.exists());
    }

    #[test]
    fn a_write_that_fails_leaves_the_old_file_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        // A folder in the file's place: the rename is what fails.
        fs::create_dir(&path).unwrap();
        assert!(replace(&path, b"new", 0o600).is_err());
        assert!(path.is_dir());
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
    }

    #[test]
    fn reading_stops_beyond_the_limit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        assert_eq!(read(&path, 4).unwrap(), None);
        fs::write(&path, b"123456789").unwrap();
        assert_eq!(read(&path, 4).unwrap().unwrap(), b"12345");
    }

    #[test]
    fn nothing_aside_is_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let (path, aside) = (folder.path().join("f"), folder.path().join("f.damaged"));
        for (content, name) in [("a", "f.damaged"), ("b", "f.damaged-2"), ("c", "f.damaged-3")] {
            fs::write(&path, content).unwrap();
            assert_eq!(move_aside(&path, &aside).unwrap(), folder.path().join(name));
            assert_eq!(fs::read_to_string(folder.path().join(name)).unwrap(), content);
        }
    }

    #[test]
    fn a_mode_is_narrowed_never_widened() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        fs::write(&path, b"").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o664)).unwrap();
        assert!(restrict(&path, 0o600).unwrap());
        assert_eq!(mode(&path), 0o600);
        fs::set_permissions(&path, Permissions::from_mode(0o400)).unwrap();
        assert!(!restrict(&path, 0o600).unwrap());
        assert_eq!(mode(&path), 0o400);
    }
}
