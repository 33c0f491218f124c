//! `tillmesh restore FILE`: a till goes on from a backup, as a new origin.

use std::path::Path;

use super::print;
use crate::config::DataDir;
use crate::store;

/// Puts a backup in the place of a till's database. What was there is moved aside, never deleted.
///
/// # Errors
/// Where an agent runs in the folder, the file is no backup, or the system refuses; then nothing has changed.
pub fn restore(folder: &DataDir, file: &Path) -> anyhow::Result<()> {
    folder.create()?;
    let _lock = folder.lock()?;
    let database = folder.database();
    let aside = store::restore(file, &database, &mut store::SystemEntropy)?;
    let former = aside.map(|aside| format!("The former one is now {}.\n", aside.display())).unwrap_or_default();
    print(&format!(
        "{} is now {}.\n{former}Start the agent: it writes under a new origin, and sales made after the backup come back from the \
         other tills.\n",
        file.display(),
        database.display()
    ))?;
    Ok(())
}
