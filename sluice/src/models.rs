//! The live models: those shipped, and the user's files.

use crate::{Config, WrongUse};
use anyhow::{Context, Result};
use include_dir::{Dir, include_dir};
use sluice_serve::{ColumnInfo, ColumnRole, ModelInfo};
use sluice_stream_processor::LiveModel;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

static SHIPPED: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../models/live");

/// Where a model's text comes from.
#[derive(PartialEq, Eq)]
pub(crate) struct ModelText {
    pub name: String,
    pub text: String,
    /// None: shipped.
    pub file: Option<PathBuf>,
}

/// The texts of all live models, by name; a file of the user replaces the shipped one of the same name.
pub(crate) fn texts(config: &Config) -> Result<Vec<ModelText>> {
    let own = config.models.dir.join("live");
    let is_default = config.models.dir.as_os_str() == "models";
    if !is_default && !own.is_dir() {
        return Err(WrongUse(format!("models.dir: there is no folder {}", own.display())).into());
    }
    walk_texts(Some(&SHIPPED), &own)
}

/// The texts of a folder that is shipped, and of the user's folder for the same, by name; a file of the user replaces the
/// shipped one of the same name.
pub(crate) fn walk_texts(shipped: Option<&Dir<'_>>, own: &Path) -> Result<Vec<ModelText>> {
    let mut texts = BTreeMap::new();
    for file in shipped.into_iter().flat_map(Dir::files) {
        let (Some(name), Some(text)) = (file.path().file_stem().and_then(|s| s.to_str()), file.contents_utf8()) else {
            continue;
        };
        if file.path().extension().is_some_and(|e| e == "sql") {
            texts.insert(name.to_owned(), ModelText { name: name.to_owned(), text: text.to_owned(), file: None });
        }
    }
    if own.is_dir() {
        let folder = std::fs::read_dir(own).with_context(|| format!("read models folder {}", own.display()))?;
        for entry in folder {
            let path = entry.with_context(|| format!("read models folder {}", own.display()))?.path();
            if path.extension().is_some_and(|e| e == "sql") {
                let text = read(&path)?;
                texts.insert(text.name.clone(), text);
            }
        }
    }
    Ok(texts.into_values().collect())
}

impl ModelText {
    /// Where it stands, for a message.
    pub fn place(&self) -> String {
        self.file.as_ref().map_or("shipped".to_owned(), |file| file.display().to_string())
    }
}

/// The text in a user's file; the model is called like it.
pub(crate) fn read(file: &Path) -> Result<ModelText> {
    let name = file.file_stem().and_then(|s| s.to_str());
    let is_name = |name: &&str| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    let name = name.filter(is_name).ok_or_else(|| {
        WrongUse(format!(
            "model {}: a model is called like its file, and its table too: letters, digits and _ only",
            file.display()
        ))
    })?;
    let text = std::fs::read_to_string(file).with_context(|| format!("read model {}", file.display()))?;
    Ok(ModelText { name: name.to_owned(), text, file: Some(file.to_owned()) })
}

/// All live models, compiled.
pub(crate) fn compile(config: &Config) -> Result<Arc<[LiveModel]>> {
    compile_texts(&texts(config)?)
}

/// These models, compiled; an error names the file.
pub(crate) fn compile_texts(texts: &[ModelText]) -> Result<Arc<[LiveModel]>> {
    let compiled = LiveModel::compile_all(texts.iter().map(|text| (&*text.name, &*text.text)));
    compiled.map(Into::into).map_err(|error| {
        let place = texts.iter().find(|text| text.name == error.model()).map_or(String::new(), ModelText::place);
        anyhow::Error::new(error).context(place)
    })
}

/// The models that cannot run continuously, each with line, column and reason. One that reads from such a model is one.
pub(crate) fn check(texts: &[ModelText]) -> Vec<(String, String)> {
    let mut wrong: Vec<(String, String)> = Vec::new();
    loop {
        let left = texts.iter().filter(|text| !wrong.iter().any(|(name, _)| *name == text.name));
        match LiveModel::compile_all(left.map(|text| (&*text.name, &*text.text))) {
            Ok(_) => return wrong,
            Err(error) => wrong.push((error.model().to_owned(), error.in_file())),
        }
    }
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
