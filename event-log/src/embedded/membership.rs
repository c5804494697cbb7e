//! The one member of an embedded log: all partitions are its own.

use crate::{AssignmentChange, LogError, Membership};
use sluice_events::{Offset, Partition};
use std::time::Duration;

pub(super) struct OnlyMember {
    /// What it was not told yet.
    untold: Vec<Partition>,
}

impl OnlyMember {
    pub fn new(partitions: u32) -> Self {
        Self { untold: (0..partitions).map(Partition::new).collect() }
    }
}

impl Membership for OnlyMember {
    fn next_change(&mut self, wait: Duration) -> Result<Option<AssignmentChange>, LogError> {
        if self.untold.is_empty() {
            std::thread::sleep(wait);
            return Ok(None);
        }
        Ok(Some(AssignmentChange::Assigned(std::mem::take(&mut self.untold))))
    }

    fn released(&mut self) {}

    /// Nobody watches the lag of an embedded log but its own process.
    fn hint(&mut self, _: &[(Partition, Offset)]) {}
}
