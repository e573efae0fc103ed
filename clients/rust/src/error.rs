use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tonic::Code;

/// The kinds of errors, by what a caller does about them.
///
/// A later version may have more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// Correct the request: [`Error::violations`] name the field.
    InvalidRequest,
    /// Leave out the runtime model, or evict the server first: it runs another one.
    RuntimeModelConflict,
    /// Wait, or evict with force: the server is held or has requests in flight. [`Error::metadata`]
    /// has the numbers `requests` and `holds`, and the labels `holders`.
    ServerInUse,
    /// Install or configure the runtime, where the service is.
    RuntimeUnavailable,
    /// Name another model: the runtime refused this one.
    ModelRejected,
    /// Name a model of the catalogue: the service serves no other.
    ModelUnknown,
    /// Pull the model first, or allow the download: its files are not there.
    ModelNotOnDisk,
    /// Trust the model's code in the service's configuration; [`Error::metadata`] has its `files`.
    CodeNotTrusted,
    /// Retry: the download failed.
    FetchFailed,
    /// Raise the budget, or name a smaller model: this one can never fit. [`Error::metadata`] has
    /// `needed_bytes` and `budget_bytes`.
    ModelTooLarge,
    /// Retry: the model did not fit for as long as it could wait.
    PoolFull,
    /// Retry: the queue is full.
    QueueFull,
    /// Mend the service's configuration: a reload changed nothing.
    ConfigInvalid,
    /// Retry: the start stood still, or took longer than its limit.
    StartTimeout,
    /// Retry: the server's process died, [`Error::last_lines`] say why.
    StartFailed,
    /// Mend the cause, or evict the model to try at once: its processes died too often. After
    /// [`Error::retry_after`] the service tries once more.
    CrashLoop,
    /// The model was evicted while the call waited for it, or while it was held.
    Evicted,
    /// Retry: the service ends, another may come.
    ShuttingDown,
    /// Retry: the service has just started and still finds its servers.
    Recovering,
    /// Begin the watch again, without a revision: the history does not reach back to this one.
    RevisionCompacted,
    /// Start the model first, or ask for another generation: no such log is kept.
    LogNotFound,
    /// Retry: as many streams follow logs as may.
    TooManyFollowers,
    /// Take back pins that are not needed: the service remembers no more.
    TooManyPins,
    /// Send a token: the service does not know who calls, and needs one by this address.
    TokenMissing,
    /// Ask for another token: this one is mistyped, expired or was revoked.
    TokenUnknown,
    /// Have a name of the certificate added to the service's configuration: none is known.
    CertificateUnknown,
    /// Ask for a token that allows the call; [`Error::metadata`] has the scope that it needs.
    ScopeMissing,
    /// Release something, or retry: a limit of the token is reached.
    QuotaExceeded,
    /// Try again: the front of the fleet sees no member that it may ask now.
    PoolUnreachable,
    /// Call the front of the fleet: this service is a member, and starts servers for it only.
    FleetOnly,
    /// Report it, with [`Error::request_id`]: it is a bug of the service.
    Internal,
    /// The service cannot be reached, the connection to it broke, or it dropped the call.
    PoolUnavailable,
    /// Do what the message says: no pool service is running, and none could be started.
    ServiceNotStarted,
    /// The caller's time limit is over; the service goes on with what it has begun.
    DeadlineExceeded,
    /// The hold was closed.
    Cancelled,
    /// A reason that this version does not know ([`Error::reason_name`]), or none at all.
    Other,
}

impl Reason {
    /// The reason with this name on the wire.
    pub(crate) fn of_name(name: &str) -> Self {
        match name {
            "RUNTIME_MODEL_CONFLICT" => Self::RuntimeModelConflict,
            "SERVER_IN_USE" => Self::ServerInUse,
            "RUNTIME_UNAVAILABLE" => Self::RuntimeUnavailable,
            "MODEL_REJECTED" => Self::ModelRejected,
            "MODEL_UNKNOWN" => Self::ModelUnknown,
            "MODEL_NOT_ON_DISK" => Self::ModelNotOnDisk,
            "CODE_NOT_TRUSTED" => Self::CodeNotTrusted,
            "FETCH_FAILED" => Self::FetchFailed,
            "MODEL_TOO_LARGE" => Self::ModelTooLarge,
            "POOL_FULL" => Self::PoolFull,
            "QUEUE_FULL" => Self::QueueFull,
            "CONFIG_INVALID" => Self::ConfigInvalid,
            "START_TIMEOUT" => Self::StartTimeout,
            "START_FAILED" => Self::StartFailed,
            "CRASH_LOOP" => Self::CrashLoop,
            "EVICTED" => Self::Evicted,
            "SHUTTING_DOWN" => Self::ShuttingDown,
            "RECOVERING" => Self::Recovering,
            "REVISION_COMPACTED" => Self::RevisionCompacted,
            "LOG_NOT_FOUND" => Self::LogNotFound,
            "TOO_MANY_FOLLOWERS" => Self::TooManyFollowers,
            "TOO_MANY_PINS" => Self::TooManyPins,
            "TOKEN_MISSING" => Self::TokenMissing,
            "TOKEN_UNKNOWN" => Self::TokenUnknown,
            "CERTIFICATE_UNKNOWN" => Self::CertificateUnknown,
            "SCOPE_MISSING" => Self::ScopeMissing,
            "QUOTA_EXCEEDED" => Self::QuotaExceeded,
            "POOL_UNREACHABLE" => Self::PoolUnreachable,
            "FLEET_ONLY" => Self::FleetOnly,
            "INTERNAL" => Self::Internal,
            invalid if invalid.starts_with("INVALID_") => Self::InvalidRequest,
            _ => Self::Other,
        }
    }
}

/// One thing that is wrong with a request or with the pool's state.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Violation {
    /// The field of the request, or the thing that the state belongs to.
    pub subject: String,
    /// What is wrong, in words.
    pub description: String,
    /// An identifier for programs; empty if there is none.
    pub kind: String,
}

/// A call that failed. Displayed it says why, in words; a program uses [`Error::reason`].
#[derive(Clone)]
pub struct Error(Arc<Parts>);

#[derive(Clone)]
pub(crate) struct Parts {
    pub(crate) reason: Reason,
    pub(crate) reason_name: String,
    pub(crate) code: Code,
    pub(crate) message: String,
    pub(crate) metadata: BTreeMap<String, String>,
    pub(crate) retry_after: Option<Duration>,
    pub(crate) last_lines: Vec<String>,
    pub(crate) violations: Vec<Violation>,
    pub(crate) request_id: String,
    pub(crate) cause: Option<Error>,
}

impl Error {
    /// The kind of the error, for programs.
    #[must_use]
    pub fn reason(&self) -> Reason {
        self.0.reason
    }

    /// The service's reason, such as `INVALID_MODEL`; empty if it gave none.
    #[must_use]
    pub fn reason_name(&self) -> &str {
        &self.0.reason_name
    }

    /// The code of gRPC.
    #[must_use]
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// What could not be done, why, and what to do about it, in words.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The values that belong to the reason; see [`Reason`].
    #[must_use]
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.0.metadata
    }

    /// The delay after which another attempt may succeed; `None` if the service named none.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// The last lines that the model's server wrote, oldest first.
    #[must_use]
    pub fn last_lines(&self) -> &[String] {
        &self.0.last_lines
    }

    /// What exactly is wrong with the request or with the pool's state.
    #[must_use]
    pub fn violations(&self) -> &[Violation] {
        &self.0.violations
    }

    /// The request id in the service's log; empty unless it is [`Reason::Internal`].
    #[must_use]
    pub fn request_id(&self) -> &str {
        &self.0.request_id
    }

    /// An error without a reason of the service.
    pub(crate) fn plain(reason: Reason, code: Code, message: String) -> Self {
        Self::from(Parts {
            reason,
            reason_name: String::new(),
            code,
            message,
            metadata: BTreeMap::new(),
            retry_after: None,
            last_lines: Vec::new(),
            violations: Vec::new(),
            request_id: String::new(),
            cause: None,
        })
    }

    /// The error for an argument that is not valid.
    pub(crate) fn invalid(field: &str, message: String) -> Self {
        let violation = Violation {
            subject: field.to_owned(),
            description: message.clone(),
            kind: String::new(),
        };
        Self::plain(Reason::InvalidRequest, Code::InvalidArgument, message)
            .changed(|parts| parts.violations.push(violation))
    }

    /// The same error, with another one as its source.
    pub(crate) fn caused_by(self, cause: Option<Error>) -> Self {
        self.changed(|parts| parts.cause = cause)
    }

    /// The same error, with this delay from the service.
    #[cfg(test)]
    pub(crate) fn retried_after(self, delay: Option<Duration>) -> Self {
        self.changed(|parts| parts.retry_after = delay)
    }

    fn changed(self, change: impl FnOnce(&mut Parts)) -> Self {
        let mut parts = Arc::unwrap_or_clone(self.0);
        change(&mut parts);
        Self::from(parts)
    }
}

impl From<Parts> for Error {
    fn from(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    /// Leaves out empty fields, since `main` shows this to people.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = &*self.0;
        let mut shown = formatter.debug_struct("Error");
        shown.field("reason", &parts.reason).field("message", &parts.message);
        if !parts.reason_name.is_empty() {
            shown.field("reason_name", &parts.reason_name);
        }
        if !parts.metadata.is_empty() {
            shown.field("metadata", &parts.metadata);
        }
        if let Some(delay) = parts.retry_after {
            shown.field("retry_after", &delay);
        }
        if !parts.last_lines.is_empty() {
            shown.field("last_lines", &parts.last_lines);
        }
        if !parts.violations.is_empty() {
            shown.field("violations", &parts.violations);
        }
        if !parts.request_id.is_empty() {
            shown.field("request_id", &parts.request_id);
        }
        if let Some(cause) = &parts.cause {
            shown.field("cause", cause);
        }
        shown.finish_non_exhaustive()
    }
}

impl StdError for Error {
    /// The failure before, if a time limit ended the attempts.
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.cause.as_ref().map(|cause| cause as _)
    }
}
