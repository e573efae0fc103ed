//! What a caller of `ensure` is shown while it waits.

use std::future::IntoFuture as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pool_service_client::v1::ServerState as Wire;
use pool_service_client::{Client, Ensured, Error, ServerState, v1};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::scripted::{Call, Service, connected, ensured, recovering, server, soon};

const INTERVAL: Duration = Duration::from_millis(500);

type Shown = Arc<Mutex<Vec<(ServerState, u64)>>>;
type Ensure = Call<v1::EnsureRequest, v1::EnsureResponse>;

struct Asked {
    _pool: Client,
    service: Service,
    shown: Shown,
    asking: JoinHandle<Result<Ensured, Error>>,
    call: Ensure,
}

/// A caller that waits and is shown what happens, and the call that the service got.
async fn asked() -> Asked {
    let (pool, mut service) = connected();
    let shown = Shown::default();
    let told = shown.clone();
    let call = pool.ensure("m").on_progress(move |server| {
        told.lock().expect("nobody panicked").push((server.state, server.generation));
    });
    let asking = tokio::spawn(call.into_future());
    let call = service.ensure().await;
    Asked { _pool: pool, service, shown, asking, call }
}

impl Asked {
    async fn look_up(&mut self) -> Call<v1::GetRequest, v1::GetResponse> {
        let lookup = self.service.get().await;
        assert_eq!(lookup.request, v1::GetRequest { model: "m".to_owned(), check: false });
        assert_eq!(lookup.timeout.as_deref(), Some("500000u"));
        lookup
    }

    async fn find(&mut self, state: Wire, generation: u64) {
        let server = Some(server(state, generation));
        self.look_up().await.answer(v1::GetResponse { server, answers: false });
    }

    /// Answers the call; returns what was shown.
    async fn end(self) -> Vec<(ServerState, u64)> {
        self.call.answer(ensured(1, ""));
        soon(self.asking).await.expect("no panic").expect("it is ready");
        let shown = self.shown.lock().expect("nobody panicked").clone();
        tokio::time::sleep(10 * INTERVAL).await;
        assert_eq!(shown, *self.shown.lock().expect("nobody panicked"));
        shown
    }
}

#[tokio::test(start_paused = true)]
async fn each_change_of_a_start_is_shown_once() {
    let mut asked = asked().await;
    let began = Instant::now();
    asked.find(Wire::Queued, 1).await;
    asked.find(Wire::Queued, 1).await;
    asked.find(Wire::Starting, 1).await;
    asked.find(Wire::Starting, 2).await;
    asked.look_up().await.answer(v1::GetResponse::default());
    asked.find(Wire::Starting, 2).await;
    assert!((6 * INTERVAL..7 * INTERVAL).contains(&began.elapsed()));
    let expected =
        [(ServerState::Queued, 1), (ServerState::Starting, 1), (ServerState::Starting, 2)];
    assert_eq!(asked.end().await, expected);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_ready_is_not_shown() {
    let mut asked = asked().await;
    asked.find(Wire::Ready, 1).await;
    asked.look_up().await;
    assert_eq!(asked.end().await, []);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_comes_soon_costs_no_lookup() {
    let mut asked = asked().await;
    tokio::time::sleep(Duration::from_millis(490)).await;
    asked.call.answer(ensured(1, ""));
    soon(asked.asking).await.expect("no panic").expect("it is ready");
    let looked_up = tokio::time::timeout(10 * INTERVAL, asked.service.get()).await;
    assert!(looked_up.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_lookup_that_fails_or_takes_long_is_passed_over() {
    let mut asked = asked().await;
    let began = Instant::now();
    asked.look_up().await.refuse(recovering());
    asked.look_up().await.gone().await;
    asked.find(Wire::Starting, 1).await;
    assert!(began.elapsed() < 5 * INTERVAL);
    asked.look_up().await;
    assert_eq!(asked.end().await, [(ServerState::Starting, 1)]);
}

#[tokio::test(start_paused = true)]
async fn the_answer_ends_the_lookup_that_is_under_way() {
    let mut asked = asked().await;
    let lookup = asked.look_up().await;
    asked.call.answer(ensured(1, ""));
    soon(asked.asking).await.expect("no panic").expect("it is ready");
    lookup.gone().await;
    assert!(asked.shown.lock().expect("nobody panicked").is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_retried_call_goes_on_showing() {
    let Asked { _pool, mut service, shown, asking, call } = asked().await;
    call.refuse(recovering());
    let lookup = service.get().await;
    let found = Some(server(Wire::Queued, 1));
    lookup.answer(v1::GetResponse { server: found, answers: false });
    service.ensure().await.answer(ensured(1, ""));
    soon(asking).await.expect("no panic").expect("it is ready");
    assert_eq!(*shown.lock().expect("nobody panicked"), [(ServerState::Queued, 1)]);
}
