//! The service's answers, as plain values. A time that the service did not send is `None`.

use std::fmt;
use std::time::{Duration, SystemTime};

use crate::open_enum::open_enum;

open_enum! {
    /// What a server is doing.
    ServerState {
        /// Never sent.
        Unspecified = 0,
        /// Waits in the queue to be started; its files may be downloaded meanwhile.
        Queued = 1,
        /// Its process is being started or loads the model.
        Starting = 2,
        /// Its endpoint answers.
        Ready = 3,
        /// Drains, or its process is being ended.
        Stopping = 4,
        /// It has no process: the last one died or did not become ready.
        Failed = 5,
        /// Its process died and a caller waits: it is started again in a moment.
        BackingOff = 6,
    }
}

open_enum! {
    /// What a server is to its model.
    ServerRole {
        /// Never sent.
        Unspecified = 0,
        /// Callers of the model get this server. A model has at most one.
        Current = 1,
        /// Starts beside the current server, and takes its place once it is READY.
        Successor = 2,
        /// Was the current server; goes on until nothing is in flight on it.
        Superseded = 3,
        /// A process of an earlier service without a record; it is drained and ended.
        Orphan = 4,
    }
}

open_enum! {
    /// Why a process ended.
    ExitCause {
        /// Never sent.
        Unspecified = 0,
        /// It died by itself.
        Crashed = 1,
        /// A caller evicted it.
        Evicted = 2,
        /// The pool stopped it: it was unused for its keep alive.
        Idle = 3,
        /// The pool stopped it: its start stood still, or took longer than its start limit.
        StartTimeout = 4,
        /// The operator stopped the service.
        Shutdown = 5,
        /// The pool stopped it: it was READY and no longer served.
        Wedged = 6,
        /// The guard stopped it: the service was gone and no other came.
        Orphaned = 7,
        /// The pool stopped it for another model: it was unused.
        Preempted = 8,
        /// The operator changed its configuration.
        Reloaded = 9,
        /// The pool stopped it: it had grown past its memory limit.
        MemoryLimit = 10,
    }
}

open_enum! {
    /// The source of an expectation of memory, the most reliable first.
    Expectation {
        /// Not estimated yet.
        Unspecified = 0,
        /// Declared in the configuration.
        Declared = 1,
        /// Measured, now or in earlier runs.
        Observed = 2,
        /// Estimated from the size of the weights on disk.
        Weights = 3,
        /// A guess: nothing is known about the model.
        Guess = 4,
    }
}

/// How long a server stays when it is unused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeepAlive {
    /// For this long; zero: it is stopped as soon as it is unused.
    For(Duration),
    /// Until it is evicted.
    Forever,
}

impl From<Duration> for KeepAlive {
    fn from(duration: Duration) -> Self {
        Self::For(duration)
    }
}

/// One supervised server. Model and generation together are its key.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Server {
    /// The caller's name for the model; empty for an orphan.
    pub model: String,
    /// What the runtime is asked to load: a Hugging Face id or a local directory.
    pub runtime_model: String,
    /// What it is doing.
    pub state: ServerState,
    /// Counts the processes of this model, from 1. For a server that waits to start it is the
    /// number of the next process; for an orphan, its process id.
    pub generation: u64,
    /// What it is to its model.
    pub role: ServerRole,
    /// Base URL of the server; empty unless it is READY.
    pub endpoint: String,
    /// The name that an inference request must have as its model; empty unless the server is READY.
    pub served_model_name: String,
    /// The name that a request to `/v1/embeddings` must have as its model; empty if the server has
    /// no embedding model, or is not READY.
    pub embedding_model_name: String,
    /// The process id; 0 while there is no process.
    pub pid: u32,
    /// When this generation was requested.
    pub create_time: Option<SystemTime>,
    /// When its process was started.
    pub start_time: Option<SystemTime>,
    /// When it became READY.
    pub ready_time: Option<SystemTime>,
    /// The last known use.
    pub last_use_time: Option<SystemTime>,
    /// When it will be evicted if it stays unused; `None`: never, or not in this state.
    pub expire_time: Option<SystemTime>,
    /// When it is expected to be READY, while it loads; `None` if unknown.
    pub expected_ready_time: Option<SystemTime>,
    /// Why it is in this state, in words; empty if there is nothing to add.
    pub detail: String,
    /// How the last process of this model ended, if one did.
    pub last_exit: Option<Exit>,
    /// The log file of the present or last process, on the service's machine.
    pub log_path: String,
    /// Its place in the queue, from 1; 0 if it does not wait.
    pub queue_position: u32,
    /// The progress of its download (QUEUED) or load (STARTING), from 0 to 1; `None` if unknown.
    pub progress: Option<f64>,
    /// Bytes of memory that it is expected to need at most; 0 if unknown.
    pub expected_bytes: u64,
    /// The source of that expectation.
    pub expected_by: Expectation,
    /// Bytes of memory that it took at the last memory sample; 0 before the first.
    pub footprint_bytes: u64,
    /// The most bytes that it took at any memory sample; 0 before the first.
    pub peak_bytes: u64,
    /// The number of its open holds.
    pub holds: u32,
    /// It is stopped neither for being unused nor for other models.
    pub pinned: bool,
    /// Its settings are no longer those of the configuration; it is stopped when it is next unused.
    pub outdated: bool,
    /// What it keeps of its computed prompts for the next server of its model; `None`: nothing.
    pub prompt_cache: Option<PromptCache>,
    /// The member of a fleet whose server it is; empty outside a fleet.
    pub host: String,
    /// The key that requests to the endpoint show, as `Authorization: Bearer KEY`. Empty: it asks
    /// for none, or this value is of another call than `ensure` or `hold`.
    pub api_key: Secret,
}

/// A text that [`Debug`](fmt::Debug) does not show.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The text itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(if self.is_empty() { "(none)" } else { "***" })
    }
}

/// The computed prompts that a server keeps for the next server of its model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PromptCache {
    /// Bytes on disk of what was there when the server was started.
    pub disk_bytes: u64,
    /// Tokens of the prompts that were there.
    pub tokens: u64,
    /// Tokens of prompts that the server did not have to compute, by its last probe.
    pub reused_tokens: u64,
    /// Bytes that its prompts may take, on disk and in its memory.
    pub max_bytes: u64,
}

impl Server {
    /// Returns the base URL for an OpenAI client: the endpoint with `/v1`; empty without one.
    #[must_use]
    pub fn base_url(&self) -> String {
        if self.endpoint.is_empty() { String::new() } else { format!("{}/v1", self.endpoint) }
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.state == ServerState::Ready
    }

    /// Whether it is READY, and of the same process as the other one.
    pub(crate) fn is_same_ready(&self, other: &Self) -> bool {
        self.is_ready() && self.is_same_process(other)
    }

    /// Whether both are states of one process.
    pub(crate) fn is_same_process(&self, other: &Self) -> bool {
        self.generation == other.generation && self.pid == other.pid
    }
}

/// How a process ended. Without code and signal: unknown.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Exit {
    /// The generation of the process.
    pub generation: u64,
    /// Its exit code, if it had one.
    pub code: Option<i32>,
    /// The signal that ended it, if one did.
    pub signal: Option<i32>,
    /// Why it ended.
    pub cause: ExitCause,
    /// What happened, in words.
    pub message: String,
    /// The last lines that it wrote, oldest first.
    pub last_lines: Vec<String>,
    /// When it ended.
    pub time: Option<SystemTime>,
}

/// The result of `ensure`.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Ensured {
    /// The READY server.
    pub server: Server,
    /// Whether this call started it.
    pub started: bool,
}

/// The result of a lookup.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Found {
    /// The server that callers of the model get; `None` if there is none. Without its key.
    pub server: Option<Server>,
    /// Whether this very process has answered a check that began after the call. False without
    /// [`check`](crate::GetCall::check), if it is not READY, or busy beyond its probe timeout.
    pub answers: bool,
}

/// A server that was stopped.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct EvictedServer {
    /// Its last state, with the end of its process in `last_exit`.
    pub server: Server,
    /// It did not end within its drain timeout and was killed; its requests in flight were lost.
    pub killed: bool,
}

/// Some servers in the order of their models, as they were at one revision.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Page {
    /// The servers of this page.
    pub servers: Vec<Server>,
    /// The revision of the last change that the page includes: a watch can resume after it.
    pub revision: u64,
    /// Totals of the whole pool, on every page.
    pub totals: Totals,
    /// What the service cannot do at present, in words; empty if all is well.
    pub notices: Vec<String>,
}

/// Counts over the whole pool, and its memory.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Totals {
    /// Servers in any state.
    pub servers: u32,
    /// Servers that are QUEUED.
    pub queued: u32,
    /// Servers that are STARTING.
    pub starting: u32,
    /// Servers that are READY.
    pub ready: u32,
    /// Servers that are STOPPING.
    pub stopping: u32,
    /// Servers that are FAILED.
    pub failed: u32,
    /// Servers that are `BACKING_OFF`.
    pub backing_off: u32,
    /// Calls of `ensure` that wait now.
    pub waiting_calls: u32,
    /// Bytes that all servers together may need; `None`: no limit.
    pub memory_budget_bytes: Option<u64>,
    /// Bytes that the servers with a process are expected to need.
    pub memory_reserved_bytes: u64,
    /// Bytes that are available on the machine; 0 before the first memory sample.
    pub memory_available_bytes: u64,
    /// Bytes that the machine has; 0 before the first memory sample.
    pub memory_total_bytes: u64,
    /// The machine is short of memory: unused servers are evicted first, and a start may wait.
    pub memory_pressured: bool,
    /// Standbys: processes that have imported all that a server needs and wait to become one.
    pub standbys: u32,
}

/// One model of the catalogue, or one that `found` added.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Model {
    /// Its name, the key of the pool.
    pub model: String,
    /// Other names that mean it.
    pub aliases: Vec<String>,
    /// What the runtime is asked to load.
    pub runtime_model: String,
    /// The name of the runtime that serves it; empty for the default one.
    pub runtime: String,
    /// The groups that it belongs to.
    pub groups: Vec<String>,
    /// It is stopped neither for being unused nor for other models.
    pub pinned: bool,
    /// It is started with the service.
    pub preload: bool,
    /// Bytes of memory that its server is expected to need at most; 0 if unknown.
    pub expected_bytes: u64,
    /// The source of that expectation.
    pub expected_by: Expectation,
    /// Whether all files that it needs are on the service's machine; `None` if unknown.
    pub on_disk: Option<bool>,
    /// Why it could not be started, in words; empty if nothing is known to be wrong.
    pub problem: String,
    /// Bytes of its weights on the service's machine, parts of a download included; 0 if unknown.
    pub disk_bytes: u64,
    /// What its server is doing; `None` if it has none.
    pub state: Option<ServerState>,
    /// The configuration lists it.
    pub listed: bool,
}

/// The progress of a download.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Bytes that are there.
    pub done: u64,
    /// Bytes that there will be; 0 while unknown.
    pub total: u64,
}

/// Whether a model is pinned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pinned {
    /// It is pinned now.
    pub pinned: bool,
    /// That was otherwise before the call.
    pub changed: bool,
    /// The configuration pins it.
    pub configured: bool,
}

/// Some lines of one process, or its end.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LogPart {
    /// Lines that the process has written.
    #[non_exhaustive]
    Lines {
        /// The generation of the process.
        generation: u64,
        /// The lines, oldest first, safe to show in a terminal.
        lines: Vec<String>,
        /// Bytes before these lines that were removed before they could be read.
        missed_bytes: u64,
        /// Resumes after these lines.
        cursor: String,
    },
    /// The process has ended, and its last line was read.
    #[non_exhaustive]
    Ended {
        /// The generation of the process.
        generation: u64,
        /// How it ended, if that is known.
        exit: Option<Exit>,
        /// Resumes with the next generation.
        cursor: String,
    },
}

/// The changes of a reload, as names of models that have a server.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reloaded {
    /// Models whose server is replaced when it is next unused.
    pub replaced: Vec<String>,
    /// Models whose server goes on with other limits.
    pub updated: Vec<String>,
    /// Models that are no longer listed, whose server ends when it is next unused.
    pub removed: Vec<String>,
    /// Keys of the configuration that have changed and that only a restart applies.
    pub restart_needed: Vec<String>,
    /// What keeps listed models from starting, each with its key and what to do.
    pub problems: Vec<String>,
}

/// An event of a watch.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// The server's new state.
    Changed {
        /// The revision of the change, or of the present state that it is part of.
        revision: u64,
        /// The server's new state.
        server: Server,
    },
    /// The server is no longer in the pool.
    Removed {
        /// The revision of the change.
        revision: u64,
        /// Its last known state.
        server: Server,
    },
    /// The present servers are complete; changes follow.
    Synced {
        /// The revision of the state that is now complete.
        revision: u64,
    },
}
