//! Where workers keep their state between runs: small objects, the newest few kept.

use super::{LakeConfig, Location, fault_point::fault_point};
use futures::TryStreamExt;
use object_store::{ObjectStore, ObjectStoreExt as _, PutPayload, path::Path};

/// Checkpoints kept of one worker.
const KEPT: usize = 3;

/// Keeps the checkpoints of workers by name.
#[derive(Clone)]
pub struct CheckpointStore {
    place: Location,
    runtime: tokio::runtime::Handle,
}

/// A checkpoint as it is kept.
#[derive(Clone, Debug)]
pub struct StoredCheckpoint {
    /// It covers everything below this offset, by its name.
    pub position: i64,
    /// Its content, which may be damaged.
    pub bytes: Vec<u8>,
}

/// Why a checkpoint could not be kept or found.
#[derive(Debug, thiserror::Error)]
#[error("checkpoints of '{worker}' at {place}: {message}")]
pub struct CheckpointStoreError {
    /// The worker.
    pub worker: String,
    /// The place.
    pub place: String,
    /// What happened.
    pub message: String,
}

impl CheckpointStore {
    /// Checkpoints below `root`, a folder or `s3://bucket/prefix`.
    ///
    /// # Errors
    /// When the place cannot be used.
    pub fn open(
        root: &str,
        config: &LakeConfig,
        runtime: tokio::runtime::Handle,
    ) -> Result<Self, CheckpointStoreError> {
        let error = |message| CheckpointStoreError { worker: "*".to_owned(), place: root.to_owned(), message };
        Ok(Self { place: Location::at(config, root, "").map_err(error)?, runtime })
    }

    fn folder(&self, worker: &str) -> Path {
        worker.split('/').fold(self.place.prefix.clone(), |path, part| path.join(part))
    }

    fn error(&self, worker: &str) -> impl Fn(object_store::Error) -> CheckpointStoreError + use<> {
        let (worker, place) = (worker.to_owned(), self.place.url.to_string());
        move |e| CheckpointStoreError { worker: worker.clone(), place: place.clone(), message: e.to_string() }
    }

    /// Keeps a checkpoint that covers everything below `offset`, and drops all but the newest few.
    ///
    /// # Errors
    /// When the store fails. The older checkpoints still stand then.
    pub fn put(&self, worker: &str, offset: i64, bytes: Vec<u8>) -> Result<(), CheckpointStoreError> {
        let error = self.error(worker);
        let folder = self.folder(worker);
        self.runtime.block_on(async {
            let path = folder.clone().join(format!("{offset:020}.ckpt"));
            fault_point("checkpoint", "before");
            self.place.store.put(&path, PutPayload::from(bytes)).await.map_err(&error)?;
            fault_point("checkpoint", "after");
            let mut kept = self.names(&folder).await.map_err(&error)?;
            kept.sort();
            for old in kept.iter().rev().skip(KEPT) {
                self.place.store.delete(old).await.map_err(&error)?;
            }
            Ok(())
        })
    }

    async fn names(&self, folder: &Path) -> Result<Vec<Path>, object_store::Error> {
        let objects: Vec<_> = self.place.store.list(Some(folder)).try_collect().await?;
        Ok(objects.into_iter().map(|o| o.location).filter(|p| p.as_ref().ends_with(".ckpt")).collect())
    }

    /// The checkpoints of a worker, newest first.
    ///
    /// # Errors
    /// When the store fails.
    pub fn newest_first(&self, worker: &str) -> Result<Vec<StoredCheckpoint>, CheckpointStoreError> {
        let error = self.error(worker);
        let folder = self.folder(worker);
        self.runtime.block_on(async {
            let mut names = self.names(&folder).await.map_err(&error)?;
            names.sort();
            let mut found = Vec::new();
            for name in names.iter().rev() {
                let object = match self.place.store.get(name).await {
                    // The worker that owned it before is dropping what it has too many of.
                    Err(object_store::Error::NotFound { .. }) => continue,
                    object => object.map_err(&error)?,
                };
                let position = name.filename().and_then(|n| n.strip_suffix(".ckpt")).and_then(|n| n.parse().ok());
                let bytes = object.bytes().await.map_err(&error)?.to_vec();
                found.push(StoredCheckpoint { position: position.unwrap_or(-1), bytes });
            }
            Ok(found)
        })
    }
}
