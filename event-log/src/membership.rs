//! Which partitions of a topic are this process's to work on, when several processes share them.

use crate::LogError;
use sluice_events::{Offset, Partition};
use std::time::Duration;

/// A change of the partitions that a member works on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AssignmentChange {
    /// These are yours from now on, besides those you have.
    Assigned(Vec<Partition>),
    /// Let these go, then say so with [`Membership::released`]; nobody else has them until then.
    Revoked(Vec<Partition>),
    /// These are somebody else's already, without your consent: the session expired, or a revocation took too long.
    /// Stop at once and publish nothing more of them.
    Lost(Vec<Partition>),
}

/// A place in a group of processes that share the partitions of a topic. It says who works on what, and reads nothing.
///
/// Partitions change hands one after the other: those of a [`AssignmentChange::Revoked`] are not given to another
/// member before they are released. Only a member that is cut off from its group can believe for a while that it has
/// what another was given; so what the members publish must be fenced all the same.
///
/// Dropping it leaves the group, and the others take over: let all partitions go before.
pub trait Membership: Send {
    /// Waits up to `wait` for the next change; none when there was none.
    ///
    /// # Errors
    /// When this process cannot be a member any longer; passing trouble is retried inside.
    fn next_change(&mut self, wait: Duration) -> Result<Option<AssignmentChange>, LogError>;

    /// The partitions last revoked have been let go: others may take them now.
    fn released(&mut self);

    /// Tells the group up to where partitions are done with (the next offsets), for those who watch its lag. It is a hint:
    /// nothing goes on from there, it is sent some time later, and lost without harm.
    fn hint(&mut self, positions: &[(Partition, Offset)]);
}
