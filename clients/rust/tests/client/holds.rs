use std::time::Duration;

use pool_service_client::v1::ServerState as Wire;
use pool_service_client::{Client, Code, Hold, Reason, RetryPolicy, ServerState, v1};
use tonic::Status;

use crate::scripted::{
    Call, Service, connected, connected_by, recovering, refusal, retry_in, server, soon,
};

pub(crate) type Stream = Call<v1::HoldRequest, v1::HoldResponse>;

pub(crate) fn tell(stream: &Stream, state: Wire, generation: u64) {
    stream.answer(v1::HoldResponse {
        server: Some(server(state, generation)),
        api_key: String::new(),
    });
}

/// A hold of a server that is READY, and the service's end of its stream.
pub(crate) async fn ready_hold(pool: &Client, service: &mut Service) -> (Hold, Stream) {
    ready_hold_of("m", pool, service).await
}

/// The same, where the hold was opened by this name of the model `m`.
pub(crate) async fn ready_hold_of(
    name: &str,
    pool: &Client,
    service: &mut Service,
) -> (Hold, Stream) {
    let hold = pool.hold(name).holder("tests").open();
    let stream = service.hold().await;
    assert_eq!((stream.request.model.as_str(), stream.request.holder.as_str()), (name, "tests"));
    tell(&stream, Wire::Ready, 1);
    assert_eq!(soon(hold.ready()).await.expect("it is ready").generation, 1);
    (hold, stream)
}

pub(crate) fn evicted() -> Status {
    refusal(Code::Aborted, "EVICTED", vec![])
}

#[tokio::test(start_paused = true)]
async fn ready_waits_for_the_server_and_then_reads_from_memory() {
    let (pool, mut service) = connected();
    let hold = pool.hold("m").open();
    let stream = service.hold().await;
    tell(&stream, Wire::Queued, 0);
    tell(&stream, Wire::Starting, 1);
    tell(&stream, Wire::Ready, 1);
    for _ in 0..3 {
        let server = soon(hold.ready()).await.expect("it is ready");
        assert_eq!((server.state, server.generation), (ServerState::Ready, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn while_the_service_is_away_what_it_said_last_stands() {
    let (pool, mut service) = connected();
    let (hold, _stream) = ready_hold(&pool, &mut service).await;
    service.network.set_away(true);
    service.network.cut();
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(soon(hold.ready()).await.expect("it stands").generation, 1);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_broke_is_opened_again_as_it_was_asked_for() {
    let (pool, mut service) = connected();
    let (hold, first) = ready_hold(&pool, &mut service).await;
    let dead = soon(hold.ready()).await.expect("it is ready");
    service.network.cut();
    let second = service.hold().await;
    assert_eq!(second.request, first.request);
    tell(&second, Wire::Ready, 2);
    assert_eq!(soon(hold.ready().after(&dead)).await.expect("the next").generation, 2);
}

#[tokio::test(start_paused = true)]
async fn who_does_not_want_to_wait_is_told_what_the_server_does() {
    let (pool, mut service) = connected();
    let hold = pool.hold("m").open();
    let stream = service.hold().await;
    let queued = v1::Server { detail: "waits for room".to_owned(), ..server(Wire::Queued, 0) };
    stream.answer(v1::HoldResponse { server: Some(queued), api_key: String::new() });
    let error = soon(hold.ready().timeout(Duration::from_secs(2))).await.expect_err("it is queued");
    let expected = "\"m\" was not READY within 2s: it is Queued (waits for room); the hold goes on";
    assert_eq!(error.to_string(), expected);
    tell(&stream, Wire::Ready, 1);
    soon(hold.ready()).await.expect("it goes on");
}

#[tokio::test(start_paused = true)]
async fn a_hold_that_is_dropped_ends_at_the_service() {
    let (pool, mut service) = connected();
    let (hold, stream) = ready_hold(&pool, &mut service).await;
    drop(hold);
    stream.gone().await;
}

#[tokio::test(start_paused = true)]
async fn a_hold_that_is_dropped_while_it_waits_to_connect_asks_no_more() {
    let (pool, mut service) = connected();
    let (hold, _stream) = ready_hold(&pool, &mut service).await;
    service.network.set_away(true);
    service.network.cut();
    tokio::time::sleep(Duration::from_secs(1)).await;
    drop(hold);
    service.network.set_away(false);
    let again = tokio::time::timeout(Duration::from_secs(60), service.hold()).await;
    assert!(again.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_hold_that_was_closed_says_so_and_its_states_end() {
    let (pool, mut service) = connected();
    let (hold, stream) = ready_hold(&pool, &mut service).await;
    let mut states = hold.states();
    hold.close();
    assert!(soon(states.next()).await.is_none());
    assert_eq!(soon(hold.ready()).await.expect_err("it is over").reason(), Reason::Cancelled);
    stream.gone().await;
}

#[tokio::test(start_paused = true)]
async fn states_are_the_newest_after_each_change() {
    let (pool, mut service) = connected();
    let (hold, stream) = ready_hold(&pool, &mut service).await;
    let mut states = hold.states();
    assert_eq!(soon(states.next()).await.expect("a state").expect("it goes on").generation, 1);
    for generation in 2..6 {
        tell(&stream, Wire::Ready, generation);
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(soon(states.next()).await.expect("a state").expect("it goes on").generation, 5);
}

#[tokio::test(start_paused = true)]
async fn what_ended_a_hold_is_given_to_whoever_asks_after_the_last_state() {
    let (pool, mut service) = connected();
    let (hold, stream) = ready_hold(&pool, &mut service).await;
    let mut states = hold.states();
    soon(states.next()).await.expect("a state").expect("it goes on");
    tell(&stream, Wire::Stopping, 1);
    stream.refuse(evicted());
    tokio::time::sleep(Duration::from_secs(1)).await;
    let last = soon(states.next()).await.expect("a state").expect("it is told first");
    assert_eq!(last.state, ServerState::Stopping);
    let error = soon(states.next()).await.expect("an end").expect_err("it was evicted");
    assert_eq!(error.reason(), Reason::Evicted);
    assert!(soon(states.next()).await.is_none());
    for _ in 0..2 {
        assert_eq!(soon(hold.ready()).await.expect_err("it is over").reason(), Reason::Evicted);
    }
}

#[tokio::test(start_paused = true)]
async fn failures_of_a_start_are_counted_together_until_it_is_ready() {
    let retry = RetryPolicy::default().attempts(3);
    let (pool, mut service) = connected_by(Client::builder().retry(retry));
    let hold = pool.hold("m").open();
    for _ in 0..3 {
        let stream = service.hold().await;
        tell(&stream, Wire::Starting, 1);
        stream.refuse(refusal(Code::Unavailable, "START_FAILED", vec![retry_in(1)]));
    }
    assert_eq!(soon(hold.ready()).await.expect_err("it gave up").reason(), Reason::StartFailed);
}

#[tokio::test(start_paused = true)]
async fn a_break_of_a_stream_that_was_alive_begins_the_count_anew() {
    let retry = RetryPolicy::default().attempts(2);
    let (pool, mut service) = connected_by(Client::builder().retry(retry));
    let hold = pool.hold("m").open();
    for _ in 0..4 {
        let stream = service.hold().await;
        tell(&stream, Wire::Starting, 1);
        stream.refuse(recovering());
    }
    tell(&service.hold().await, Wire::Ready, 1);
    soon(hold.ready()).await.expect("it went on");
}

#[tokio::test(start_paused = true)]
async fn a_hold_outlives_the_client_that_opened_it() {
    let (pool, mut service) = connected();
    let (hold, stream) = ready_hold(&pool, &mut service).await;
    drop(pool);
    tell(&stream, Wire::Ready, 2);
    let mut states = hold.states();
    while soon(states.next()).await.expect("a state").expect("it goes on").generation < 2 {}
}

#[tokio::test(start_paused = true)]
async fn a_hold_that_ends_repeats_no_state() {
    let (pool, mut service) = connected();
    let (hold, stream) = ready_hold(&pool, &mut service).await;
    let mut states = hold.states();
    soon(states.next()).await.expect("a state").expect("it goes on");
    stream.refuse(evicted());
    let error = soon(states.next()).await.expect("an end").expect_err("it was evicted");
    assert_eq!(error.reason(), Reason::Evicted);
}

#[tokio::test(start_paused = true)]
async fn a_hold_passes_over_what_cannot_be_of_its_server() {
    let (pool, mut service) = connected();
    let hold = pool.hold("alias").open();
    let stream = service.hold().await;
    let nowhere = v1::Server { endpoint: String::new(), ..server(Wire::Ready, 1) };
    let other = v1::Server { model: "other".to_owned(), ..server(Wire::Ready, 2) };
    for passed_over in [nowhere, other] {
        stream.answer(v1::HoldResponse { server: Some(passed_over), api_key: String::new() });
    }
    tell(&stream, Wire::Ready, 3);
    assert_eq!(soon(hold.ready()).await.expect("it is ready").generation, 3);
}
