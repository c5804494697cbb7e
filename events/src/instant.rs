//! Places in time and in the log, as types that cannot be mixed up.

use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident, $inner:ty) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name($inner);

        impl $name {
            /// Wraps the bare number.
            pub const fn new(value: $inner) -> Self {
                Self(value)
            }
            /// The bare number.
            pub const fn get(self) -> $inner {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number!(
    /// When the shop says it happened: milliseconds since 1970-01-01 UTC, negative before.
    EventTime,
    i64
);
number!(
    /// When the log took the record: milliseconds since 1970-01-01 UTC.
    LogTime,
    i64
);
number!(
    /// Place of a record in its partition; the first is 0.
    Offset,
    i64
);
number!(
    /// Number of a partition in its topic; the first is 0.
    Partition,
    u32
);

impl Offset {
    /// The offset after this one.
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl EventTime {
    /// Ten years after 1970: what is stamped earlier is a broken clock, not a sale.
    pub const EARLIEST: Self = Self(315_532_800_000);
    /// The end of the year 9999. Beyond it, and as far before 1970, no calendar and no table can hold a time.
    pub const LATEST: Self = Self(253_402_300_799_999);
}
