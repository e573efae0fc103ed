//! Conversion between values and messages. Nothing else reads a response.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::{Duration, SystemTime};

use prost_types::Timestamp;

use crate::types::{
    Ensured, Event, EvictedServer, Exit, Found, KeepAlive, LogPart, Model, Page, Pinned, Progress,
    PromptCache, Reloaded, Secret, Server, Totals,
};
use crate::v1;

/// The longest `google.protobuf.Duration`, about 10,000 years, in seconds.
const LONGEST_DURATION: u64 = 315_576_000_000;
/// In seconds since 1970.
const YEARS_1_TO_9999: RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;

impl From<KeepAlive> for prost_types::Duration {
    /// A duration that is too long for a message is sent as the longest, which the service refuses.
    fn from(keep_alive: KeepAlive) -> Self {
        let KeepAlive::For(duration) = keep_alive else {
            return Self { seconds: -1, nanos: 0 };
        };
        let duration = duration.min(Duration::from_secs(LONGEST_DURATION));
        Self {
            seconds: duration.as_secs().cast_signed(),
            nanos: duration.subsec_nanos().cast_signed(),
        }
    }
}

impl From<v1::Server> for Server {
    fn from(message: v1::Server) -> Self {
        Self {
            model: message.model,
            runtime_model: message.runtime_model,
            state: message.state.into(),
            generation: message.generation,
            role: message.role.into(),
            endpoint: message.endpoint,
            served_model_name: message.served_model_name,
            embedding_model_name: message.embedding_model_name,
            pid: message.pid,
            create_time: time(message.create_time),
            start_time: time(message.start_time),
            ready_time: time(message.ready_time),
            last_use_time: time(message.last_use_time),
            expire_time: time(message.expire_time),
            expected_ready_time: time(message.expected_ready_time),
            detail: message.detail,
            last_exit: message.last_exit.map(Exit::from),
            log_path: message.log_path,
            queue_position: message.queue_position,
            progress: message.progress.filter(|share| (0.0..=1.0).contains(share)),
            expected_bytes: message.expected_bytes,
            expected_by: message.expected_by.into(),
            footprint_bytes: message.footprint_bytes,
            peak_bytes: message.peak_bytes,
            holds: message.holds,
            pinned: message.pinned,
            outdated: message.outdated,
            prompt_cache: message.prompt_cache.map(PromptCache::from),
            host: message.host,
            api_key: Secret::default(),
        }
    }
}

impl From<v1::PromptCache> for PromptCache {
    fn from(message: v1::PromptCache) -> Self {
        Self {
            disk_bytes: message.disk_bytes,
            tokens: message.tokens,
            reused_tokens: message.reused_tokens,
            max_bytes: message.max_bytes,
        }
    }
}

/// An absent message counts as an empty one.
fn server(message: Option<v1::Server>) -> Server {
    message.unwrap_or_default().into()
}

/// The server of an answer that has its key.
fn keyed(message: Option<v1::Server>, api_key: String) -> Server {
    Server { api_key: api_key.into(), ..server(message) }
}

pub(crate) fn servers(messages: Vec<v1::Server>) -> Vec<Server> {
    messages.into_iter().map(Server::from).collect()
}

/// A time that `google.protobuf.Timestamp` does not allow counts as absent.
pub(crate) fn time(message: Option<Timestamp>) -> Option<SystemTime> {
    message
        .filter(|stamp| YEARS_1_TO_9999.contains(&stamp.seconds))
        .filter(|stamp| (0..1_000_000_000).contains(&stamp.nanos))
        .and_then(|stamp| SystemTime::try_from(stamp).ok())
}

impl From<v1::Exit> for Exit {
    fn from(message: v1::Exit) -> Self {
        Self {
            generation: message.generation,
            code: message.code,
            signal: message.signal,
            cause: message.cause.into(),
            message: message.message,
            last_lines: message.last_lines,
            time: time(message.time),
        }
    }
}

impl From<v1::EnsureResponse> for Ensured {
    fn from(response: v1::EnsureResponse) -> Self {
        Self { server: keyed(response.server, response.api_key), started: response.started }
    }
}

impl From<v1::GetResponse> for Found {
    fn from(response: v1::GetResponse) -> Self {
        Self { server: response.server.map(Server::from), answers: response.answers }
    }
}

impl From<v1::EvictedServer> for EvictedServer {
    fn from(message: v1::EvictedServer) -> Self {
        Self { server: server(message.server), killed: message.killed }
    }
}

impl From<v1::ListResponse> for Page {
    fn from(response: v1::ListResponse) -> Self {
        Self {
            servers: servers(response.servers),
            revision: response.revision,
            totals: response.totals.unwrap_or_default().into(),
            notices: response.notices,
        }
    }
}

impl From<v1::PoolTotals> for Totals {
    fn from(message: v1::PoolTotals) -> Self {
        Self {
            servers: message.servers,
            queued: message.queued,
            starting: message.starting,
            ready: message.ready,
            stopping: message.stopping,
            failed: message.failed,
            backing_off: message.backing_off,
            waiting_calls: message.waiting_calls,
            memory_budget_bytes: message.memory_budget_bytes,
            memory_reserved_bytes: message.memory_reserved_bytes,
            memory_available_bytes: message.memory_available_bytes,
            memory_total_bytes: message.memory_total_bytes,
            memory_pressured: message.memory_pressured,
            standbys: message.standbys,
        }
    }
}

impl From<v1::Model> for Model {
    fn from(message: v1::Model) -> Self {
        Self {
            model: message.model,
            aliases: message.aliases,
            runtime_model: message.runtime_model,
            runtime: message.runtime,
            groups: message.groups,
            pinned: message.pinned,
            preload: message.preload,
            expected_bytes: message.expected_bytes,
            expected_by: message.expected_by.into(),
            on_disk: message.on_disk,
            problem: message.problem,
            disk_bytes: message.disk_bytes,
            state: (message.state != 0).then(|| message.state.into()),
            listed: message.listed,
        }
    }
}

impl From<v1::PullResponse> for Progress {
    fn from(response: v1::PullResponse) -> Self {
        Self { done: response.done_bytes, total: response.total_bytes }
    }
}

impl From<v1::PinResponse> for Pinned {
    fn from(response: v1::PinResponse) -> Self {
        Self { pinned: response.pinned, changed: response.changed, configured: response.configured }
    }
}

/// The lines of a message, and the end of the process if it tells that.
pub(crate) fn log_parts(response: v1::TailLogsResponse) -> Vec<LogPart> {
    let v1::TailLogsResponse { generation, lines, missed_bytes, ended, exit, cursor } = response;
    let mut parts = Vec::new();
    if !lines.is_empty() || missed_bytes > 0 {
        parts.push(LogPart::Lines { generation, lines, missed_bytes, cursor: cursor.clone() });
    }
    if ended {
        parts.push(LogPart::Ended { generation, exit: exit.map(Exit::from), cursor });
    }
    parts
}

impl From<v1::ReloadResponse> for Reloaded {
    fn from(response: v1::ReloadResponse) -> Self {
        Self {
            replaced: response.replaced,
            updated: response.updated,
            removed: response.removed,
            restart_needed: response.restart_needed,
            problems: response.problems,
        }
    }
}

impl From<v1::HoldResponse> for Server {
    fn from(response: v1::HoldResponse) -> Self {
        keyed(response.server, response.api_key)
    }
}

/// Without the key, which no text shows.
impl fmt::Debug for v1::EnsureResponse {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("EnsureResponse")
            .field("server", &self.server)
            .field("started", &self.started)
            .finish_non_exhaustive()
    }
}

/// Without the key, which no text shows.
impl fmt::Debug for v1::HoldResponse {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("HoldResponse").field("server", &self.server).finish_non_exhaustive()
    }
}

/// The event, or `None` for a kind that this version does not know.
pub(crate) fn event(response: v1::WatchResponse) -> Option<Event> {
    let revision = response.revision;
    Some(match response.event? {
        v1::watch_response::Event::Server(message) => {
            Event::Changed { revision, server: message.into() }
        }
        v1::watch_response::Event::Removed(message) => {
            Event::Removed { revision, server: message.into() }
        }
        v1::watch_response::Event::Synced(_) => Event::Synced { revision },
    })
}
