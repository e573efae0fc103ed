//! Conversion of the message of `Describe`.

use std::time::Duration;

use crate::convert::{servers, time};
use crate::description::{
    Choice, Decision, Description, EvictionCandidate, Holder, Run, Setting, WaitingCall,
};
use crate::types::Exit;
use crate::v1;

impl From<v1::DescribeResponse> for Description {
    fn from(response: v1::DescribeResponse) -> Self {
        Self {
            model: response.model,
            aliases: response.aliases,
            listed: response.listed,
            settings: each(response.settings),
            servers: servers(response.servers),
            expected_bytes: response.expected_bytes,
            expected_by: response.expected_by.into(),
            on_disk: response.on_disk,
            disk_bytes: response.disk_bytes,
            usual_load: duration(response.usual_load),
            problem: response.problem,
            runs: each(response.runs),
            last_exit: response.last_exit.map(Exit::from),
            holders: each(response.holders),
            holds: response.holds,
            waiting: each(response.waiting),
            waiting_calls: response.waiting_calls,
            queue_time: time(response.queue_time),
            next_to_go: each(response.next_to_go),
            eviction_position: response.eviction_position,
            eviction_candidates: response.eviction_candidates,
            kept_because: response.kept_because,
            crash_times: response.crash_times.into_iter().filter_map(|at| time(Some(at))).collect(),
            crash_limit: response.crash_limit,
            crash_window: duration(response.crash_window).unwrap_or_default(),
            retry_time: time(response.retry_time),
            failure_reason: response.failure_reason,
            failure_message: response.failure_message,
            decisions: each(response.decisions),
        }
    }
}

impl From<v1::Setting> for Setting {
    fn from(message: v1::Setting) -> Self {
        Self {
            key: message.key,
            value: message.value,
            source: message.source,
            running: message.running,
        }
    }
}

impl From<v1::Run> for Run {
    fn from(message: v1::Run) -> Self {
        Self {
            generation: message.generation,
            origin: message.origin.into(),
            create_time: time(message.create_time),
            admit_time: time(message.admit_time),
            start_time: time(message.start_time),
            ready_time: time(message.ready_time),
            stop_time: time(message.stop_time),
            end_time: time(message.end_time),
            exit: message.exit.map(Exit::from),
            peak_bytes: message.peak_bytes,
            load: duration(message.load),
        }
    }
}

impl From<v1::Holder> for Holder {
    fn from(message: v1::Holder) -> Self {
        Self { label: message.label, since: time(message.since) }
    }
}

impl From<v1::WaitingCall> for WaitingCall {
    fn from(message: v1::WaitingCall) -> Self {
        Self {
            since: time(message.since),
            hold: message.hold,
            holder: message.holder,
            own: message.own,
        }
    }
}

impl From<v1::EvictionCandidate> for EvictionCandidate {
    fn from(message: v1::EvictionCandidate) -> Self {
        Self {
            model: message.model,
            generation: message.generation,
            busy: message.busy,
            freed_bytes: message.freed_bytes,
            retention_seconds: message.retention_seconds,
            reside_time: time(message.reside_time),
        }
    }
}

impl From<v1::Decision> for Decision {
    fn from(message: v1::Decision) -> Self {
        Self {
            time: time(message.time),
            generation: message.generation,
            role: message.role.into(),
            before: message.before.into(),
            after: message.after.into(),
            why: message.why,
            event: message.event,
            choice: message.choice.map(Choice::from),
        }
    }
}

impl From<v1::Choice> for Choice {
    fn from(message: v1::Choice) -> Self {
        Self {
            needed_bytes: message.needed_bytes,
            budget_bytes: message.budget_bytes,
            reserved_bytes: message.reserved_bytes,
            available_bytes: message.available_bytes,
            chosen: each(message.chosen),
            passed_over: each(message.passed_over),
        }
    }
}

fn each<M, V: From<M>>(messages: Vec<M>) -> Vec<V> {
    messages.into_iter().map(V::from).collect()
}

/// A duration that is negative, or that is none, counts as absent.
fn duration(message: Option<prost_types::Duration>) -> Option<Duration> {
    message.and_then(|length| Duration::try_from(length).ok())
}
