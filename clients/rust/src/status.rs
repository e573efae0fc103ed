//! From the status of a failed call to a typed error, by its reason, never by its message.

use std::error::Error as StdError;
use std::time::Duration;

use prost::Message;
use tonic::{Code, Status};
use tonic_types::pb;

use crate::error::{Error, Parts, Reason, Violation};

const DOMAIN: &str = "pool_service";

/// The typed error of a failed call to `address`, with that timeout.
pub(crate) fn error_of(status: &Status, address: &str, timeout: Option<Duration>) -> Error {
    let rich = rich_status(status);
    let ours = all::<pb::ErrorInfo>(&rich, "ErrorInfo").find(|info| info.domain == DOMAIN);
    match ours {
        Some(info) if !info.reason.is_empty() => with_reason(status.code(), &rich, info),
        _ => without_reason(status, address, timeout),
    }
}

fn with_reason(code: Code, rich: &pb::Status, info: pb::ErrorInfo) -> Error {
    let debug = first::<pb::DebugInfo>(rich, "DebugInfo");
    let request = first::<pb::RequestInfo>(rich, "RequestInfo");
    Error::from(Parts {
        reason: Reason::of_name(&info.reason),
        reason_name: info.reason,
        code,
        message: rich.message.clone(),
        metadata: info.metadata.into_iter().collect(),
        retry_after: first(rich, "RetryInfo").map(retry_delay),
        last_lines: debug.map(|info| info.stack_entries).unwrap_or_default(),
        violations: violations(rich),
        request_id: request.map(|info| info.request_id).unwrap_or_default(),
        cause: None,
    })
}

/// The rich status; an empty one if there is none that agrees with the plain one.
fn rich_status(status: &Status) -> pb::Status {
    pb::Status::decode(status.details())
        .ok()
        .filter(|rich| rich.code == i32::from(status.code()))
        .unwrap_or_default()
}

fn first<M: Message + Default>(rich: &pb::Status, name: &str) -> Option<M> {
    all(rich, name).next()
}

fn all<M: Message + Default>(rich: &pb::Status, name: &str) -> impl Iterator<Item = M> {
    let kind = format!("google.rpc.{name}");
    rich.details
        .iter()
        .filter(move |detail| detail.type_url.rsplit('/').next() == Some(&kind))
        .filter_map(|detail| M::decode(detail.value.as_slice()).ok())
}

/// An absent or negative delay means at once.
fn retry_delay(info: pb::RetryInfo) -> Duration {
    info.retry_delay.and_then(|delay| delay.try_into().ok()).unwrap_or_default()
}

fn violations(rich: &pb::Status) -> Vec<Violation> {
    let fields = all::<pb::BadRequest>(rich, "BadRequest")
        .flat_map(|bad| bad.field_violations)
        .map(|it| Violation { subject: it.field, description: it.description, kind: it.reason });
    let states = all::<pb::PreconditionFailure>(rich, "PreconditionFailure")
        .flat_map(|failure| failure.violations)
        .map(|it| Violation { subject: it.subject, description: it.description, kind: it.r#type });
    let quotas = all::<pb::QuotaFailure>(rich, "QuotaFailure")
        .flat_map(|failure| failure.violations)
        .map(|it| Violation {
            subject: it.subject,
            description: it.description,
            kind: String::new(),
        });
    fields.chain(states).chain(quotas).collect()
}

/// The error of a status from gRPC itself, or from a program that is no pool service.
fn without_reason(status: &Status, address: &str, timeout: Option<Duration>) -> Error {
    match code_of(status) {
        Code::Unavailable => Error::plain(
            Reason::PoolUnavailable,
            Code::Unavailable,
            format!("cannot reach the pool service at {address}: {}", essence(status)),
        ),
        Code::DeadlineExceeded => late(timeout),
        // gRPC's servers end calls like this that they have not begun, when they stop or are
        // overloaded.
        Code::Cancelled => Error::plain(
            Reason::PoolUnavailable,
            Code::Unavailable,
            format!(
                "the pool service at {address} dropped the call: \
                 it ends, or has more calls waiting than it takes"
            ),
        ),
        Code::Unimplemented => Error::plain(
            Reason::Other,
            Code::Unimplemented,
            format!(
                "what answers at {address} does not know this call: \
                 it is another program, or an older pool service"
            ),
        ),
        code => Error::plain(
            Reason::Other,
            code,
            format!("the call to {address} failed ({code:?}): {}", essence(status)),
        ),
    }
}

/// The error of a call whose caller gave up.
pub(crate) fn late(timeout: Option<Duration>) -> Error {
    let limit = timeout.map_or("in time".to_owned(), |limit| format!("within {limit:?}"));
    Error::plain(
        Reason::DeadlineExceeded,
        Code::DeadlineExceeded,
        format!("no answer {limit}; what the service has begun goes on"),
    )
}

/// The error for an answer that no pool service gives.
pub(crate) fn no_pool_service(address: &str, what: &str) -> Error {
    Error::plain(
        Reason::Other,
        Code::Internal,
        format!("what answers at {address} is no pool service, or is broken: {what}"),
    )
}

/// The error for an endless stream that the service ended without an error.
pub(crate) fn ended() -> Error {
    Error::plain(
        Reason::PoolUnavailable,
        Code::Unavailable,
        "the service ended the stream".to_owned(),
    )
}

/// The code by gRPC's rules for all languages. A status of the service has no source; tonic's own
/// has one, and a code that depends on tonic's features.
pub(crate) fn code_of(status: &Status) -> Code {
    let mut source = status.source();
    if source.is_none() {
        return status.code();
    }
    while let Some(error) = source {
        if error.is::<tonic::TimeoutExpired>() {
            return Code::DeadlineExceeded;
        }
        if let Some(reset) = error.downcast_ref::<h2::Error>().filter(|error| is_reset(error)) {
            return code_of_reset(reset);
        }
        source = error.source();
    }
    Code::Unavailable
}

/// Whether the service ended this one call, and not the connection.
fn is_reset(error: &h2::Error) -> bool {
    error.is_reset() && error.is_remote()
}

/// As in gRPC's mapping of HTTP/2 errors to its codes.
fn code_of_reset(error: &h2::Error) -> Code {
    match error.reason() {
        Some(h2::Reason::REFUSED_STREAM) => Code::Unavailable,
        Some(h2::Reason::CANCEL) => Code::Cancelled,
        Some(h2::Reason::ENHANCE_YOUR_CALM) => Code::ResourceExhausted,
        Some(h2::Reason::INADEQUATE_SECURITY) => Code::PermissionDenied,
        _ => Code::Internal,
    }
}

/// Tonic writes a chain of causes; a person can act on the last.
fn essence(status: &Status) -> String {
    let mut last: Option<&dyn StdError> = status.source();
    while let Some(deeper) = last.and_then(StdError::source) {
        last = Some(deeper);
    }
    let words = last.map_or_else(|| status.message().to_owned(), ToString::to_string);
    if words.is_empty() { "no details".to_owned() } else { words }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_of_the_transport_is_a_service_that_cannot_be_reached() {
        let cause = std::io::Error::new(std::io::ErrorKind::BrokenPipe, "it broke");
        let error = error_of(&Status::from_error(Box::new(cause)), "there:1", None);
        assert_eq!((error.reason(), error.code()), (Reason::PoolUnavailable, Code::Unavailable));
        assert_eq!(error.to_string(), "cannot reach the pool service at there:1: it broke");
    }

    #[test]
    fn a_status_of_the_service_keeps_its_code() {
        let error = error_of(&Status::data_loss("gone"), "there:1", None);
        assert_eq!((error.reason(), error.code()), (Reason::Other, Code::DataLoss));
        assert_eq!(error.to_string(), "the call to there:1 failed (DataLoss): gone");
    }

    #[test]
    fn a_call_that_was_reset_has_the_code_that_grpc_gives_it() {
        for (reason, code) in [
            (h2::Reason::REFUSED_STREAM, Code::Unavailable),
            (h2::Reason::CANCEL, Code::Cancelled),
            (h2::Reason::ENHANCE_YOUR_CALM, Code::ResourceExhausted),
            (h2::Reason::INTERNAL_ERROR, Code::Internal),
        ] {
            assert_eq!(code_of_reset(&h2::Error::from(reason)), code);
        }
    }

    #[test]
    fn the_limit_that_tonic_keeps_is_the_callers() {
        let status = Status::from_error(Box::new(tonic::TimeoutExpired(())));
        let error = error_of(&status, "there:1", Some(Duration::from_secs(2)));
        assert_eq!(error.reason(), Reason::DeadlineExceeded);
        assert!(error.to_string().contains("within 2s"));
    }

    #[test]
    fn details_that_contradict_the_code_are_not_believed() {
        let info =
            pb::ErrorInfo { reason: "EVICTED".into(), domain: DOMAIN.into(), ..Default::default() };
        let details = vec![prost_types::Any {
            type_url: "type.googleapis.com/google.rpc.ErrorInfo".into(),
            value: info.encode_to_vec(),
        }];
        let rich = pb::Status { code: 10, message: String::new(), details };
        let of = |code| {
            let status = Status::with_details(code, "", rich.encode_to_vec().into());
            error_of(&status, "there:1", None).reason()
        };
        assert_eq!(of(Code::Aborted), Reason::Evicted);
        assert_eq!(of(Code::Internal), Reason::Other);
    }
}
