//! The description of a model. A time that the service did not send is `None`.

use std::time::{Duration, SystemTime};

use crate::open_enum::open_enum;
use crate::types::{Exit, Expectation, Server, ServerRole, ServerState};

open_enum! {
    /// How a process came to be.
    RunOrigin {
        /// There is no process yet.
        Unspecified = 0,
        /// It is a new process.
        Cold = 1,
        /// It was a standby, which had imported everything.
        Standby = 2,
        /// An earlier service started it.
        Adopted = 3,
    }
}

/// All that the service knows about a model.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Description {
    /// The name of the model, also if you named an alias.
    pub model: String,
    /// Its other names.
    pub aliases: Vec<String>,
    /// The configuration lists it.
    pub listed: bool,
    /// The settings that its next server gets.
    pub settings: Vec<Setting>,
    /// Its servers, the one that callers get first.
    pub servers: Vec<Server>,
    /// Bytes of memory that its next server is expected to need at most; 0 if unknown.
    pub expected_bytes: u64,
    /// The source of that expectation.
    pub expected_by: Expectation,
    /// Whether all files that it needs are on the service's machine; `None` if unknown.
    pub on_disk: Option<bool>,
    /// Bytes that its weights take on the service's machine.
    pub disk_bytes: u64,
    /// How long earlier loads took; `None` if unknown.
    pub usual_load: Option<Duration>,
    /// Why it could not be started, in words; empty if nothing is known to be wrong.
    pub problem: String,
    /// Its last processes, oldest first, of the present service.
    pub runs: Vec<Run>,
    /// How its last process ended, if it has no server.
    pub last_exit: Option<Exit>,
    /// Who holds it, oldest first; may be cut, see `holds`.
    pub holders: Vec<Holder>,
    /// How many hold it.
    pub holds: u32,
    /// The calls that wait for it, oldest first; may be cut, see `waiting_calls`.
    pub waiting: Vec<WaitingCall>,
    /// How many calls wait for it.
    pub waiting_calls: u32,
    /// When its server was queued, if it is; `servers` has why it waits, and its place.
    pub queue_time: Option<SystemTime>,
    /// The servers of all models that would be stopped for another model, the next one first; may
    /// be cut, see `eviction_candidates`. How much a model needs can change the choice.
    pub next_to_go: Vec<EvictionCandidate>,
    /// The place of its own server among these, from 1; 0 if it is not among them.
    pub eviction_position: u32,
    /// How many servers could be stopped.
    pub eviction_candidates: u32,
    /// Why its own server is not among these, in words; empty if it is, or if there is none.
    pub kept_because: String,
    /// When its last processes died, if that was within the crash window.
    pub crash_times: Vec<SystemTime>,
    /// So many crashes within the crash window are a crash loop.
    pub crash_limit: u32,
    /// The crash window.
    pub crash_window: Duration,
    /// When it may be started again, if not yet.
    pub retry_time: Option<SystemTime>,
    /// The reason with which calls fail until then; empty if they wait.
    pub failure_reason: String,
    /// The message of that error.
    pub failure_message: String,
    /// The last decisions about it, oldest first.
    pub decisions: Vec<Decision>,
}

/// One setting of a model's next server.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Setting {
    /// Its key in the configuration.
    pub key: String,
    /// Its value as text, cut if it is long; what is secret is left out.
    pub value: String,
    /// Where the value comes from, in words.
    pub source: String,
    /// The value that the present server has, if it is another one.
    pub running: String,
}

/// One generation of a model, with the times of its stages. A time is `None` if it has not come, or
/// if it is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Run {
    /// The generation.
    pub generation: u64,
    /// How its process came to be.
    pub origin: RunOrigin,
    /// When it was requested.
    pub create_time: Option<SystemTime>,
    /// When its turn in the queue came.
    pub admit_time: Option<SystemTime>,
    /// When its process was started.
    pub start_time: Option<SystemTime>,
    /// When it became READY.
    pub ready_time: Option<SystemTime>,
    /// When a stop of it began.
    pub stop_time: Option<SystemTime>,
    /// When its process had ended.
    pub end_time: Option<SystemTime>,
    /// How its process ended, if it did, without its last lines.
    pub exit: Option<Exit>,
    /// The most bytes of memory that it took.
    pub peak_bytes: u64,
    /// How long its load took, without the time for which the machine was suspended; `None` if it
    /// has not ended, or if it is not known.
    pub load: Option<Duration>,
}

/// A stream that holds a model.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Holder {
    /// The label that the caller gave; may be empty.
    pub label: String,
    /// When the hold began.
    pub since: Option<SystemTime>,
}

/// A call that waits for a model to be READY.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WaitingCall {
    /// When it came.
    pub since: Option<SystemTime>,
    /// It is a hold.
    pub hold: bool,
    /// The label of that hold; may be empty.
    pub holder: String,
    /// It is no call: the service itself wants the model, as it is pinned or preloaded.
    pub own: bool,
}

/// A server that may be stopped for another model.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct EvictionCandidate {
    /// Its model.
    pub model: String,
    /// Its generation.
    pub generation: u64,
    /// It was busy when last checked: it is stopped only for a model that waits for long, and once
    /// it is unused.
    pub busy: bool,
    /// Bytes of memory that its end frees.
    pub freed_bytes: u64,
    /// Its retention value in seconds: the time that its next load would take, times the weighed
    /// number of its recent uses. The lowest by the byte goes first.
    pub retention_seconds: f64,
    /// The end of its grace period, before which others go; `None` if the service did not say.
    pub reside_time: Option<SystemTime>,
}

/// A decision of the service about a server.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Decision {
    /// When it was made.
    pub time: Option<SystemTime>,
    /// The generation of the server.
    pub generation: u64,
    /// The role of the server.
    pub role: ServerRole,
    /// Its state before; unspecified: it was not in the pool.
    pub before: ServerState,
    /// Its state after; unspecified: it is not in the pool. Equal to `before` if only what it waits
    /// for has changed.
    pub after: ServerState,
    /// Why, in words.
    pub why: String,
    /// The event that led to it, by the name that it has in the service.
    pub event: String,
    /// The figures, if it is a start that fits or a choice of servers to stop.
    pub choice: Option<Choice>,
}

/// The figures of a decision.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Choice {
    /// Bytes that the model needs.
    pub needed_bytes: u64,
    /// The memory budget in bytes; `None`: no limit.
    pub budget_bytes: Option<u64>,
    /// Bytes that the servers with a process are expected to need.
    pub reserved_bytes: u64,
    /// Bytes that were available on the machine; `None` if unknown.
    pub available_bytes: Option<u64>,
    /// The servers that are stopped for it; may be cut.
    pub chosen: Vec<EvictionCandidate>,
    /// Servers that stay, those with the lowest retention value first; may be cut.
    pub passed_over: Vec<EvictionCandidate>,
}
