//! What the service says, as plain values. Times that it did not say are `None`.

use std::time::{Duration, SystemTime};

use crate::open_enum::open_enum;

open_enum! {
    /// What a server is doing.
    ServerState {
        /// Never sent.
        Unspecified = 0,
        /// Waits for its turn to start; its files may be downloaded meanwhile.
        Queued = 1,
        /// Its process is being started or loads the model.
        Starting = 2,
        /// Its endpoint answers.
        Ready = 3,
        /// Drains, or its process is being ended.
        Stopping = 4,
        /// It has no process: the last one died or did not become ready.
        Failed = 5,
        /// Its process died and somebody waits: it is started again in a moment.
        BackingOff = 6,
    }
}

open_enum! {
    /// What a server is to its model.
    ServerRole {
        /// Never sent.
        Unspecified = 0,
        /// Callers of the model get this server. A model has one at most.
        Current = 1,
        /// Starts beside the current server, and takes its place once it is READY.
        Successor = 2,
        /// Was the current server; goes on until nothing is in flight on it.
        Superseded = 3,
        /// A process of an earlier service that no record tells of; it is drained and ended.
        Orphan = 4,
    }
}

open_enum! {
    /// Who wanted a process to end.
    ExitCause {
        /// Never sent.
        Unspecified = 0,
        /// Nobody: it died by itself.
        Crashed = 1,
        /// A caller, by an eviction.
        Evicted = 2,
        /// The pool: it was unused for its keep alive.
        Idle = 3,
        /// The pool: it was not ready within its start limit.
        StartTimeout = 4,
        /// The operator: the service was stopped.
        Shutdown = 5,
        /// The pool: it stopped answering and made no progress.
        Wedged = 6,
        /// The guard: the service was gone and no other came.
        Orphaned = 7,
        /// The pool: it was unused and made room for another model.
        Preempted = 8,
        /// The operator: its configuration was changed.
        Reloaded = 9,
        /// The pool: it had grown past its memory limit.
        MemoryLimit = 10,
    }
}

open_enum! {
    /// How it is known what a server will need of memory, the best first.
    Expectation {
        /// Not appraised yet.
        Unspecified = 0,
        /// The configuration declares it.
        Declared = 1,
        /// It was seen, now or in earlier runs.
        Observed = 2,
        /// Estimated from the size of the weights on disk.
        Weights = 3,
        /// A guess: nothing is known of it.
        Guess = 4,
    }
}

/// How long a server stays when it is unused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeepAlive {
    /// For so long; zero: it goes as soon as it is unused.
    For(Duration),
    /// Until it is evicted.
    Forever,
}

impl From<Duration> for KeepAlive {
    fn from(duration: Duration) -> Self {
        Self::For(duration)
    }
}

/// One supervised server and what is known of it. Model and generation together are its key.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Server {
    /// The caller's name for the model; empty for an orphan.
    pub model: String,
    /// What the runtime is asked to load: a Hugging Face id or a local directory.
    pub runtime_model: String,
    /// What it is doing.
    pub state: ServerState,
    /// Counts the processes of this model, from 1. Of a server that waits to start, that of the
    /// process which is to be started; of an orphan, its process id.
    pub generation: u64,
    /// What it is to its model.
    pub role: ServerRole,
    /// Base URL of the server; empty unless it is READY.
    pub endpoint: String,
    /// What an inference request must say as its model; empty unless the server is READY.
    pub served_model_name: String,
    /// The process; 0 while there is none.
    pub pid: u32,
    /// When this generation was asked for.
    pub create_time: Option<SystemTime>,
    /// When its process was started.
    pub start_time: Option<SystemTime>,
    /// When it became READY.
    pub ready_time: Option<SystemTime>,
    /// The last use that is known of.
    pub last_use_time: Option<SystemTime>,
    /// When it goes if it stays unused; `None`: never, or not in this state.
    pub expire_time: Option<SystemTime>,
    /// Why it is in this state, in words; empty where there is nothing to add.
    pub detail: String,
    /// How the last process of this model ended, if one did.
    pub last_exit: Option<Exit>,
    /// The file, on the service's machine, of what the present or last process wrote.
    pub log_path: String,
    /// Its place among those that wait for their turn, from 1; 0 if it does not wait.
    pub queue_position: u32,
    /// How far its download (QUEUED) or its load (STARTING) is, from 0 to 1; `None` while unknown.
    pub progress: Option<f64>,
    /// Bytes of memory that it is expected to need at most; 0 while not known.
    pub expected_bytes: u64,
    /// How that is known.
    pub expected_by: Expectation,
    /// Bytes of memory that it took at the last look; 0 before the first.
    pub footprint_bytes: u64,
    /// The most that it took at any look; 0 before the first.
    pub peak_bytes: u64,
    /// How many holds there are of it.
    pub holds: u32,
    /// It goes neither when unused nor for others' room.
    pub pinned: bool,
    /// It runs as the configuration no longer says, and goes when it is next unused.
    pub outdated: bool,
}

impl Server {
    pub(crate) fn is_ready(&self) -> bool {
        self.state == ServerState::Ready
    }

    /// Whether both are states of one process.
    pub(crate) fn is_same_process(&self, other: &Self) -> bool {
        self.generation == other.generation && self.pid == other.pid
    }
}

/// How a process ended. Neither code nor signal: it is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Exit {
    /// Which generation it was.
    pub generation: u64,
    /// Its exit code, if it had one.
    pub code: Option<i32>,
    /// The signal that ended it, if one did.
    pub signal: Option<i32>,
    /// Who wanted it to end.
    pub cause: ExitCause,
    /// What happened, in words.
    pub message: String,
    /// The last lines that it wrote, oldest first.
    pub last_lines: Vec<String>,
    /// When it ended.
    pub time: Option<SystemTime>,
}

/// What an `ensure` gives.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Ensured {
    /// The server, READY.
    pub server: Server,
    /// Whether this call was the one that started it.
    pub started: bool,
}

/// A server that was stopped.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct EvictedServer {
    /// Its last state, with the end of its process in `last_exit`.
    pub server: Server,
    /// It did not end within its drain limit and was killed: work in flight was lost.
    pub killed: bool,
}

/// Some servers in the order of their models, as they were at one revision.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Page {
    /// The servers of this page.
    pub servers: Vec<Server>,
    /// The change that this is the state after: a watch can go on from it.
    pub revision: u64,
    /// The whole pool, whatever the page.
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
    /// Bytes that all servers together may need; `None`: there is no limit.
    pub memory_budget_bytes: Option<u64>,
    /// Bytes that the servers with a process are expected to need.
    pub memory_reserved_bytes: u64,
    /// Bytes that the machine could give now; 0 before the first look at it.
    pub memory_available_bytes: u64,
    /// Bytes that the machine has; 0 before the first look at it.
    pub memory_total_bytes: u64,
    /// The machine is short of memory: what is unused goes first, and a start may wait.
    pub memory_pressured: bool,
    /// Processes that have imported all that a server needs and wait to become one.
    pub standbys: u32,
}

/// One model of the catalogue, or one that was found.
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
    /// The groups that it counts for.
    pub groups: Vec<String>,
    /// It goes neither when unused nor for others' room.
    pub pinned: bool,
    /// It is started with the service.
    pub preload: bool,
    /// Bytes of memory that its server is expected to need at most; 0 while not known.
    pub expected_bytes: u64,
    /// How that is known.
    pub expected_by: Expectation,
    /// Whether all that it needs is on the service's machine; `None` where that cannot be told.
    pub on_disk: Option<bool>,
    /// Why it could not be started, in words; empty if nothing is known to be wrong.
    pub problem: String,
    /// Bytes of its weights on the service's machine, parts of a download included; 0 where that
    /// is not known.
    pub disk_bytes: u64,
    /// What its server is doing; `None` if it has none.
    pub state: Option<ServerState>,
    /// The configuration lists it.
    pub listed: bool,
}

/// How far a download is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Bytes that are there.
    pub done: u64,
    /// Bytes that there will be; 0 while that is not known.
    pub total: u64,
}

/// What a reload changed, as the names of models that have a server.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reloaded {
    /// Start anew when they are next unused.
    pub replaced: Vec<String>,
    /// Go on with other limits.
    pub updated: Vec<String>,
    /// End when they are next unused, being listed no longer.
    pub removed: Vec<String>,
    /// Keys of the configuration that differ and that only a restart applies.
    pub restart_needed: Vec<String>,
    /// What keeps listed models from starting, each with its key and what to do.
    pub problems: Vec<String>,
}

/// What a watch tells.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// The server is now like this.
    Changed {
        /// The revision of the change, or of the present state that it is part of.
        revision: u64,
        /// The server as it is.
        server: Server,
    },
    /// The server is no longer in the pool.
    Removed {
        /// The revision of the change.
        revision: u64,
        /// Its last state that is known.
        server: Server,
    },
    /// All present servers have been told; from here on come changes.
    Synced {
        /// The revision of the state that is now complete.
        revision: u64,
    },
}
