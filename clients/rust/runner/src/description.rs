//! The description of a model as the protocol has it.

use pool_service_client::{
    Choice, Decision, Description, EvictionCandidate, Holder, Run, RunOrigin, Setting, WaitingCall,
};
use serde_json::{Value, json};

use crate::json::{exit, expectation, in_capitals, role, server, state, time};

pub(crate) fn json(description: &Description) -> Value {
    json!({
        "model": description.model,
        "aliases": description.aliases,
        "listed": description.listed,
        "settings": each(&description.settings, setting),
        "servers": each(&description.servers, server),
        "expected_bytes": description.expected_bytes,
        "expected_by": expectation(description.expected_by),
        "on_disk": description.on_disk,
        "disk_bytes": description.disk_bytes,
        "usual_load": description.usual_load.map(|load| load.as_secs_f64()),
        "problem": description.problem,
        "runs": each(&description.runs, run),
        "last_exit": description.last_exit.as_ref().map(exit),
        "holders": each(&description.holders, holder),
        "holds": description.holds,
        "waiting": each(&description.waiting, waiting),
        "waiting_calls": description.waiting_calls,
        "queue_time": time(description.queue_time),
        "next_to_go": each(&description.next_to_go, candidate),
        "eviction_position": description.eviction_position,
        "eviction_candidates": description.eviction_candidates,
        "kept_because": description.kept_because,
        "crash_times": each(&description.crash_times, |at| time(Some(*at))),
        "crash_limit": description.crash_limit,
        "crash_window": description.crash_window.as_secs_f64(),
        "retry_time": time(description.retry_time),
        "failure_reason": description.failure_reason,
        "failure_message": description.failure_message,
        "decisions": each(&description.decisions, decision),
    })
}

fn setting(setting: &Setting) -> Value {
    json!({
        "key": setting.key,
        "value": setting.value,
        "source": setting.source,
        "running": setting.running,
    })
}

fn run(run: &Run) -> Value {
    json!({
        "generation": run.generation,
        "origin": origin(run.origin),
        "create_time": time(run.create_time),
        "admit_time": time(run.admit_time),
        "start_time": time(run.start_time),
        "ready_time": time(run.ready_time),
        "stop_time": time(run.stop_time),
        "end_time": time(run.end_time),
        "exit": run.exit.as_ref().map(exit),
        "peak_bytes": run.peak_bytes,
        "load": run.load.map(|load| load.as_secs_f64()),
    })
}

fn origin(origin: RunOrigin) -> Value {
    match origin {
        RunOrigin::Unknown(number) => json!(number),
        known => json!(in_capitals(&format!("{known:?}"))),
    }
}

fn holder(holder: &Holder) -> Value {
    json!({"label": holder.label, "since": time(holder.since)})
}

fn waiting(call: &WaitingCall) -> Value {
    json!({
        "since": time(call.since),
        "hold": call.hold,
        "holder": call.holder,
        "own": call.own,
    })
}

fn candidate(candidate: &EvictionCandidate) -> Value {
    json!({
        "model": candidate.model,
        "generation": candidate.generation,
        "busy": candidate.busy,
        "freed_bytes": candidate.freed_bytes,
        "retention_seconds": candidate.retention_seconds,
        "reside_time": time(candidate.reside_time),
    })
}

fn decision(decision: &Decision) -> Value {
    json!({
        "time": time(decision.time),
        "generation": decision.generation,
        "role": role(decision.role),
        "before": state(decision.before),
        "after": state(decision.after),
        "why": decision.why,
        "event": decision.event,
        "choice": decision.choice.as_ref().map(choice),
    })
}

fn choice(choice: &Choice) -> Value {
    json!({
        "needed_bytes": choice.needed_bytes,
        "budget_bytes": choice.budget_bytes,
        "reserved_bytes": choice.reserved_bytes,
        "available_bytes": choice.available_bytes,
        "chosen": each(&choice.chosen, candidate),
        "passed_over": each(&choice.passed_over, candidate),
    })
}

fn each<V>(values: &[V], json: impl Fn(&V) -> Value) -> Vec<Value> {
    values.iter().map(json).collect()
}
