//! Detection over windows that are long sealed: what would have fired.

use super::{
    AlertUpdate, KnownTimes, WatchError, Watcher,
    watcher::{Seen, plans},
};
use crate::{
    Header, LiveModel, ProcessorError, Window,
    merger::{KnownGroups, Rows, read_rows},
};
use arrow::array::RecordBatch;

/// Shows a model's sealed windows to its detectors again.
pub struct HistoryWatch<'a> {
    model: &'a LiveModel,
    watcher: Watcher,
    known: KnownGroups,
    next: Option<i64>,
}

/// Windows without rows that are filled with zeros after a gap, at most: as a merger does.
const ZERO_WINDOWS_MAX: i64 = 1_440;

impl<'a> HistoryWatch<'a> {
    /// Of a model, watched as this header says.
    ///
    /// # Errors
    /// When the header does not fit the model, or watches nothing.
    pub fn new(model: &'a LiveModel, header: &Header, times: &KnownTimes) -> Result<Self, WatchError> {
        if header.detect.is_empty() {
            return Err(WatchError(format!("model '{}' has no detect: line", model.name)));
        }
        let mut watcher = Watcher::of(plans(model, header)?);
        watcher.know(times);
        Ok(Self { model, watcher, known: KnownGroups::default(), next: None })
    }

    /// Shows it the rows of one window, the next one in time: columns as the model's pane schema.
    ///
    /// # Errors
    /// When the rows are not of the model.
    pub fn window(&mut self, start: i64, rows: &RecordBatch) -> Result<Vec<AlertUpdate>, ProcessorError> {
        let Window::Grid(grid) = &self.model.window else { return Ok(Vec::new()) };
        let slide = grid.slide();
        let mut alerts = Vec::new();
        let silent_from = self.next.unwrap_or(start);
        if (start - silent_from) / slide <= ZERO_WINDOWS_MAX {
            for silent in (silent_from..start).step_by(usize::try_from(slide).unwrap_or(1).max(1)) {
                alerts.extend(self.judge(silent, grid.end(silent), slide, Rows::new()));
            }
        }
        alerts.extend(self.judge(start, grid.end(start), slide, read_rows(self.model, rows)?));
        self.next = Some(grid.next(start));
        Ok(alerts)
    }

    fn judge(&mut self, start: i64, end: i64, slide: i64, mut rows: Rows) -> Vec<AlertUpdate> {
        self.known.fill(self.model, &mut rows, start, slide);
        let seen = Seen { start, end, slide, rows: &rows, origin: &|_| Vec::new() };
        let alerts = self.watcher.judge(&self.model.name, &seen).alerts;
        self.watcher.sealed(start);
        alerts
    }
}
