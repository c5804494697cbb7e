//! Files that are delivered into a folder or a bucket.

use super::{Lake, LakeError, Location};
use futures::TryStreamExt;
use object_store::{ObjectStoreExt as _, path::Path};
use std::io::{Seek, Write};

/// A file that was delivered.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SourceFile {
    /// Its name below the place, as people know it.
    pub name: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// What is another when the file is: its tag, or the time of its last change.
    pub state: String,
    path: Path,
}

impl Lake {
    fn source(&self, root: &str) -> Result<Location, LakeError> {
        Location::at(&self.config, root, "")
            .map_err(|message| LakeError::Place { table: format!("sources at {root}"), message })
    }

    /// The files right below a folder or `s3://bucket/prefix`, by name.
    ///
    /// # Errors
    /// When the place cannot be listed.
    pub fn source_files(&self, root: &str) -> Result<Vec<SourceFile>, LakeError> {
        let place = self.source(root)?;
        let listing = self.runtime.block_on(place.store.list_with_delimiter(Some(&place.prefix)));
        let failed =
            |e: object_store::Error| LakeError::Place { table: format!("sources at {root}"), message: e.to_string() };
        let mut files: Vec<SourceFile> = listing
            .map_err(failed)?
            .objects
            .into_iter()
            .filter_map(|object| {
                Some(SourceFile {
                    name: object.location.filename()?.to_owned(),
                    bytes: object.size,
                    state: object.e_tag.unwrap_or_else(|| object.last_modified.to_rfc3339()),
                    path: object.location.clone(),
                })
            })
            .collect();
        files.sort();
        Ok(files)
    }

    /// The content of a file of that place, in a temporary file that is gone with its handle.
    ///
    /// # Errors
    /// When it cannot be read, or there is no room for it.
    pub fn fetch_source(&self, root: &str, file: &SourceFile) -> Result<std::fs::File, LakeError> {
        let place = self.source(root)?;
        let failed = |message: String| LakeError::Place { table: format!("{root}: {}", file.name), message };
        let mut copy = tempfile::tempfile().map_err(|e| failed(e.to_string()))?;
        self.runtime.block_on(async {
            let object = place.store.get(&file.path).await.map_err(|e| failed(e.to_string()))?;
            let mut stream = object.into_stream();
            while let Some(bytes) = stream.try_next().await.map_err(|e| failed(e.to_string()))? {
                copy.write_all(&bytes).map_err(|e| failed(e.to_string()))?;
            }
            Ok(())
        })?;
        copy.rewind().map_err(|e| failed(e.to_string()))?;
        Ok(copy)
    }
}
