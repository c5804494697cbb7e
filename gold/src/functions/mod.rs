//! Functions of SQL in ways that suit gold: the same results as the engine's own, sooner and in less memory.

mod distinct_texts;
mod text_numbers;
mod utc;

pub(crate) use utc::date_trunc;

use datafusion::{error::Result, execution::FunctionRegistry, prelude::SessionContext};
use distinct_texts::DistinctTextsRewrite;
use std::sync::Arc;
use utc::UtcDateRewrite;

/// Has a session count distinct texts, and find the beginnings and dates of UTC times, by our own functions. Nothing to call by name comes to it, so the
/// SQL stays what any other engine understands.
///
/// # Errors
/// When the session takes no functions.
pub fn register_functions(context: &SessionContext) -> Result<()> {
    let state = context.state_ref();
    let mut state = state.write();
    state.register_udf(date_trunc())?;
    state.register_function_rewrite(Arc::new(DistinctTextsRewrite))?;
    state.register_function_rewrite(Arc::new(UtcDateRewrite))
}

#[cfg(test)]
mod tests;
