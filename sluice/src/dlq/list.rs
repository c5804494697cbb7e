//! `sluice dlq list`.

use super::letters::{Filters, Letters};
use crate::{
    Config,
    query::{Format, show},
};
use anyhow::Result;
use arrow::array::RecordBatch;

/// Letters listed when nobody says how many.
const LISTED: usize = 50;
/// Characters of a message that a table shows.
const MESSAGE_SHOWN: usize = 80;

/// Prints letters, newest first, or how many there are of each kind.
pub(crate) fn run(config: &Config, filters: &Filters, format: Format, summary: bool) -> Result<()> {
    let runtime = crate::roles::runtime()?;
    let Some(letters) = Letters::open(config, &runtime)? else {
        eprintln!("there are no dead letters: none was ever written to this lake");
        return Ok(());
    };
    let condition = filters.condition();
    let from = format!("(SELECT * FROM letters WHERE {condition}) l LEFT JOIN replayed r ON l.letter = r.letter");
    let sql = match summary {
        true => format!(
            "SELECT l.stage, l.reason, count(*) AS letters, count(r.letter) AS replayed, min(l.log_time) AS oldest,
             max(l.log_time) AS newest FROM {from} GROUP BY l.stage, l.reason ORDER BY letters DESC, l.stage, l.reason"
        ),
        false => {
            let message = match format {
                Format::Table => format!("substr(l.message, 1, {MESSAGE_SHOWN})"),
                _ => "l.message".to_owned(),
            };
            format!(
                "SELECT l.letter, l.log_time, l.stage, l.reason, l.schema_id, r.replayed_at, {message} AS message
                 FROM {from} ORDER BY l.log_time DESC, l.source, l._partition, l._offset DESC{}",
                filters.limit(Some(LISTED))
            )
        }
    };
    let batches = runtime.block_on(async {
        let frame = letters.context.sql(&sql).await?;
        let schema = frame.schema().inner().clone();
        let mut batches = frame.collect().await?;
        if batches.is_empty() {
            batches.push(RecordBatch::new_empty(schema));
        }
        anyhow::Ok(batches)
    })?;
    let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
    show(&batches, format)?;
    if !summary && filters.limit.is_none() && rows == LISTED {
        eprintln!("these are the newest {LISTED}; --limit N shows more, --summary counts all");
    }
    Ok(())
}
