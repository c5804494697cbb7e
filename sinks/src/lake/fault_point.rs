//! Steps at which a test may end the process, as a `kill -9` or a power cut would.
//!
//! Only in builds with debug assertions; a release build has none of it.

/// The variable that names a step, as `table/step` or, for the n-th time it is reached, `table/step#n`.
#[cfg(debug_assertions)]
const VARIABLE: &str = "SLUICE_FAULT_POINT";

/// Ends the process here when `SLUICE_FAULT_POINT` says so.
#[cfg(debug_assertions)]
pub fn fault_point(place: &str, step: &str) {
    use std::{
        collections::HashMap,
        sync::{LazyLock, Mutex, PoisonError},
    };
    static WANTED: LazyLock<Option<(String, u32)>> = LazyLock::new(|| {
        let text = std::env::var(VARIABLE).ok()?;
        let (point, time) = text.split_once('#').unwrap_or((&text, "1"));
        Some((point.to_owned(), time.parse().unwrap_or(1)))
    });
    static REACHED: LazyLock<Mutex<HashMap<String, u32>>> = LazyLock::new(Mutex::default);
    let Some((point, time)) = &*WANTED else { return };
    let here = format!("{place}/{step}");
    if here == *point {
        let mut reached = REACHED.lock().unwrap_or_else(PoisonError::into_inner);
        let times = reached.entry(here).or_default();
        *times += 1;
        if times == time {
            eprintln!("fault point {point}: ending the process");
            std::process::abort();
        }
    }
}

/// Nothing: this is no build for tests.
#[cfg(not(debug_assertions))]
#[inline]
pub fn fault_point(_place: &str, _step: &str) {}
