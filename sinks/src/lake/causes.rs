//! What is at the bottom of an error: whether another try may be without it, or more memory.

use super::maintain::came_second;
use datafusion::error::DataFusionError;
use deltalake::DeltaTableError;
use std::{error::Error, iter::successors};

/// How the engine tells that memory was short.
const EXHAUSTED: &str = "Resources exhausted";

/// Whether another try may go well: the store or the network failed, or another writer was first.
pub fn is_transient(error: &(dyn Error + 'static)) -> bool {
    causes(error).any(|error| {
        let is_of_store = the::<object_store::Error>(error).is_some_and(|error| {
            use object_store::Error::{NotFound, NotImplemented, NotSupported, PermissionDenied, Unauthenticated};
            let is_for_good = matches!(error, NotFound { .. } | NotImplemented { .. } | NotSupported { .. });
            !is_for_good && !matches!(error, PermissionDenied { .. } | Unauthenticated { .. })
        });
        let is_of_writers = the::<DeltaTableError>(error).is_some_and(came_second);
        is_of_store || is_of_writers || the::<std::io::Error>(error).is_some()
    })
}

/// Whether a question wanted more memory than it may have.
pub fn is_out_of_memory(error: &(dyn Error + 'static)) -> bool {
    let of_engine = |error: &DataFusionError| matches!(error.find_root(), DataFusionError::ResourcesExhausted(_));
    // A write of Delta keeps no more than the text of what ended it.
    let of_write =
        |error: &DeltaTableError| matches!(error, DeltaTableError::Generic(text) if text.contains(EXHAUSTED));
    causes(error).any(|error| the(error).is_some_and(of_engine) || the(error).is_some_and(of_write))
}

/// An error, what caused it, what caused that, ...
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    successors(Some(error), |&error| error.source())
}

fn the<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    error.downcast_ref::<E>().or_else(|| error.downcast_ref::<Box<E>>().map(|boxed| &**boxed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lake::LakeError;

    #[test]
    fn the_store_may_come_back_and_a_question_stays_wrong() {
        let of_store = |error: object_store::Error| LakeError::Delta {
            table: "gold.x".to_owned(),
            deed: "replace",
            source: Box::new(DeltaTableError::from(error)),
        };
        let generic = || object_store::Error::Generic { store: "S3", source: "connection reset".into() };
        let missing = || object_store::Error::NotFound { path: "x".to_owned(), source: "404".into() };
        assert!(is_transient(&of_store(generic())) && !is_transient(&of_store(missing())));
        assert!(is_transient(&DataFusionError::from(generic()).context("scan")));
        assert!(is_transient(&std::io::Error::other("disk")));
        assert!(!is_transient(&DataFusionError::Plan("no such column".to_owned())));
        let lost = DeltaTableError::VersionAlreadyExists(3);
        assert!(is_transient(&LakeError::Delta { table: "t".to_owned(), deed: "replace", source: Box::new(lost) }));
    }

    #[test]
    fn that_memory_was_short_is_found_below_what_it_spoilt() {
        let short = DataFusionError::ResourcesExhausted("no more".to_owned()).context("sort");
        let spoilt = DeltaTableError::Generic("write".to_owned());
        let of_lake = |source| LakeError::Delta { table: "t".to_owned(), deed: "replace", source: Box::new(source) };
        let told = DeltaTableError::Generic(DataFusionError::ResourcesExhausted("no more".to_owned()).to_string());
        assert!(is_out_of_memory(&of_lake(short.into())) && is_out_of_memory(&of_lake(told)));
        assert!(!is_out_of_memory(&of_lake(spoilt)));
        assert!(!is_out_of_memory(&DataFusionError::Plan("no such column".to_owned())));
    }
}
