//! The live models: those shipped, and the user's files.

use crate::{Config, WrongUse};
use anyhow::{Context, Result};
use include_dir::{Dir, include_dir};
use sluice_serve::{ColumnInfo, ColumnRole, ModelInfo};
use sluice_stream_processor::LiveModel;
use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

static SHIPPED: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../models/live");

/// Where a model's text comes from.
pub(crate) struct ModelText {
    pub name: String,
    pub text: String,
    /// None: shipped.
    pub file: Option<PathBuf>,
}

/// The texts of all live models, by name; a file of the user replaces the shipped one of the same name.
pub(crate) fn texts(config: &Config) -> Result<Vec<ModelText>> {
    let mut texts = BTreeMap::new();
    for file in SHIPPED.files() {
        let (Some(name), Some(text)) = (file.path().file_stem().and_then(|s| s.to_str()), file.contents_utf8()) else {
            continue;
        };
        if file.path().extension().is_some_and(|e| e == "sql") {
            texts.insert(name.to_owned(), ModelText { name: name.to_owned(), text: text.to_owned(), file: None });
        }
    }
    let own = config.models.dir.join("live");
    let is_default = config.models.dir.as_os_str() == "models";
    if !is_default && !own.is_dir() {
        return Err(WrongUse(format!("models.dir: there is no folder {}", own.display())).into());
    }
    if own.is_dir() {
        let folder = std::fs::read_dir(&own).with_context(|| format!("read models folder {}", own.display()))?;
        for entry in folder {
            let path = entry.with_context(|| format!("read models folder {}", own.display()))?.path();
            let Some(name) =
                path.file_stem().and_then(|s| s.to_str()).filter(|_| path.extension().is_some_and(|e| e == "sql"))
            else {
                continue;
            };
            let text = std::fs::read_to_string(&path).with_context(|| format!("read model {}", path.display()))?;
            texts.insert(name.to_owned(), ModelText { name: name.to_owned(), text, file: Some(path.clone()) });
        }
    }
    Ok(texts.into_values().collect())
}

/// All live models, compiled.
pub(crate) fn compile(config: &Config) -> Result<Arc<[LiveModel]>> {
    let texts = texts(config)?;
    let compiled = LiveModel::compile_all(texts.iter().map(|text| (&*text.name, &*text.text)));
    compiled.map(Into::into).map_err(|error| {
        let text = texts.iter().find(|text| text.name == error.model());
        let place = text.and_then(|text| text.file.as_ref()).map_or("shipped".to_owned(), |f| f.display().to_string());
        anyhow::Error::new(error).context(place)
    })
}

/// What the API tells about a model.
pub(crate) fn info(model: &LiveModel) -> ModelInfo {
    let header = model.header.clone();
    ModelInfo {
        name: model.name.clone(),
        title: header.title,
        grain: header.grain,
        unit: header.unit,
        definition: header.definition,
        source: header.source,
        sql: model.sql.clone(),
        columns: model
            .columns
            .iter()
            .map(|c| ColumnInfo {
                name: c.name.clone(),
                role: if c.is_group { ColumnRole::Group } else { ColumnRole::Measure },
                data_type: c.data_type.to_string(),
            })
            .collect(),
    }
}
