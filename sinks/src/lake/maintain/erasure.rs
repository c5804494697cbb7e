//! What is remembered of an erasure while it is under way, so that one that was killed goes on under the same name.
//!
//! The note says whom it is about only to who asks with the id again: it holds a salted hash. It is removed at the end.

use crate::lake::{Bucket, Lake, LakeError, Location};
use futures::TryStreamExt;
use object_store::{ObjectStore, ObjectStoreExt as _, PutPayload, path::Path};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

const FOLDER: &str = "_erasures";

/// An erasure under way.
pub struct Erasure {
    /// Stands for the person from now on.
    pub pseudonym: String,
    /// Whether it was begun before, and not finished.
    pub is_resumed: bool,
    note: Path,
    place: Location,
}

#[derive(Serialize, Deserialize)]
struct Note {
    salt: String,
    person: String,
    pseudonym: String,
}

fn person(salt: &str, customer: &str) -> String {
    let digest = Sha256::new().chain_update(salt).chain_update([0]).chain_update(customer).finalize();
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Lake {
    /// Begins to make a customer unknown, or goes on with what was begun; `random` gives fresh names.
    ///
    /// # Errors
    /// When the bronze bucket cannot be read or written.
    pub fn begin_erasure(&self, customer: &str, random: impl Fn() -> u128) -> Result<Erasure, LakeError> {
        let place = self.location(Bucket::Bronze, "")?;
        let folder = place.prefix.clone().join(FOLDER);
        let failed = |e: String| LakeError::Place { table: format!("bronze/{FOLDER}"), message: e };
        self.runtime.block_on(async {
            let listing = place.store.list(Some(&folder)).try_collect::<Vec<_>>().await;
            for object in listing.map_err(|e| failed(e.to_string()))? {
                let bytes = place.store.get(&object.location).await.map_err(|e| failed(e.to_string()))?;
                let bytes = bytes.bytes().await.map_err(|e| failed(e.to_string()))?;
                let note: Note = serde_json::from_slice(&bytes).map_err(|e| failed(e.to_string()))?;
                if note.person == person(&note.salt, customer) {
                    let (pseudonym, note) = (note.pseudonym, object.location);
                    return Ok(Erasure { pseudonym, is_resumed: true, note, place: place.clone() });
                }
            }
            let salt = format!("{:032x}", random());
            let pseudonym = format!("erased-{:032x}", random());
            let note = Note { person: person(&salt, customer), salt, pseudonym: pseudonym.clone() };
            let bytes = serde_json::to_vec(&note).map_err(|e| failed(e.to_string()))?;
            let path = folder.clone().join(format!("{:032x}.json", random()));
            place.store.put(&path, PutPayload::from(bytes)).await.map_err(|e| failed(e.to_string()))?;
            Ok(Erasure { pseudonym, is_resumed: false, note: path, place: place.clone() })
        })
    }

    /// Ends it: every table is done. From now on nothing leads from the person to the pseudonym.
    ///
    /// # Errors
    /// When the note cannot be removed.
    pub fn finish_erasure(&self, erasure: Erasure) -> Result<(), LakeError> {
        let removed = self.runtime.block_on(erasure.place.store.delete(&erasure.note));
        removed.map_err(|e| LakeError::Place { table: format!("bronze/{FOLDER}"), message: e.to_string() })
    }
}
