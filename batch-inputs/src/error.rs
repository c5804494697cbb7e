//! Why a file as a whole cannot be loaded. What is wrong with one row is a dead letter instead.

use std::io;

/// Why a file cannot be loaded, or not further.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The bytes could not be had. Safe to retry: what was loaded of the file is recognised by its hash and line.
    #[error("read {file}")]
    Read {
        /// Name of the file.
        file: String,
        /// What the reader said.
        source: io::Error,
    },
    /// The file is gzip and damaged before its first row. Deliver it again.
    #[error("unpack {file}: {problem}; not even a header came out of it")]
    Unpack {
        /// Name of the file.
        file: String,
        /// What gzip said.
        problem: String,
    },
    /// There is nothing in it, not even a header.
    #[error("{file} is empty; its first line must name the columns {needed}")]
    Empty {
        /// Name of the file.
        file: String,
        /// The columns it must have.
        needed: String,
    },
    /// The first line cannot be split into names.
    #[error("{file}, line {line}: the header cannot be read: {problem}")]
    BadHeader {
        /// Name of the file.
        file: String,
        /// Line of the header.
        line: u64,
        /// What is wrong.
        problem: String,
    },
    /// The header lacks columns that the table needs.
    #[error("{file} has no column {missing}; its columns are {found}")]
    MissingColumns {
        /// Name of the file.
        file: String,
        /// The columns that are not there.
        missing: String,
        /// The columns that are.
        found: String,
    },
    /// The header has one name twice, so it cannot be told which is meant.
    #[error("{file} has column '{column}' twice")]
    DuplicateColumn {
        /// Name of the file.
        file: String,
        /// The name.
        column: String,
    },
    /// The content is not what its hash was taken of: somebody wrote to the file meanwhile. Load it again from its start.
    #[error("{file} changed while it was being loaded")]
    Changed {
        /// Name of the file.
        file: String,
    },
}
