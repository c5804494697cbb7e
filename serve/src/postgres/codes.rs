//! What went wrong, in the codes by which clients of PostgreSQL tell it apart (its manual, appendix A).

use datafusion::{arrow::error::ArrowError, common::SchemaError, error::DataFusionError};
use datafusion_postgres::pgwire::{
    api::{ClientInfo, ErrorHandler, METADATA_USER},
    error::{ErrorInfo, PgWireError},
};

/// What there is not here.
pub(super) const NOT_SUPPORTED: &str = "0A000";
const INTERNAL: &str = "XX000";
const WRONG_PASSWORD: &str = "28P01";

fn told(severity: &str, code: &str, message: impl Into<String>) -> PgWireError {
    PgWireError::UserError(Box::new(ErrorInfo::new(severity.to_owned(), code.to_owned(), message.into())))
}

/// An error of a statement.
pub(super) fn failed(code: &str, message: impl Into<String>) -> PgWireError {
    told("ERROR", code, message)
}

/// An error after which the connection ends.
pub(super) fn fatal(code: &str, message: impl Into<String>) -> PgWireError {
    told("FATAL", code, message)
}

fn code_of(error: &DataFusionError) -> &'static str {
    match error.find_root() {
        DataFusionError::SQL(..) => "42601",
        DataFusionError::SchemaError(error, _) => match **error {
            SchemaError::FieldNotFound { .. } => "42703",
            SchemaError::AmbiguousReference { .. } => "42702",
            _ => "42701",
        },
        DataFusionError::Plan(message) if message.contains("table \'") && message.contains("not found") => "42P01",
        DataFusionError::Plan(message) if message.starts_with("Invalid function") => "42883",
        DataFusionError::Plan(_) => "42000",
        DataFusionError::NotImplemented(_) => NOT_SUPPORTED,
        DataFusionError::ResourcesExhausted(_) => "53200",
        DataFusionError::ArrowError(error, _) => match **error {
            ArrowError::DivideByZero => "22012",
            ArrowError::CastError(_) | ArrowError::ParseError(_) => "22P02",
            ArrowError::ArithmeticOverflow(_) => "22003",
            _ => INTERNAL,
        },
        DataFusionError::IoError(_) | DataFusionError::ObjectStore(_) => "58030",
        _ => INTERNAL,
    }
}

/// Gives errors of DataFusion their code.
pub(super) struct Codes;

impl ErrorHandler for Codes {
    fn on_error<C: ClientInfo>(&self, client: &C, error: &mut PgWireError) {
        if let PgWireError::InvalidPassword(_) = error {
            let user = client.metadata().get(METADATA_USER).map_or("", String::as_str);
            *error = fatal(WRONG_PASSWORD, format!("password authentication failed for user \"{user}\""));
        }
        if let PgWireError::ApiError(cause) = error
            && let Some(cause) = cause.downcast_ref::<DataFusionError>()
        {
            *error = failed(code_of(cause), cause.to_string());
        }
    }
}
