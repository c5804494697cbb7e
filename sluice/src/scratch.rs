//! Where rows go that no longer fit in memory, and files that are put together before they are written to the lake: below the
//! data folder. The system's temporary folder is often memory itself.

use crate::Config;
use anyhow::{Context, Result};
use std::{
    fs::{self, File, TryLockError},
    io::ErrorKind,
    path::Path,
};
use tempfile::TempDir;

/// Only folders of this name are ours: others that lie in the same place are left alone.
const PREFIX: &str = "sluice-scratch-";
/// Held while folders are made and cleared away, so that none is cleared away between being made and being locked.
const LOCK: &str = "sluice-scratch.lock";

/// A folder for the temporary files of this process, removed with it. What a killed process left is removed by the next one
/// that makes a folder in the same place.
#[derive(Debug)]
pub(crate) struct Scratch {
    dir: TempDir,
    /// Locked for as long as the process lives.
    _alive: File,
}

impl Scratch {
    /// Makes one in `place`.
    ///
    /// # Errors
    /// When nothing can be written or locked there.
    pub(crate) fn make(place: &Path) -> Result<Self> {
        fs::create_dir_all(place)?;
        let turn = File::create(place.join(LOCK))?;
        turn.lock().context("lock it")?;
        clear(place)?;
        let dir = tempfile::Builder::new().prefix(&format!("{PREFIX}{}-", std::process::id())).tempdir_in(place)?;
        let alive = File::create(dir.path().join(LOCK))?;
        alive.lock().context("lock it")?;
        Ok(Self { dir, _alive: alive })
    }
}

/// Whether a folder has a name that [`Scratch::make`] gives.
fn is_ours(name: &str) -> bool {
    let process = name.strip_prefix(PREFIX).and_then(|rest| rest.split_once('-')).map(|(process, _)| process);
    process.is_some_and(|process| !process.is_empty() && process.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Removes the folders whose process has ended.
fn clear(place: &Path) -> Result<()> {
    for entry in fs::read_dir(place)? {
        let entry = entry?;
        let dir = entry.path();
        if !entry.file_type()?.is_dir() || !is_ours(&entry.file_name().to_string_lossy()) {
            continue;
        }
        let is_in_use = match File::open(dir.join(LOCK)) {
            Ok(lock) => match lock.try_lock() {
                Ok(()) => false,
                Err(TryLockError::WouldBlock) => true,
                Err(TryLockError::Error(error)) => return Err(error).context("lock it"),
            },
            // Killed before it had a lock.
            Err(error) if error.kind() == ErrorKind::NotFound => false,
            Err(_) => true,
        };
        if !is_in_use && let Err(error) = fs::remove_dir_all(&dir) {
            tracing::warn!(%error, dir = %dir.display(), "a folder of temporary files that nobody uses stays");
        }
    }
    Ok(())
}

/// Has all temporary files of this process lie in a folder below `scratch_dir`, until the answer is dropped. Where none can be
/// made, they lie in the system's temporary folder.
pub(crate) fn use_scratch(config: &Config) -> Option<Scratch> {
    match Scratch::make(&config.scratch_dir) {
        Ok(scratch) => {
            // Fails when it was done before: a process runs one command.
            let _ = tempfile::env::override_temp_dir(scratch.dir.path());
            Some(scratch)
        }
        Err(error) => {
            let (dir, error) = (config.scratch_dir.display(), crate::causes(&error));
            tracing::warn!(%dir, error, "scratch_dir: temporary files go to the system's temporary folder");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_uses_any_more_is_removed() {
        let place = tempfile::tempdir().unwrap();
        let mine = Scratch::make(place.path()).unwrap();
        fs::write(mine.dir.path().join("rows"), "1").unwrap();
        // As after a kill: nobody holds its lock.
        let left = place.path().join("sluice-scratch-4-left");
        fs::create_dir(&left).unwrap();
        fs::write(left.join(LOCK), "").unwrap();
        fs::write(left.join("rows"), "1").unwrap();
        // Killed before it had a lock.
        let early = place.path().join("sluice-scratch-5-early");
        fs::create_dir(&early).unwrap();
        // Somebody else's.
        let others = ["lake", "sluice-scratch-backup"].map(|name| place.path().join(name));
        others.iter().for_each(|other| fs::create_dir(other).unwrap());

        let other = Scratch::make(place.path()).unwrap();
        assert!(!left.exists() && !early.exists());
        assert!(others.iter().all(|other| other.exists()));
        assert!(mine.dir.path().join("rows").exists(), "in use");
        let (first, second) = (mine.dir.path().to_owned(), other.dir.path().to_owned());
        assert_ne!(first, second);
        drop((mine, other));
        assert!(!first.exists() && !second.exists());
    }

    #[test]
    fn a_place_that_cannot_be_is_told() {
        let place = tempfile::NamedTempFile::new().unwrap();
        assert!(Scratch::make(&place.path().join("below a file")).is_err());
    }
}
