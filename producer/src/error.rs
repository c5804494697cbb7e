//! Why events could not be produced.

use sluice_event_log::LogError;
use sluice_events::{CodecError, Partition};
use std::{io, path::PathBuf};

/// Everything that stops a producer. A line that is no event stops nothing: it becomes a dead letter.
#[derive(Debug, thiserror::Error)]
pub enum ProducerError {
    /// A knob has a value that makes no sense. Change it in the config, the scenario or the flag.
    #[error("{key}: {problem}")]
    Knob {
        /// Name of the knob.
        key: &'static str,
        /// What is wrong and what would do.
        problem: String,
    },
    /// A scenario file cannot be understood. Mend the line.
    #[error("scenario {}, line {line}: {message}", path.display())]
    Scenario {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Names the key and what would do.
        message: String,
    },
    /// A file to replay has a form that no line of it can be read with. Nothing of it was sent.
    #[error("replay {}, line {line}: {message}", path.display())]
    Input {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: u64,
        /// What is wrong and what would do.
        message: String,
    },
    /// A file cannot be read (gone, no permission, damaged compression). A replay goes on from here when started again.
    #[error("read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The log did not take or give records. Starting again is safe.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The end of a partition, which says where to go on, could not be read. Starting again is safe.
    #[error("find where to go on in {topic}/{partition}: the log gave no record for {seconds} s; is it up?")]
    NoAnswer {
        /// The topic.
        topic: String,
        /// The partition.
        partition: Partition,
        /// How long was waited.
        seconds: u64,
    },
    /// A dead letter does not fit its schema.
    #[error("encode a dead letter: {0}")]
    Encode(#[from] CodecError),
}
