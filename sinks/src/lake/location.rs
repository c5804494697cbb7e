//! Places: a local folder, or a prefix of an S3 bucket.

use super::LakeConfig;
use deltalake::{
    DeltaResult, DeltaTableBuilder,
    logstore::{LogStore, LogStoreFactory, ObjectStoreRef, StorageConfig, default_logstore, logstore_factories},
};
use object_store::{
    ObjectStore,
    aws::{AmazonS3Builder, S3ConditionalPut},
    local::LocalFileSystem,
    path::Path,
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use url::Url;

/// One of the three kinds of storage in a medallion lake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Bucket {
    /// As received.
    Bronze,
    /// Typed and deduplicated.
    Silver,
    /// Shaped for a question.
    Gold,
}

impl Bucket {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Bronze, Self::Silver, Self::Gold];

    /// Its name in SQL.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bronze => "bronze",
            Self::Silver => "silver",
            Self::Gold => "gold",
        }
    }
}

/// A place in a store: the store at its root, and the path below.
#[derive(Clone, Debug)]
pub struct Location {
    /// The whole store.
    pub store: Arc<dyn ObjectStore>,
    /// Where in it.
    pub prefix: Path,
    /// The same as an address.
    pub url: Url,
}

impl Location {
    pub(super) fn of(config: &LakeConfig, bucket: Bucket, path: &str) -> Result<Self, String> {
        let root = match bucket {
            Bucket::Bronze => &config.bronze,
            Bucket::Silver => &config.silver,
            Bucket::Gold => &config.gold,
        };
        Self::at(config, root, path)
    }

    /// A Delta table here, not loaded yet.
    pub(super) fn delta(&self) -> DeltaResult<DeltaTableBuilder> {
        Ok(DeltaTableBuilder::from_url(self.url.clone())?.with_storage_backend(self.store.clone(), self.url.clone()))
    }

    /// The place `path` below `root`, a folder or `s3://bucket[/prefix]`.
    ///
    /// # Errors
    /// When the root is no such place or the S3 settings are incomplete.
    pub fn at(config: &LakeConfig, root: &str, path: &str) -> Result<Self, String> {
        if root.is_empty() {
            return Err("no place is configured".to_owned());
        }
        if root.starts_with("s3://") {
            let url = format!("{}/{path}", root.trim_end_matches('/'));
            let url = Url::parse(&url).map_err(|e| format!("'{root}': {e}"))?;
            let bucket = url.host_str().ok_or_else(|| format!("'{root}' names no bucket"))?;
            let prefix = Path::parse(url.path().trim_matches('/')).map_err(|e| e.to_string())?;
            return Ok(Self { store: Arc::new(s3(config, bucket)?), prefix, url });
        }
        if let Some((scheme, _)) = root.split_once("://") {
            return Err(format!("'{scheme}://' is not supported: use a folder or s3://bucket/prefix"));
        }
        let folder = std::path::Path::new(root).join(path);
        std::fs::create_dir_all(&folder).map_err(|e| format!("make folder {}: {e}", folder.display()))?;
        let folder = folder.canonicalize().map_err(|e| format!("{}: {e}", folder.display()))?;
        let url = Url::from_directory_path(&folder).map_err(|()| format!("{} is no folder", folder.display()))?;
        let prefix = Path::from_absolute_path(&folder).map_err(|e| e.to_string())?;
        Ok(Self { store: Arc::new(LocalFileSystem::new()), prefix, url })
    }
}

fn s3(config: &LakeConfig, bucket: &str) -> Result<object_store::aws::AmazonS3, String> {
    let settings = &config.s3;
    let mut builder = AmazonS3Builder::from_env()
        .with_bucket_name(bucket)
        .with_allow_http(settings.allow_http)
        // The commit of a Delta table is one conditional put: the first writer wins, the second learns that it lost.
        .with_conditional_put(S3ConditionalPut::ETagMatch);
    if !settings.region.is_empty() {
        builder = builder.with_region(&settings.region);
    }
    if !settings.endpoint.is_empty() {
        builder = builder.with_endpoint(&settings.endpoint);
    }
    if !settings.access_key_id.is_empty() {
        let secret = match settings.secret_access_key_file.as_str() {
            "" => settings.secret_access_key.clone(),
            file => std::fs::read_to_string(file)
                .map_err(|e| format!("lake.s3.secret_access_key_file {file}: {e}"))?
                .trim()
                .to_owned(),
        };
        builder = builder.with_access_key_id(&settings.access_key_id).with_secret_access_key(secret);
    }
    builder.build().map_err(|e| format!("S3 bucket '{bucket}': {e}"))
}

/// Lets Delta open tables in S3 with the plain log store: conditional put is all that it needs.
struct S3LogStore;

impl LogStoreFactory for S3LogStore {
    fn with_options(
        &self,
        prefixed: ObjectStoreRef,
        root: ObjectStoreRef,
        location: &Url,
        options: &StorageConfig,
    ) -> DeltaResult<Arc<dyn LogStore>> {
        Ok(default_logstore(prefixed, root, location, options))
    }
}

pub(super) fn register_s3() {
    if let Ok(scheme) = Url::parse("s3://") {
        logstore_factories().insert(scheme, Arc::new(S3LogStore));
    }
}
