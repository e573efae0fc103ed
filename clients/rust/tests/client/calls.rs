use std::error::Error as _;
use std::future::IntoFuture as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pool_service_client::v1::ServerState as Wire;
use pool_service_client::{
    Client, Code, Error, KeepAlive, Reason, RetryPolicy, ServerState, Violation, v1,
};
use tokio::time::Instant;
use tonic::{GrpcMethod, Status};
use tonic_types::pb;

use crate::scripted::{
    Service, connected, connected_by, detail, ensured, recovering, refusal, retry_in, server, soon,
};

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// What a call ends with that the service refuses so.
async fn refused_with(status: Status) -> Error {
    let (pool, mut service) = connected();
    let asking = tokio::spawn(pool.ensure("m").into_future());
    service.ensure().await.refuse(status);
    soon(asking).await.expect("no panic").expect_err("it was refused")
}

async fn answer_ready(service: &mut Service) {
    let answer = ensured(1, "");
    service.ensure().await.answer(answer);
}

#[tokio::test(start_paused = true)]
async fn ensure_asks_as_it_was_told_and_gives_the_server() {
    let (pool, mut service) = connected();
    let call = pool.ensure("m").runtime_model("org/m").keep_alive(seconds(60)).download(false);
    let asking = tokio::spawn(call.timeout(seconds(9)).into_future());
    let call = service.ensure().await;
    let expected = v1::EnsureRequest {
        model: "m".to_owned(),
        runtime_model: "org/m".to_owned(),
        keep_alive: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
        download: Some(false),
    };
    assert_eq!(call.request, expected);
    assert_eq!(call.timeout.as_deref(), Some("9000000u"));
    call.answer(ensured(3, ""));
    let ensured = soon(asking).await.expect("no panic").expect("it is ready");
    assert!(ensured.started);
    assert_eq!(ensured.server.state, ServerState::Ready);
    assert_eq!((ensured.server.generation, ensured.server.create_time), (3, None));
}

#[tokio::test(start_paused = true)]
async fn what_is_not_said_is_absent_on_the_wire() {
    let (pool, mut service) = connected();
    let _asking = tokio::spawn(pool.ensure("m").into_future());
    let call = service.ensure().await;
    assert_eq!(call.request, v1::EnsureRequest { model: "m".to_owned(), ..Default::default() });
    assert_eq!(call.timeout, None);
}

#[tokio::test(start_paused = true)]
async fn for_ever_is_a_negative_keep_alive_and_too_long_the_longest() {
    let (pool, mut service) = connected();
    for (keep_alive, sent) in
        [(KeepAlive::Forever, -1), (Duration::MAX.into(), 315_576_000_000), (seconds(0).into(), 0)]
    {
        let _asking = tokio::spawn(pool.ensure("m").keep_alive(keep_alive).into_future());
        let asked = service.ensure().await.request.keep_alive.expect("it was said");
        assert_eq!(asked.seconds, sent);
    }
}

#[tokio::test(start_paused = true)]
async fn each_eviction_names_its_target() {
    use v1::evict_request::Target;
    let (pool, mut service) = connected();
    for (call, target, force) in [
        (pool.evict("m").force(true), Target::Model("m".to_owned()), true),
        (pool.evict_idle(), Target::Idle(true), false),
        (pool.evict_all(), Target::All(true), false),
    ] {
        let asking = tokio::spawn(call.into_future());
        let call = service.evict().await;
        assert_eq!(call.request, v1::EvictRequest { target: Some(target), force });
        let stopped = v1::EvictedServer { server: Some(server(Wire::Stopping, 2)), killed: true };
        call.answer(v1::EvictResponse { evicted: vec![stopped] });
        let evicted = soon(asking).await.expect("no panic").expect("it is stopped");
        assert!(evicted[0].killed && evicted[0].server.generation == 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_list_is_read_page_by_page() {
    let (pool, mut service) = connected();
    let asking = tokio::spawn(pool.list().page_size(1).into_future());
    for (asked, next) in [("", "a"), ("a", "b"), ("b", "")] {
        let call = service.list().await;
        assert_eq!((call.request.page_token.as_str(), call.request.page_size), (asked, 1));
        call.answer(v1::ListResponse {
            servers: vec![server(Wire::Ready, 1)],
            next_page_token: next.to_owned(),
            ..Default::default()
        });
    }
    assert_eq!(soon(asking).await.expect("no panic").expect("it is listed").len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_page_that_fails_is_the_last() {
    let (pool, mut service) = connected();
    let mut pages = pool.list().pages();
    let asking = tokio::spawn(async move { (pages.next().await, pages.next().await) });
    service.list().await.refuse(Status::internal("broken"));
    let (first, second) = soon(asking).await.expect("no panic");
    assert!(first.expect("an error").is_err() && second.is_none());
}

#[tokio::test(start_paused = true)]
async fn pages_that_come_again_are_an_error() {
    let (pool, mut service) = connected();
    let asking = tokio::spawn(pool.list().into_future());
    for _ in 0..2 {
        service
            .list()
            .await
            .answer(v1::ListResponse { next_page_token: "again".to_owned(), ..Default::default() });
    }
    let error = soon(asking).await.expect("no panic").expect_err("no end");
    assert!(error.to_string().contains("its pages have no end"));

    let asking = tokio::spawn(pool.models().into_future());
    for next in ["a", "b", "a"] {
        let answer =
            v1::ListModelsResponse { models: Vec::new(), next_page_token: next.to_owned() };
        service.list_models().await.answer(answer);
    }
    let error = soon(asking).await.expect("no panic").expect_err("no end");
    assert!(error.to_string().contains("its pages have no end"));
}

#[tokio::test(start_paused = true)]
async fn an_answer_without_a_server_is_an_error() {
    let (pool, mut service) = connected();
    let asking = tokio::spawn(pool.ensure("m").into_future());
    service.ensure().await.answer(v1::EnsureResponse::default());
    let error = soon(asking).await.expect("no panic").expect_err("no server");
    assert!(error.to_string().contains("names no server"));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_nowhere_is_an_error() {
    let (pool, mut service) = connected();
    let asking = tokio::spawn(pool.ensure("m").into_future());
    let nowhere = v1::Server { endpoint: String::new(), ..server(Wire::Ready, 1) };
    let answer = v1::EnsureResponse { server: Some(nowhere), ..v1::EnsureResponse::default() };
    service.ensure().await.answer(answer);
    let error = soon(asking).await.expect("no panic").expect_err("no endpoint");
    assert!(error.to_string().contains("has no endpoint"));
}

#[tokio::test(start_paused = true)]
async fn models_and_reload_give_what_the_service_says() {
    let (pool, mut service) = connected();
    let asking = tokio::spawn(pool.models().found(true).into_future());
    for (name, next, state) in [("a", "t", 3), ("b", "", 0)] {
        let model = v1::Model { model: name.to_owned(), state, ..Default::default() };
        let answer =
            v1::ListModelsResponse { models: vec![model], next_page_token: next.to_owned() };
        service.list_models().await.answer(answer);
    }
    let models = soon(asking).await.expect("no panic").expect("they are listed");
    assert_eq!(models.iter().map(|it| it.model.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!((models[0].state, models[1].state), (Some(ServerState::Ready), None));

    let asking = tokio::spawn(pool.reload().into_future());
    let answer = v1::ReloadResponse { removed: vec!["a".to_owned()], ..Default::default() };
    service.reload().await.answer(answer);
    assert_eq!(soon(asking).await.expect("no panic").expect("it is read").removed, ["a"]);
}

#[tokio::test(start_paused = true)]
async fn forget_returns_what_was_remembered() {
    let (pool, mut service) = connected();
    let asking = tokio::spawn(pool.forget("m").into_future());
    let call = service.forget().await;
    assert_eq!(call.request.model, "m");
    call.answer(v1::ForgetResponse { runtime_model: "r".to_owned() });
    assert_eq!(soon(asking).await.expect("no panic").expect("it is forgotten"), "r");
}

#[tokio::test(start_paused = true)]
async fn pin_says_what_is_wanted_and_returns_what_is() {
    let (pool, mut service) = connected();
    for pinned in [Some(true), Some(false), None] {
        let asking = tokio::spawn(pool.pin("m", pinned).into_future());
        let call = service.pin().await;
        assert_eq!((call.request.model.as_str(), call.request.pinned), ("m", pinned));
        call.answer(v1::PinResponse { pinned: true, changed: false, configured: true });
        let found = soon(asking).await.expect("no panic").expect("it is pinned");
        assert_eq!((found.pinned, found.changed, found.configured), (true, false, true));
    }
    let _ = pool.pin("m", true).timeout(Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn an_error_has_all_that_the_service_says_of_it() {
    let field = pb::bad_request::FieldViolation {
        field: "model".to_owned(),
        description: "is empty".to_owned(),
        reason: "EMPTY".to_owned(),
        ..Default::default()
    };
    let lines = vec!["first".to_owned(), "last".to_owned()];
    let debug = pb::DebugInfo { stack_entries: lines.clone(), detail: String::new() };
    let request = pb::RequestInfo { request_id: "r1".to_owned(), serving_data: String::new() };
    let details = vec![
        detail("BadRequest", &pb::BadRequest { field_violations: vec![field] }),
        detail("DebugInfo", &debug),
        detail("RequestInfo", &request),
    ];
    let error = refused_with(refusal(Code::InvalidArgument, "INVALID_MODEL", details)).await;
    assert_eq!((error.reason(), error.reason_name()), (Reason::InvalidRequest, "INVALID_MODEL"));
    assert_eq!(error.code(), Code::InvalidArgument);
    assert_eq!(error.to_string(), "refused as INVALID_MODEL");
    assert_eq!(error.metadata()["model"], "m");
    assert_eq!(error.last_lines(), lines);
    assert_eq!(error.request_id(), "r1");
    assert_eq!(error.retry_after(), None);
    let Violation { subject, description, kind, .. } = &error.violations()[0];
    assert_eq!(
        (subject.as_str(), description.as_str(), kind.as_str()),
        ("model", "is empty", "EMPTY")
    );
}

#[tokio::test(start_paused = true)]
async fn a_reason_that_is_not_known_keeps_its_name() {
    let error = refused_with(refusal(Code::DataLoss, "NEW_REASON", vec![])).await;
    assert_eq!((error.reason(), error.reason_name()), (Reason::Other, "NEW_REASON"));
}

#[tokio::test(start_paused = true)]
async fn a_status_without_a_reason_goes_by_its_code() {
    for (status, reason) in [
        (Status::deadline_exceeded(""), Reason::DeadlineExceeded),
        (Status::unimplemented(""), Reason::Other),
        (Status::unknown(""), Reason::Other),
    ] {
        let code = status.code();
        let error = refused_with(status).await;
        assert_eq!((error.reason(), error.code()), (reason, code));
    }
}

#[tokio::test(start_paused = true)]
async fn what_carries_retry_info_is_asked_again_not_before_its_time() {
    let (pool, mut service) = connected();
    let began = Instant::now();
    let asking = tokio::spawn(pool.ensure("m").into_future());
    let full = refusal(Code::ResourceExhausted, "POOL_FULL", vec![retry_in(2)]);
    service.ensure().await.refuse(full);
    answer_ready(&mut service).await;
    soon(asking).await.expect("no panic").expect("it is ready");
    assert!((seconds(2)..Duration::from_millis(2_700)).contains(&began.elapsed()));
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_away_is_tried_until_patience_is_over() {
    let (pool, service) = connected_by(Client::builder().address("there:1"));
    service.network.set_away(true);
    let began = Instant::now();
    let error = soon(pool.ensure("m")).await.expect_err("nobody is there");
    assert_eq!((error.reason(), error.code()), (Reason::PoolUnavailable, Code::Unavailable));
    let expected = "cannot reach the pool service at there:1: nobody listens";
    assert_eq!(error.to_string(), expected);
    assert!((seconds(20)..seconds(30)).contains(&began.elapsed()));
}

#[tokio::test(start_paused = true)]
async fn a_service_that_comes_back_is_found() {
    let (pool, mut service) = connected();
    service.network.set_away(true);
    let asking = tokio::spawn(pool.ensure("m").into_future());
    tokio::time::sleep(seconds(5)).await;
    service.network.set_away(false);
    answer_ready(&mut service).await;
    soon(asking).await.expect("no panic").expect("it is ready");
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_breaks_is_made_again_and_so_is_the_call() {
    let (pool, mut service) = connected();
    let asking = tokio::spawn(pool.ensure("m").into_future());
    let _unanswered = service.ensure().await;
    service.network.cut();
    answer_ready(&mut service).await;
    soon(asking).await.expect("no panic").expect("it is ready");
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_breaks_is_pool_unavailable() {
    let (pool, mut service) =
        connected_by(Client::builder().retry(RetryPolicy::default().attempts(1)));
    let asking = tokio::spawn(pool.ensure("m").into_future());
    let _unanswered = service.ensure().await;
    service.network.cut();
    let error = soon(asking).await.expect("no panic").expect_err("it broke");
    assert_eq!((error.reason(), error.code()), (Reason::PoolUnavailable, Code::Unavailable));
}

#[tokio::test(start_paused = true)]
async fn the_callers_timeout_ends_the_call_and_tells_what_failed_before() {
    let (pool, mut service) = connected();
    let began = Instant::now();
    let asking = tokio::spawn(pool.ensure("m").timeout(seconds(4)).into_future());
    service.ensure().await.refuse(recovering());
    service.ensure().await.gone().await;
    let error = soon(asking).await.expect("no panic").expect_err("it is late");
    assert_eq!((error.reason(), error.code()), (Reason::DeadlineExceeded, Code::DeadlineExceeded));
    let before = error.source().and_then(|cause| cause.downcast_ref::<Error>());
    assert_eq!(before.map(Error::reason), Some(Reason::Recovering));
    assert_eq!(began.elapsed().as_secs(), 4);
}

#[tokio::test(start_paused = true)]
async fn no_wait_is_begun_that_would_outlast_the_timeout() {
    let (pool, mut service) = connected();
    let began = Instant::now();
    let asking = tokio::spawn(pool.ensure("m").timeout(seconds(1)).into_future());
    service.ensure().await.refuse(recovering());
    let error = soon(asking).await.expect("no panic").expect_err("it is refused");
    assert_eq!(error.reason(), Reason::Recovering);
    assert!(began.elapsed() < seconds(1));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_ends_at_the_service() {
    let (pool, mut service) = connected();
    let asking = tokio::spawn(pool.ensure("m").into_future());
    let call = service.ensure().await;
    asking.abort();
    call.gone().await;
}

#[tokio::test(start_paused = true)]
async fn an_interceptor_sees_each_attempt() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let seeing = seen.clone();
    let (pool, mut service) = connected_by(Client::builder().interceptor(move |request| {
        let method = request.extensions().get::<GrpcMethod<'_>>().expect("it has a name").method();
        seeing.lock().expect("nobody panicked").push(method.to_owned());
        Ok(request)
    }));
    let asking = tokio::spawn(pool.ensure("m").into_future());
    service.ensure().await.refuse(recovering());
    answer_ready(&mut service).await;
    soon(asking).await.expect("no panic").expect("it is ready");
    assert_eq!(*seen.lock().expect("nobody panicked"), ["Ensure", "Ensure"]);
}

#[tokio::test(start_paused = true)]
async fn get_returns_the_server_and_whether_it_answers() {
    let (pool, mut service) = connected();
    for (check, generation) in [(false, None), (true, Some(2))] {
        let asking = tokio::spawn(pool.get("m").check(check).into_future());
        let call = service.get().await;
        assert_eq!(call.request, v1::GetRequest { model: "m".to_owned(), check });
        let server = generation.map(|generation| server(Wire::Ready, generation));
        call.answer(v1::GetResponse { server, answers: check });
        let found = soon(asking).await.expect("no panic").expect("it is looked up");
        assert_eq!(found.server.map(|server| server.generation), generation);
        assert_eq!(found.answers, check);
    }
}

#[tokio::test(start_paused = true)]
async fn get_is_retried_within_its_timeout() {
    let (pool, mut service) = connected();
    let asking = tokio::spawn(pool.get("m").timeout(seconds(9)).into_future());
    service.get().await.refuse(recovering());
    let call = service.get().await;
    assert!(call.timeout.is_some());
    call.answer(v1::GetResponse::default());
    assert_eq!(soon(asking).await.expect("no panic").expect("none").server, None);
}

#[tokio::test(start_paused = true)]
async fn a_server_has_the_url_and_the_names_for_requests() {
    let (pool, mut service) = connected();
    for (endpoint, base_url) in [("http://127.0.0.1:8000", "http://127.0.0.1:8000/v1"), ("", "")] {
        let asking = tokio::spawn(pool.get("m").into_future());
        let server = v1::Server {
            endpoint: endpoint.to_owned(),
            embedding_model_name: "org/embedder".to_owned(),
            host: "mini".to_owned(),
            ..Default::default()
        };
        let answer = v1::GetResponse { server: Some(server), answers: false };
        service.get().await.answer(answer);
        let found = soon(asking).await.expect("no panic").expect("it is looked up");
        let server = found.server.expect("there is one");
        assert_eq!(server.base_url(), base_url);
        assert_eq!(server.embedding_model_name, "org/embedder");
        assert_eq!(server.host, "mini");
    }
}
