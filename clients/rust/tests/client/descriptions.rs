use std::future::IntoFuture as _;
use std::time::{Duration, SystemTime};

use pool_service_client::{
    Description, ExitCause, Expectation, Reason, RunOrigin, ServerRole, ServerState, v1,
};
use prost_types::Timestamp;
use tonic::Code;

use crate::scripted::{connected, recovering, refusal, server, soon};

fn at(seconds: i64) -> Timestamp {
    Timestamp { seconds, nanos: 0 }
}

fn after_1970(seconds: u64) -> Option<SystemTime> {
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

async fn described(response: v1::DescribeResponse) -> Description {
    let (pool, mut service) = connected();
    let asking = tokio::spawn(pool.describe("m").into_future());
    service.describe().await.answer(response);
    soon(asking).await.expect("no panic").expect("it is described")
}

#[tokio::test(start_paused = true)]
async fn describe_names_the_model_within_its_timeout_and_is_retried() {
    let (pool, mut service) = connected();
    let call = pool.describe("alias").timeout(Duration::from_secs(9));
    let asking = tokio::spawn(call.into_future());
    service.describe().await.refuse(recovering());
    let call = service.describe().await;
    assert_eq!(call.request.model, "alias");
    assert!(call.timeout.is_some());
    call.answer(v1::DescribeResponse { model: "m".to_owned(), ..Default::default() });
    assert_eq!(soon(asking).await.expect("no panic").expect("it is described").model, "m");
}

#[tokio::test(start_paused = true)]
async fn a_refused_description_is_the_error() {
    let (pool, mut service) = connected();
    let asking = tokio::spawn(pool.describe("m").into_future());
    service.describe().await.refuse(refusal(Code::NotFound, "MODEL_UNKNOWN", Vec::new()));
    let error = soon(asking).await.expect("no panic").expect_err("it was refused");
    assert_eq!(error.reason(), Reason::ModelUnknown);
}

#[tokio::test(start_paused = true)]
async fn a_description_of_nothing_has_no_values() {
    let it = described(v1::DescribeResponse::default()).await;
    assert_eq!((it.on_disk, it.usual_load, it.last_exit), (None, None, None));
    assert_eq!((it.queue_time, it.retry_time), (None, None));
    assert_eq!((it.expected_by, it.crash_window), (Expectation::Unspecified, Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn a_description_has_the_settings_and_the_runs_of_the_model() {
    let exit = v1::Exit { cause: v1::ExitCause::Idle.into(), ..Default::default() };
    let run = v1::Run {
        generation: 3,
        origin: v1::RunOrigin::Standby.into(),
        create_time: Some(at(1)),
        admit_time: Some(at(2)),
        start_time: Some(at(3)),
        ready_time: Some(at(4)),
        stop_time: Some(at(5)),
        end_time: Some(at(6)),
        exit: Some(exit.clone()),
        peak_bytes: 7,
        load: Some(prost_types::Duration { seconds: 0, nanos: 750_000_000 }),
    };
    let it = described(v1::DescribeResponse {
        settings: vec![v1::Setting {
            key: "keep_alive".to_owned(),
            value: "1h".to_owned(),
            source: "default".to_owned(),
            running: "2h".to_owned(),
        }],
        servers: vec![server(v1::ServerState::Ready, 3)],
        on_disk: Some(false),
        usual_load: Some(prost_types::Duration { seconds: 1, nanos: 500_000_000 }),
        runs: vec![run, v1::Run { origin: 17, ..Default::default() }],
        last_exit: Some(exit),
        crash_times: vec![at(8), Timestamp { seconds: 0, nanos: -1 }],
        crash_window: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
        ..Default::default()
    })
    .await;
    let setting = &it.settings[0];
    assert_eq!((setting.key.as_str(), setting.value.as_str()), ("keep_alive", "1h"));
    assert_eq!((setting.source.as_str(), setting.running.as_str()), ("default", "2h"));
    assert_eq!((it.servers[0].generation, it.on_disk), (3, Some(false)));
    assert_eq!(it.usual_load, Some(Duration::from_millis(1500)));
    let run = &it.runs[0];
    assert_eq!((run.generation, run.origin, run.peak_bytes), (3, RunOrigin::Standby, 7));
    assert_eq!((run.load, it.runs[1].load), (Some(Duration::from_millis(750)), None));
    assert_eq!(
        [run.create_time, run.admit_time, run.start_time, run.ready_time],
        [after_1970(1), after_1970(2), after_1970(3), after_1970(4)]
    );
    assert_eq!([run.stop_time, run.end_time], [after_1970(5), after_1970(6)]);
    assert_eq!(run.exit.as_ref().map(|exit| exit.cause), Some(ExitCause::Idle));
    assert_eq!((it.runs[1].origin, &it.runs[1].exit), (RunOrigin::Unknown(17), &None));
    assert_eq!(it.last_exit.expect("it ended").cause, ExitCause::Idle);
    // What is no time is left out.
    assert_eq!(it.crash_times, [after_1970(8).expect("a time")]);
    assert_eq!(it.crash_window, Duration::from_secs(60));
}

#[tokio::test(start_paused = true)]
async fn a_description_has_the_callers_and_the_decisions_about_the_model() {
    let other = v1::EvictionCandidate {
        model: "other".to_owned(),
        generation: 2,
        busy: true,
        freed_bytes: 5,
        retention_seconds: 1.5,
        reside_time: Some(at(9)),
    };
    let choice = v1::Choice {
        needed_bytes: 4,
        budget_bytes: Some(0),
        reserved_bytes: 6,
        available_bytes: None,
        chosen: vec![other.clone()],
        passed_over: Vec::new(),
    };
    let decision = v1::Decision {
        time: Some(at(3)),
        generation: 1,
        role: v1::ServerRole::Current.into(),
        before: v1::ServerState::Queued.into(),
        after: v1::ServerState::Starting.into(),
        why: "it fits".to_owned(),
        event: "MemorySampled".to_owned(),
        choice: Some(choice),
    };
    let waiting =
        v1::WaitingCall { since: Some(at(2)), hold: true, holder: "second".to_owned(), own: true };
    let it = described(v1::DescribeResponse {
        holders: vec![v1::Holder { label: "first".to_owned(), since: Some(at(1)) }],
        holds: 7,
        waiting: vec![waiting],
        waiting_calls: 8,
        queue_time: Some(at(4)),
        next_to_go: vec![other],
        eviction_candidates: 9,
        retry_time: Some(at(5)),
        decisions: vec![decision, v1::Decision::default()],
        ..Default::default()
    })
    .await;
    assert_eq!((it.holders[0].label.as_str(), it.holders[0].since), ("first", after_1970(1)));
    let waiting = &it.waiting[0];
    assert_eq!((waiting.since, waiting.holder.as_str()), (after_1970(2), "second"));
    assert!(waiting.hold && waiting.own);
    assert_eq!((it.holds, it.waiting_calls, it.eviction_candidates), (7, 8, 9));
    assert_eq!((it.queue_time, it.retry_time), (after_1970(4), after_1970(5)));
    let candidate = &it.next_to_go[0];
    assert_eq!((candidate.model.as_str(), candidate.generation), ("other", 2));
    assert_eq!((candidate.freed_bytes, candidate.reside_time), (5, after_1970(9)));
    assert!(candidate.busy && (candidate.retention_seconds - 1.5).abs() < f64::EPSILON);
    let decision = &it.decisions[0];
    assert_eq!((decision.time, decision.generation), (after_1970(3), 1));
    assert_eq!((decision.before, decision.after), (ServerState::Queued, ServerState::Starting));
    assert_eq!(decision.role, ServerRole::Current);
    assert_eq!((decision.why.as_str(), decision.event.as_str()), ("it fits", "MemorySampled"));
    let choice = decision.choice.as_ref().expect("it has figures");
    assert_eq!((choice.needed_bytes, choice.reserved_bytes), (4, 6));
    assert_eq!((choice.budget_bytes, choice.available_bytes), (Some(0), None));
    assert_eq!(choice.chosen, it.next_to_go);
    assert!(choice.passed_over.is_empty() && it.decisions[1].choice.is_none());
}
