//! `tillmesh backup FILE`: a consistent copy of a till's database in one file.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use hyper::header::CONTENT_LENGTH;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use super::client::{Agent, AgentError, Target};
use super::{Progress, print};
use crate::config::DataDir;
use crate::store;

/// A backup holds the shop's sales.
const BACKUP_MODE: u32 = 0o600;

/// What to back up, and where to.
#[derive(Debug)]
pub struct BackupOptions {
    /// The till's data folder.
    pub folder: DataDir,
    /// The file to make.
    pub file: PathBuf,
    /// Whether a file that is there may be replaced.
    pub force: bool,
}

/// Makes a backup, from the running agent while it goes on selling, else from its database. The file is there whole or not at all.
///
/// # Errors
/// Where the file is there already, cannot be written, or the agent or the database fails.
pub async fn backup(options: BackupOptions) -> anyhow::Result<()> {
    let BackupOptions { folder, file, force } = options;
    if !force && file.try_exists()? {
        bail!(already_there(&file));
    }
    let mut partial = Partial::create(&file)?;
    match fetch(&folder, &mut partial).await {
        Ok(()) => {}
        Err(error) if is_stopped(&error) => {
            // The lock keeps an agent from starting meanwhile; one that runs and did not answer has it.
            let _lock = folder.lock().with_context(|| format!("{error:#}"))?;
            partial.fill(|to| Ok(store::backup(&folder.database(), to)?))?;
        }
        Err(error) => return Err(error),
    }
    let bytes = partial.finish(&file, force)?;
    print(&format!("{}: {}\n", file.display(), size(bytes)))?;
    Ok(())
}

fn is_stopped(error: &anyhow::Error) -> bool {
    error.downcast_ref().is_some_and(AgentError::is_absence)
}

fn already_there(file: &Path) -> String {
    format!("{} is there already: choose another name, or give --force to replace it", file.display())
}

/// Has the agent send its copy.
async fn fetch(folder: &DataDir, partial: &mut Partial) -> anyhow::Result<()> {
    let agent = Agent::find(&Target::Folder(folder.clone()))?;
    let response = agent.get("/v1/backup").await?;
    let whole = response.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    let mut body = response.into_body();
    let mut progress = Progress::new();
    let mut bytes = 0;
    while let Some(part) = agent.part(&mut body).await? {
        partial.write(&part)?;
        bytes += part.len() as u64;
        let of = whole.map(|whole| format!(" of {}", size(whole))).unwrap_or_default();
        progress.show(&format!("{}{of}", size(bytes)));
    }
    Ok(())
}

/// A size for people.
fn size(bytes: u64) -> String {
    match bytes {
        0..1_048_576 => format!("{} KiB", bytes.div_ceil(1024)),
        _ => format!("{}.{} MiB", bytes >> 20, ((bytes & 0xF_FFFF) * 10) >> 20),
    }
}

/// A file in the making, beside its place; removed unless it is finished.
struct Partial {
    path: PathBuf,
    file: File,
}

impl Partial {
    fn create(target: &Path) -> anyhow::Result<Self> {
        let name = target.file_name().context("the backup needs a file name")?.to_string_lossy();
        let path = target.with_file_name(format!(".{name}.partial-{}", std::process::id()));
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(BACKUP_MODE).open(&path);
        let file = file.with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self { path, file })
    }

    fn write(&mut self, part: &[u8]) -> anyhow::Result<()> {
        self.file.write_all(part).with_context(|| format!("cannot write {}", self.path.display()))
    }

    /// Has something else make the file.
    fn fill(&mut self, make: impl FnOnce(&Path) -> anyhow::Result<()>) -> anyhow::Result<()> {
        fs::remove_file(&self.path)?;
        make(&self.path)?;
        self.file = File::open(&self.path)?;
        Ok(())
    }

    /// Moves it, once it is on the disk, to its place; returns its size.
    fn finish(self, target: &Path, force: bool) -> anyhow::Result<u64> {
        self.file.sync_all()?;
        let bytes = self.file.metadata()?.len();
        match self.place(target, force) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => bail!(already_there(target)),
            placed => placed.with_context(|| format!("cannot write {}", target.display()))?,
        }
        // The name is on the disk with its folder.
        let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(parent)?.sync_all()?;
        Ok(bytes)
    }

    fn place(&self, target: &Path, force: bool) -> io::Result<()> {
        if force {
            return fs::rename(&self.path, target);
        }
        match renameat_with(CWD, &self.path, CWD, target, RenameFlags::NOREPLACE) {
            // Some file systems cannot rename without replacing.
            Err(Errno::INVAL | Errno::NOSYS) if !target.try_exists()? => fs::rename(&self.path, target),
            Err(Errno::INVAL | Errno::NOSYS) => Err(io::ErrorKind::AlreadyExists.into()),
            other => Ok(other?),
        }
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // Not there any more where it was finished.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_there_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("till.backup");
        let mut partial = Partial::create(&target).unwrap();
        partial.write(b"half").unwrap();
        drop(partial);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        let mut partial = Partial::create(&target).unwrap();
        partial.write(b"whole").unwrap();
        assert_eq!(partial.finish(&target, false).unwrap(), 5);
        assert_eq!(fs::read(&target).unwrap(), b"whole");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_is_there_is_kept_unless_told_otherwise() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("till.backup");
        fs::write(&target, b"old").unwrap();
        let error = Partial::create(&target).unwrap().finish(&target, false).unwrap_err();
        assert!(error.to_string().contains("--force"), "{error}");
        assert_eq!(fs::read(&target).unwrap(), b"old");
        Partial::create(&target).unwrap().finish(&target, true).unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"");
    }

    #[test]
    fn sizes_are_for_people() {
        assert_eq!((size(1), size(1 << 20), size(3 << 19)), ("1 KiB".into(), "1.0 MiB".into(), "1.5 MiB".into()));
    }
}
