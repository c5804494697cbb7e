//! Errors that another try may be without.

use super::maintain::came_second;
use deltalake::DeltaTableError;
use std::error::Error;

/// Whether another try may go well: the store or the network failed, or another writer was first.
pub fn is_transient(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let is_of_store = the::<object_store::Error>(error).is_some_and(|error| {
            use object_store::Error::{NotFound, NotImplemented, NotSupported, PermissionDenied, Unauthenticated};
            let is_for_good = matches!(error, NotFound { .. } | NotImplemented { .. } | NotSupported { .. });
            !is_for_good && !matches!(error, PermissionDenied { .. } | Unauthenticated { .. })
        });
        let is_of_writers = the::<DeltaTableError>(error).is_some_and(came_second);
        if is_of_store || is_of_writers || the::<std::io::Error>(error).is_some() {
            return true;
        }
        cause = error.source();
    }
    false
}

fn the<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    error.downcast_ref::<E>().or_else(|| error.downcast_ref::<Box<E>>().map(|boxed| &**boxed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lake::LakeError;
    use datafusion::error::DataFusionError;

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
}
