//! What a hold returns after a connection to its server broke.

use std::sync::Arc;
use std::time::Duration;

use pool_service_client::v1::ServerState as Wire;
use pool_service_client::{Error, Hold, Reason, Server, v1};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tonic::Status;

use crate::holds::{Stream, evicted, ready_hold_of, tell};
use crate::scripted::{Call, Service, connected, recovering, server, soon};

const GRACE: Duration = Duration::from_millis(1500);

type Check = Call<v1::GetRequest, v1::GetResponse>;
type Wait = JoinHandle<Result<Server, Error>>;

/// A caller whose connection to the READY server broke, and who waits.
struct Broken {
    service: Service,
    stream: Stream,
    hold: Arc<Hold>,
    old: Server,
    began: Instant,
}

impl Broken {
    async fn new() -> Self {
        Self::held_as("m").await
    }

    /// The same, where the hold was opened by this name of the model `m`.
    async fn held_as(name: &str) -> Self {
        let (pool, mut service) = connected();
        let (hold, stream) = ready_hold_of(name, &pool, &mut service).await;
        let old = soon(hold.ready()).await.expect("it is ready");
        Self { service, stream, hold: Arc::new(hold), old, began: Instant::now() }
    }

    fn wait(&mut self) -> Wait {
        self.began = Instant::now();
        let (hold, old) = (self.hold.clone(), self.old.clone());
        tokio::spawn(async move { hold.ready().after(&old).await })
    }

    /// A wait, and the check that the service gets for it.
    async fn checked(&mut self) -> (Wait, Check) {
        let wait = self.wait();
        let check = self.service.get().await;
        assert_eq!(check.request, v1::GetRequest { model: "m".to_owned(), check: true });
        assert_eq!(check.timeout.as_deref(), Some("1500000u"));
        (wait, check)
    }

    /// A timer counts whole milliseconds.
    fn assert_grace_is_over(&self) {
        assert!((GRACE..GRACE + Duration::from_millis(2)).contains(&self.began.elapsed()));
    }
}

fn found(state: Wire, generation: u64, answers: bool) -> v1::GetResponse {
    v1::GetResponse { server: Some(server(state, generation)), answers }
}

async fn generation(wait: Wait) -> u64 {
    soon(wait).await.expect("no panic").expect("it is ready").generation
}

#[tokio::test(start_paused = true)]
async fn another_process_that_is_ready_is_returned_at_once() {
    let mut broken = Broken::new().await;
    let mut states = broken.hold.states();
    tell(&broken.stream, Wire::Ready, 2);
    while soon(states.next()).await.expect("a state").expect("it goes on").generation < 2 {}
    let wait = broken.wait();
    assert_eq!(generation(wait).await, 2);
    assert_eq!(broken.began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_process_that_answers_the_service_is_returned_at_once() {
    let mut broken = Broken::new().await;
    let (wait, check) = broken.checked().await;
    check.answer(found(Wire::Ready, 1, true));
    assert_eq!(soon(wait).await.expect("no panic").expect("it is ready"), broken.old);
    assert_eq!(broken.began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_process_that_the_service_no_longer_has_is_not_returned() {
    let other_pid = v1::Server { pid: 101, ..server(Wire::Ready, 1) };
    for answer in [
        v1::GetResponse::default(),
        found(Wire::Stopping, 1, false),
        found(Wire::Ready, 2, true),
        v1::GetResponse { server: Some(other_pid), answers: true },
    ] {
        let mut broken = Broken::new().await;
        let (wait, check) = broken.checked().await;
        check.answer(answer);
        tokio::time::sleep(10 * GRACE).await;
        assert!(!wait.is_finished());
        tell(&broken.stream, Wire::Ready, 2);
        assert_eq!(generation(wait).await, 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_process_that_does_not_answer_is_returned_when_the_grace_is_over() {
    let mut broken = Broken::new().await;
    let (wait, check) = broken.checked().await;
    check.answer(found(Wire::Ready, 1, false));
    assert_eq!(generation(wait).await, 1);
    broken.assert_grace_is_over();
}

#[tokio::test(start_paused = true)]
async fn a_check_that_fails_is_made_once_and_the_process_is_returned_after_the_grace() {
    for failure in [recovering(), Status::unimplemented("")] {
        let mut broken = Broken::new().await;
        let (wait, check) = broken.checked().await;
        check.refuse(failure);
        assert_eq!(generation(wait).await, 1);
        broken.assert_grace_is_over();
        let again = tokio::time::timeout(GRACE, broken.service.get()).await;
        assert!(again.is_err());
    }
}

#[tokio::test(start_paused = true)]
async fn the_model_of_an_alias_is_asked_for_by_its_own_name() {
    let mut broken = Broken::held_as("alias").await;
    let (wait, check) = broken.checked().await;
    check.answer(found(Wire::Ready, 1, true));
    assert_eq!(generation(wait).await, 1);
    assert_eq!(broken.began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn an_answer_about_another_model_says_nothing() {
    for (state, generation_of_other) in [(Wire::Ready, 1), (Wire::Ready, 7), (Wire::Stopping, 1)] {
        let mut broken = Broken::held_as("alias").await;
        let (wait, check) = broken.checked().await;
        let server = server(state, generation_of_other);
        let other = v1::Server { model: "other".to_owned(), ..server };
        check.answer(v1::GetResponse { server: Some(other), answers: true });
        assert_eq!(generation(wait).await, 1);
        broken.assert_grace_is_over();
    }
}

#[tokio::test(start_paused = true)]
async fn a_check_that_is_not_answered_ends_with_the_grace() {
    let mut broken = Broken::new().await;
    let (wait, check) = broken.checked().await;
    assert_eq!(generation(wait).await, 1);
    broken.assert_grace_is_over();
    check.gone().await;
}

#[tokio::test(start_paused = true)]
async fn the_next_process_goes_before_the_check_and_ends_it() {
    let mut broken = Broken::new().await;
    let (wait, check) = broken.checked().await;
    tell(&broken.stream, Wire::Ready, 2);
    assert_eq!(generation(wait).await, 2);
    check.gone().await;
}

#[tokio::test(start_paused = true)]
async fn a_process_that_dies_during_the_grace_is_not_returned() {
    let mut broken = Broken::new().await;
    let (wait, check) = broken.checked().await;
    check.answer(found(Wire::Ready, 1, false));
    tell(&broken.stream, Wire::BackingOff, 1);
    tokio::time::sleep(10 * GRACE).await;
    assert!(!wait.is_finished());
    tell(&broken.stream, Wire::Ready, 2);
    assert_eq!(generation(wait).await, 2);
}

#[tokio::test(start_paused = true)]
async fn a_process_that_is_known_to_be_dead_is_not_asked() {
    let mut broken = Broken::new().await;
    let mut states = broken.hold.states();
    tell(&broken.stream, Wire::BackingOff, 1);
    while soon(states.next()).await.expect("a state").expect("it goes on").pid == 0 {}
    tokio::time::sleep(GRACE).await;
    let wait = broken.wait();
    let asked = tokio::time::timeout(10 * GRACE, broken.service.get()).await;
    assert!(asked.is_err() && !wait.is_finished());
    tell(&broken.stream, Wire::Ready, 2);
    assert_eq!(generation(wait).await, 2);
}

#[tokio::test(start_paused = true)]
async fn a_timeout_ends_the_wait_and_its_check() {
    let mut broken = Broken::new().await;
    let (hold, old) = (broken.hold.clone(), broken.old.clone());
    let second = Duration::from_secs(1);
    let wait = tokio::spawn(async move { hold.ready().after(&old).timeout(second).await });
    broken.service.get().await.gone().await;
    let error = soon(wait).await.expect("no panic").expect_err("it is late");
    assert_eq!(error.reason(), Reason::DeadlineExceeded);
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_hold_ends_the_wait_and_its_check() {
    let mut broken = Broken::new().await;
    let (wait, check) = broken.checked().await;
    broken.hold.close();
    let error = soon(wait).await.expect("no panic").expect_err("it was closed");
    assert_eq!(error.reason(), Reason::Cancelled);
    check.gone().await;
}

#[tokio::test(start_paused = true)]
async fn a_hold_that_is_over_asks_nothing_and_says_how_it_ended() {
    for reason in [Reason::Cancelled, Reason::Evicted] {
        let Broken { mut service, stream, hold, old, .. } = Broken::new().await;
        let mut states = hold.states();
        if reason == Reason::Cancelled {
            hold.close();
        } else {
            stream.refuse(evicted());
        }
        while let Some(Ok(_)) = soon(states.next()).await {}
        let began = Instant::now();
        let error = soon(hold.ready().after(&old)).await.expect_err("it is over");
        assert_eq!((error.reason(), began.elapsed()), (reason, Duration::ZERO));
        assert!(tokio::time::timeout(10 * GRACE, service.get()).await.is_err());
    }
}
