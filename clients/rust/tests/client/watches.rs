use pool_service_client::v1::watch_response::Event as Said;
use pool_service_client::v1::{ServerRole as WireRole, ServerState as Wire};
use pool_service_client::{Client, Code, Event, Reason, RetryPolicy, ServerRole, Watch, v1};
use std::time::Duration;
use tokio::time::Instant;
use tonic::Status;

use crate::scripted::{Service, connected, connected_by, refusal, server, soon};

type Told = tokio::sync::mpsc::UnboundedReceiver<String>;

/// What a watch tells, each event in short.
fn read(mut watch: Watch) -> Told {
    let (tell, told) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(event) = watch.next().await {
            let said = match event {
                Ok(Event::Changed { revision, server }) => {
                    format!("{} at {revision}", server.model)
                }
                Ok(Event::Removed { revision, server }) => {
                    format!("no {} at {revision}", server.model)
                }
                Ok(Event::Synced { revision }) => format!("synced at {revision}"),
                Ok(other) => format!("{other:?}"),
                Err(error) => format!("{:?}", error.reason()),
            };
            let _ = tell.send(said);
        }
    });
    told
}

async fn next(told: &mut Told) -> String {
    soon(told.recv()).await.expect("it goes on")
}

fn of(model: &str) -> v1::Server {
    v1::Server { model: model.to_owned(), ..server(Wire::Ready, 1) }
}

fn at(revision: u64, event: Said) -> v1::WatchResponse {
    v1::WatchResponse { revision, event: Some(event) }
}

fn compacted() -> Status {
    refusal(Code::OutOfRange, "REVISION_COMPACTED", vec![])
}

/// A watch that was told of `a` and `b` in the state of revision 5, and its broken stream.
async fn synced(pool: &Client, service: &mut Service) -> Told {
    let mut told = read(pool.watch());
    let call = service.watch().await;
    assert_eq!(call.request.after_revision, None);
    call.answer(at(5, Said::Server(of("a"))));
    call.answer(at(5, Said::Server(of("b"))));
    call.answer(at(5, Said::Synced(v1::Synced {})));
    for expected in ["a at 5", "b at 5", "synced at 5"] {
        assert_eq!(next(&mut told).await, expected);
    }
    call.refuse(Status::unavailable("gone"));
    told
}

#[tokio::test(start_paused = true)]
async fn a_watch_resumes_after_the_last_revision_that_it_saw() {
    let (pool, mut service) = connected();
    let mut told = synced(&pool, &mut service).await;
    let call = service.watch().await;
    assert_eq!(call.request.after_revision, Some(5));
    call.answer(at(6, Said::Removed(of("a"))));
    assert_eq!(next(&mut told).await, "no a at 6");
    service.network.cut();
    assert_eq!(service.watch().await.request.after_revision, Some(6));
}

#[tokio::test(start_paused = true)]
async fn a_state_that_broke_off_is_begun_again() {
    let (pool, mut service) = connected();
    let mut told = read(pool.watch());
    let call = service.watch().await;
    call.answer(at(5, Said::Server(of("a"))));
    assert_eq!(next(&mut told).await, "a at 5");
    call.refuse(Status::unavailable("gone"));
    assert_eq!(service.watch().await.request.after_revision, None);
}

#[tokio::test(start_paused = true)]
async fn where_the_history_is_gone_it_tells_what_has_gone_when_the_new_state_is_complete() {
    let (pool, mut service) = connected();
    let mut told = synced(&pool, &mut service).await;
    service.watch().await.refuse(compacted());
    let call = service.watch().await;
    assert_eq!(call.request.after_revision, None);
    call.answer(at(90, Said::Server(of("b"))));
    call.answer(at(90, Said::Synced(v1::Synced {})));
    for expected in ["b at 90", "no a at 90", "synced at 90"] {
        assert_eq!(next(&mut told).await, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn where_the_history_is_gone_it_tells_the_servers_of_one_model_apart() {
    let (pool, mut service) = connected();
    let mut watch = pool.watch();
    let reading = tokio::spawn(async move {
        let mut gone = Vec::new();
        loop {
            match watch.next().await.expect("it goes on").expect("without an error") {
                Event::Removed { server, .. } => gone.push((server.generation, server.role)),
                Event::Synced { revision: 90 } => return gone,
                _ => {}
            }
        }
    });
    let of = |generation, role: WireRole| {
        Said::Server(v1::Server { role: role.into(), ..server(Wire::Ready, generation) })
    };
    let call = service.watch().await;
    call.answer(at(5, of(10, WireRole::Superseded)));
    call.answer(at(5, of(9, WireRole::Superseded)));
    call.answer(at(5, of(11, WireRole::Current)));
    call.answer(at(5, Said::Synced(v1::Synced {})));
    call.refuse(Status::unavailable("gone"));
    service.watch().await.refuse(compacted());
    let call = service.watch().await;
    call.answer(at(90, of(11, WireRole::Current)));
    call.answer(at(90, Said::Synced(v1::Synced {})));
    let gone = soon(reading).await.expect("no panic");
    assert_eq!(gone, [(9, ServerRole::Superseded), (10, ServerRole::Superseded)]);
}

#[tokio::test(start_paused = true)]
async fn one_that_began_after_a_revision_fails_where_the_history_is_gone() {
    let (pool, mut service) = connected();
    let mut told = read(pool.watch_after(3));
    let call = service.watch().await;
    assert_eq!(call.request.after_revision, Some(3));
    call.refuse(compacted());
    assert_eq!(next(&mut told).await, "RevisionCompacted");
    assert_eq!(soon(told.recv()).await, None);
}

#[tokio::test(start_paused = true)]
async fn it_gives_up_when_the_service_stays_away() {
    let (pool, mut service) = connected();
    let mut told = synced(&pool, &mut service).await;
    service.network.set_away(true);
    service.network.cut();
    assert_eq!(next(&mut told).await, "PoolUnavailable");
}

#[tokio::test(start_paused = true)]
async fn a_message_makes_the_next_break_the_first() {
    let (pool, mut service) =
        connected_by(Client::builder().retry(RetryPolicy::default().attempts(2)));
    let mut told = read(pool.watch_after(1));
    for revision in 2..6 {
        let call = service.watch().await;
        call.answer(at(revision, Said::Server(of("a"))));
        assert_eq!(next(&mut told).await, format!("a at {revision}"));
        call.refuse(Status::unavailable("gone"));
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_of_a_kind_that_is_not_known_only_moves_the_revision() {
    let (pool, mut service) = connected();
    let mut watch = pool.watch_after(1);
    let reading = tokio::spawn(async move {
        let event = watch.next().await;
        (event, watch.revision())
    });
    let call = service.watch().await;
    call.answer(v1::WatchResponse { revision: 2, event: None });
    call.refuse(Status::unavailable("gone"));
    let call = service.watch().await;
    assert_eq!(call.request.after_revision, Some(2));
    call.refuse(compacted());
    let (event, revision) = soon(reading).await.expect("no panic");
    let error = event.expect("it ends").expect_err("with an error");
    assert_eq!((error.reason(), revision), (Reason::RevisionCompacted, Some(2)));
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_was_open_for_long_makes_its_break_the_first_though_it_was_quiet() {
    let retry = RetryPolicy::default().attempts(2);
    let (pool, mut service) = connected_by(Client::builder().retry(retry));
    let mut told = read(pool.watch_after(1));
    service.watch().await.refuse(Status::unavailable("gone"));
    let quiet = service.watch().await;
    tokio::time::sleep(RetryPolicy::default().patience * 2).await;
    quiet.refuse(Status::unavailable("gone"));
    service.watch().await.answer(at(2, Said::Server(of("a"))));
    assert_eq!(next(&mut told).await, "a at 2");
}

/// It waited so many milliseconds, with its jitter and a moment more.
fn assert_waited(wait: Duration, least: u64) {
    let least = Duration::from_millis(least);
    assert!(wait >= least && wait <= least.mul_f64(1.31), "{wait:?}, not {least:?}");
}

#[tokio::test(start_paused = true)]
async fn streams_that_end_soon_are_opened_ever_more_slowly() {
    let (pool, mut service) = connected();
    let _told = read(pool.watch());
    let mut call = service.watch().await;
    for least in [100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000] {
        call.answer(at(5, Said::Synced(v1::Synced {})));
        let ended = Instant::now();
        call.refuse(Status::unavailable("gone"));
        call = service.watch().await;
        assert_waited(ended.elapsed(), least);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_was_alive_for_a_while_is_opened_soon() {
    let (pool, mut service) = connected();
    let _told = read(pool.watch());
    for _ in 0..6 {
        let call = service.watch().await;
        call.answer(at(5, Said::Synced(v1::Synced {})));
        call.refuse(Status::unavailable("gone"));
    }
    let call = service.watch().await;
    call.answer(at(6, Said::Server(of("a"))));
    tokio::time::sleep(Duration::from_secs(11)).await;
    let ended = Instant::now();
    call.refuse(Status::unavailable("gone"));
    let _next = service.watch().await;
    assert_waited(ended.elapsed(), 100);
}

#[tokio::test(start_paused = true)]
async fn a_revision_never_goes_back() {
    let (pool, mut service) = connected();
    let mut told = synced(&pool, &mut service).await;
    let call = service.watch().await;
    call.answer(at(9, Said::Server(of("a"))));
    for older in [Said::Server(of("a")), Said::Removed(of("a")), Said::Synced(v1::Synced {})] {
        call.answer(at(8, older));
    }
    call.answer(at(10, Said::Server(of("b"))));
    assert_eq!(next(&mut told).await, "a at 9");
    assert_eq!(next(&mut told).await, "b at 10");
}
