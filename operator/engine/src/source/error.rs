//! The one table from what PostgreSQL and the network say to [`Reason`]s.
//!
//! What a server says may hold values of rows and parameters: in a DETAIL, in the messages of data errors, in what a
//! function raises. So a DETAIL is never passed on, a HINT only where the query is being understood, and a message only
//! for SQLSTATEs whose messages name objects and circumstances. For the same reason a server's error is never kept as
//! the source of ours.

use std::error::Error as StdError;
use std::fmt;
use std::io;

use pgexport_api::reason::Reason;

use super::connect::Address;
use crate::error::Error;

/// What was being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Connecting and logging in.
    Connect,
    /// Understanding the query: parsing and planning it. Nothing of it runs, but constants in it are computed.
    Plan,
    /// Running the query.
    Run,
}

/// The reason for an SQLSTATE (PostgreSQL's documentation, appendix A).
#[must_use]
pub fn reason(sql_state: &str, stage: Stage) -> Reason {
    match sql_state {
        "28000" | "28P01" => return Reason::AuthenticationFailed,
        // 57P04: it was dropped while connected.
        "3D000" | "57P04" => return Reason::DatabaseNotFound,
        "42501" => return Reason::PermissionDenied,
        "25006" => return Reason::QueryWrites,
        "53300" => return Reason::TooManyConnections,
        "57014" | "40001" | "25P04" => return Reason::QueryCancelled,
        // Those of the schema pgexport: another instance or snapshot, no extension, one without kms_key, no answer from it, a table
        // that was rewritten after the snapshot.
        "PX001" => return Reason::WrongInstance,
        "PX002" | "PX003" => return Reason::ExtensionUnavailable,
        "PX004" => return Reason::StoreError,
        "PX005" => return Reason::RelationRewritten,
        // Shut down by the administrator, crashed, starting up, killed for being idle.
        "57P01" | "57P02" | "57P03" | "57P05" | "25P03" => return Reason::ConnectionLost,
        // program_limit_exceeded: a text, an array or a row that would be longer than 1 GB.
        "54000" if stage == Stage::Run => return Reason::RowTooLarge,
        _ => {}
    }
    match (sql_state.get(..2).unwrap_or_default(), stage) {
        ("08", Stage::Connect) => Reason::DatabaseUnreachable,
        ("08", _) => Reason::ConnectionLost,
        (_, Stage::Connect) => Reason::DatabaseError,
        ("42" | "0A" | "26" | "34" | "3F", _) => Reason::InvalidQuery,
        // Data exceptions, integrity, cardinality, and what functions raise.
        ("20" | "21" | "22" | "23" | "38" | "39" | "44" | "P0" | "02", _) => Reason::DataError,
        // Transactions, resources, prerequisites, intervention, the system, internal errors, and the rest.
        _ => Reason::DatabaseError,
    }
}

/// Whether the server cannot allocate what a value or a row takes. Its limit is 1 GB, and the SQLSTATE that of any internal error.
fn is_too_large(sql_state: &str, message: &str, stage: Stage) -> bool {
    (sql_state, stage) == ("XX000", Stage::Run) && message.starts_with("invalid memory alloc request size")
}

/// How the server's own internal errors begin, as far as it is known that what follows is no value. Extensions raise whatever they
/// like under the same SQLSTATE: `PostGIS` tells coordinates.
const INTERNAL: &[&str] = &[
    "attempted to update invisible tuple",
    "cache lookup failed for ",
    "could not find ",
    "could not open relation with OID ",
    "invalid memory alloc request size ",
    "missing chunk number ",
    "out of memory",
    "tuple concurrently ",
    "unexpected chunk ",
    "unrecognized node type",
];

/// Whether the server's message for this SQLSTATE names objects and circumstances, never values.
fn message_is_safe(sql_state: &str, message: &str, stage: Stage) -> bool {
    match sql_state.get(..2).unwrap_or_default() {
        _ if sql_state == "XX000" && stage == Stage::Run => {
            INTERNAL.iter().any(|beginning| message.starts_with(beginning))
        }
        "08" | "25" | "28" | "3D" | "40" | "53" | "54" | "55" | "57" | "58" | "PX" | "XX" => true,
        // A function that builds SQL of data can make the second kind of these while it runs.
        "42" | "0A" | "3F" => stage == Stage::Plan || sql_state == "42501",
        _ => stage == Stage::Connect,
    }
}

/// What an SQLSTATE is called, where its messages are not passed on.
fn condition(sql_state: &str) -> &'static str {
    match sql_state {
        "21000" => "a subquery returned more than one row (cardinality_violation)",
        "22000" => "data_exception",
        "22001" => "string_data_right_truncation",
        "22003" => "numeric_value_out_of_range",
        "22004" => "null_value_not_allowed",
        "22007" => "invalid_datetime_format",
        "22008" => "datetime_field_overflow",
        "22009" => "invalid_time_zone_displacement_value",
        "22011" => "substring_error",
        "22012" => "division_by_zero",
        "22015" => "interval_field_overflow",
        "22018" => "invalid_character_value_for_cast",
        "2201B" => "invalid_regular_expression",
        "2201E" => "invalid_argument_for_logarithm",
        "2201F" => "invalid_argument_for_power_function",
        "2201W" => "invalid_row_count_in_limit_clause",
        "2201X" => "invalid_row_count_in_result_offset_clause",
        "22021" => "character_not_in_repertoire",
        "22023" => "invalid_parameter_value",
        "22025" => "invalid_escape_sequence",
        "22026" => "string_data_length_mismatch",
        "2202E" => "array_subscript_error",
        "22030" => "duplicate_json_object_key_value",
        "22032" => "invalid_json_text",
        "22033" => "invalid_sql_json_subscript",
        "22035" => "no_sql_json_item",
        "22P01" => "floating_point_exception",
        "22P02" => "invalid_text_representation: a text is not of the form that its new type wants",
        "22P05" => "untranslatable_character",
        "2200M" | "2200N" => "invalid_xml",
        "23502" => "not_null_violation",
        "23514" => "check_violation",
        "38000" => "external_routine_exception",
        "P0001" => "raise_exception: a function raised an error",
        "P0002" => "no_data_found",
        "P0003" => "too_many_rows",
        "P0004" => "assert_failure",
        other => match other.get(..2).unwrap_or_default() {
            "22" => "data_exception",
            "23" => "integrity_constraint_violation",
            "42" | "0A" | "3F" => "a function that the query calls runs an invalid statement",
            "P0" | "38" | "39" => "a function raised an error",
            "XX" => "internal_error",
            _ => "the server refused it",
        },
    }
}

/// What the server said.
#[derive(Clone, PartialEq, Eq)]
pub struct ServerMessage {
    /// SQLSTATE.
    pub sql_state: String,
    /// The primary message.
    pub message: String,
    /// The hint.
    pub hint: Option<String>,
}

impl fmt::Debug for ServerMessage {
    /// Without the texts, which may hold values.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ServerMessage").field("sql_state", &self.sql_state).finish_non_exhaustive()
    }
}

impl ServerMessage {
    /// What the server said, if it is the server's error.
    #[must_use]
    pub fn of(error: &tokio_postgres::Error) -> Option<Self> {
        error.as_db_error().map(|said| Self {
            sql_state: said.code().code().to_owned(),
            message: said.message().to_owned(),
            hint: said.hint().map(str::to_owned),
        })
    }

    /// As an error; `what` says what failed, on what.
    #[must_use]
    pub fn to_error(&self, stage: Stage, what: &str) -> Error {
        let Self { sql_state, message, hint } = self;
        let reason = if is_too_large(sql_state, message, stage) {
            Reason::RowTooLarge
        } else {
            reason(sql_state, stage)
        };
        if !message_is_safe(sql_state, message, stage) {
            return Error::new(reason, format!("{what}: {} (SQLSTATE {sql_state})", condition(sql_state)))
                .with_sql_state(sql_state);
        }
        let error = Error::new(reason, format!("{what}: {message}")).with_sql_state(sql_state);
        match hint {
            // Such as `Perhaps you meant to reference the column "f.id"`.
            Some(hint) if stage == Stage::Plan && reason == Reason::InvalidQuery => error.with_hint(hint),
            _ => error,
        }
    }
}

/// The error for whatever the client says.
pub(super) fn classify(error: tokio_postgres::Error, stage: Stage, address: &Address, what: &str) -> Error {
    if let Some(said) = ServerMessage::of(&error) {
        return said.to_error(stage, &format!("{what} ({address})"));
    }
    // The client keeps the kind of its errors to itself; their text tells it.
    let kind = error.to_string();
    let cause = error.into_source();
    if kind.contains("TLS handshake") {
        return tls(address, cause);
    }
    if kind.contains("authentication") {
        let message =
            format!("the login to {address} failed: the server's side of the authentication is wrong");
        return with_cause(Error::new(Reason::AuthenticationFailed, message), cause);
    }
    if kind.contains("configuration") {
        return Error::new(
            Reason::AuthenticationFailed,
            format!("the login to {address} failed: {}", text(cause.as_deref())),
        );
    }
    let broken = ["communicating", "closed", "connecting", "timeout"].iter().any(|word| kind.contains(word));
    if !broken {
        let error = Error::new(Reason::InternalError, format!("{what} ({address}): {kind}"));
        return with_cause(error, cause);
    }
    let (reason, message) = match stage {
        Stage::Connect => {
            (Reason::DatabaseUnreachable, format!("{address} cannot be reached: {}", text(cause.as_deref())))
        }
        Stage::Plan | Stage::Run if cause.is_none() => {
            (Reason::ConnectionLost, format!("{what}: the connection to {address} is closed"))
        }
        Stage::Plan | Stage::Run => (
            Reason::ConnectionLost,
            format!("{what}: the connection to {address} broke: {}", text(cause.as_deref())),
        ),
    };
    with_cause(Error::new(reason, message), cause)
}

/// A TLS failure, with what to do about the usual ones.
fn tls(address: &Address, cause: Option<Box<dyn StdError + Send + Sync>>) -> Error {
    use rustls::CertificateError as Bad;

    let refused = cause.as_deref().and_then(|cause| {
        let inner = cause.downcast_ref::<io::Error>()?.get_ref()?;
        match inner.downcast_ref::<rustls::Error>()? {
            rustls::Error::InvalidCertificate(bad) => Some(bad),
            _ => None,
        }
    });
    let (message, hint) = match refused {
        Some(Bad::UnknownIssuer) => (
            "its certificate is not signed by an authority that is trusted".to_owned(),
            Some(
                "put the certificate of the authority that signed the server's into the Secret that spec.postgres.tls.caSecretRef of the ExportSource names",
            ),
        ),
        Some(Bad::NotValidForName | Bad::NotValidForNameContext { .. }) => (
            "its certificate is not for this host".to_owned(),
            Some(
                "give a name or address as spec.postgres.host of the ExportSource that the server's certificate has among its subject alternative names, or set tls.mode to VerifyCA",
            ),
        ),
        Some(Bad::Expired | Bad::ExpiredContext { .. }) => {
            ("its certificate has expired".to_owned(), Some("renew the server's certificate"))
        }
        Some(Bad::NotValidYet | Bad::NotValidYetContext { .. }) => (
            "its certificate is not valid yet".to_owned(),
            Some("check the clocks of the server and of the node"),
        ),
        Some(other) => (format!("its certificate is refused: {other}"), None),
        None => match text(cause.as_deref()) {
            no if no.contains("does not support TLS") => (
                "the server has no TLS".to_owned(),
                Some(
                    "turn TLS on at the server, or set spec.postgres.tls.mode of the ExportSource to Disable",
                ),
            ),
            other => (other, None),
        },
    };
    let error = Error::new(Reason::TlsFailed, format!("no TLS connection to {address}: {message}"));
    let error = match hint {
        Some(hint) => error.with_hint(hint),
        None => error,
    };
    with_cause(error, cause)
}

fn with_cause(error: Error, cause: Option<Box<dyn StdError + Send + Sync>>) -> Error {
    match cause {
        Some(cause) => error.with_source(cause),
        None => error,
    }
}

fn text(cause: Option<&(dyn StdError + Send + Sync + 'static)>) -> String {
    cause.map_or_else(|| "it closed the connection".to_owned(), ToString::to_string)
}

#[cfg(test)]
mod tests {
    use pgexport_api::reason::Reason;

    use super::{ServerMessage, Stage, reason};

    #[test]
    fn each_sqlstate_has_its_reason() {
        for (sql_state, stage, wanted) in [
            ("28P01", Stage::Connect, Reason::AuthenticationFailed),
            ("28000", Stage::Connect, Reason::AuthenticationFailed),
            ("3D000", Stage::Connect, Reason::DatabaseNotFound),
            ("42501", Stage::Connect, Reason::PermissionDenied),
            ("53300", Stage::Connect, Reason::TooManyConnections),
            ("57P03", Stage::Connect, Reason::ConnectionLost),
            ("08006", Stage::Connect, Reason::DatabaseUnreachable),
            ("55000", Stage::Connect, Reason::DatabaseError),
            ("42601", Stage::Plan, Reason::InvalidQuery),
            ("42P01", Stage::Plan, Reason::InvalidQuery),
            ("42703", Stage::Plan, Reason::InvalidQuery),
            ("0A000", Stage::Plan, Reason::InvalidQuery),
            ("3F000", Stage::Plan, Reason::InvalidQuery),
            ("42501", Stage::Plan, Reason::PermissionDenied),
            ("55P03", Stage::Plan, Reason::DatabaseError),
            ("22012", Stage::Run, Reason::DataError),
            ("22P02", Stage::Plan, Reason::DataError),
            ("21000", Stage::Run, Reason::DataError),
            ("P0001", Stage::Run, Reason::DataError),
            ("25006", Stage::Run, Reason::QueryWrites),
            ("57014", Stage::Run, Reason::QueryCancelled),
            ("40001", Stage::Run, Reason::QueryCancelled),
            ("57P01", Stage::Run, Reason::ConnectionLost),
            ("25P03", Stage::Run, Reason::ConnectionLost),
            ("08003", Stage::Run, Reason::ConnectionLost),
            ("53100", Stage::Run, Reason::DatabaseError),
            ("53200", Stage::Run, Reason::DatabaseError),
            ("54000", Stage::Run, Reason::RowTooLarge),
            ("54000", Stage::Plan, Reason::DatabaseError),
            ("58030", Stage::Run, Reason::DatabaseError),
            ("XX000", Stage::Run, Reason::DatabaseError),
            ("40P01", Stage::Run, Reason::DatabaseError),
            ("PX001", Stage::Run, Reason::WrongInstance),
            ("PX002", Stage::Run, Reason::ExtensionUnavailable),
            ("PX003", Stage::Run, Reason::ExtensionUnavailable),
            ("PX004", Stage::Run, Reason::StoreError),
            ("PX005", Stage::Run, Reason::RelationRewritten),
            ("", Stage::Run, Reason::DatabaseError),
        ] {
            assert_eq!(reason(sql_state, stage), wanted, "{sql_state} {stage:?}");
        }
    }

    #[test]
    fn only_allocations_that_are_too_large_are_told_from_other_internal_errors() {
        for (message, stage, wanted) in [
            ("invalid memory alloc request size 1200000004", Stage::Run, Reason::RowTooLarge),
            ("invalid memory alloc request size 1200000004", Stage::Plan, Reason::DatabaseError),
            ("could not open relation with OID 7", Stage::Run, Reason::DatabaseError),
        ] {
            let said =
                ServerMessage { sql_state: "XX000".to_owned(), message: message.to_owned(), hint: None };
            let error = said.to_error(stage, "the query failed");
            assert_eq!(error.reason(), wanted, "{message} {stage:?}");
            assert!(error.to_string().contains(message), "{error}");
        }
    }

    #[test]
    fn messages_that_may_hold_values_are_replaced() {
        let said = |sql_state: &str| ServerMessage {
            sql_state: sql_state.to_owned(),
            message: "hunter2".to_owned(),
            hint: Some("hunter3".to_owned()),
        };
        for (sql_state, stage, passes) in [
            ("22P02", Stage::Run, false),
            ("22P02", Stage::Plan, false),
            ("23514", Stage::Run, false),
            ("P0001", Stage::Run, false),
            ("P0001", Stage::Plan, false),
            ("38000", Stage::Run, false),
            ("72000", Stage::Run, false),
            ("42P01", Stage::Run, false),
            ("42P01", Stage::Plan, true),
            ("42501", Stage::Run, true),
            ("57014", Stage::Run, true),
            ("28P01", Stage::Connect, true),
            ("XX000", Stage::Run, false),
            ("XX000", Stage::Plan, true),
            ("XX001", Stage::Run, true),
        ] {
            let failure = said(sql_state).to_error(stage, "the query").to_failure();
            assert_eq!(failure.message.contains("hunter2"), passes, "{sql_state} {stage:?}");
            assert_eq!(failure.sql_state.as_deref(), Some(sql_state));
            let hinted = failure.hint.is_some_and(|hint| hint.contains("hunter3"));
            assert_eq!(hinted, sql_state == "42P01" && passes, "{sql_state} {stage:?}");
            assert!(!format!("{:?}", said(sql_state)).contains("hunter"));
        }
    }
}
