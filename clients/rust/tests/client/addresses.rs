//! A client of several addresses, in time that passes.

use std::time::Duration;

use pool_service_client::v1::ServerState as Wire;
use pool_service_client::{Client, Code, RetryPolicy};

use crate::holds::{Stream, tell};
use crate::scripted::{Service, listening, refusal};

/// A client that makes each call once at each of two services, and these.
async fn with_two() -> (Client, Service, Service) {
    let (here, first) = listening().await;
    let (there, second) = listening().await;
    let once = RetryPolicy::default().attempts(1);
    let builder = Client::builder().address(format!("{here},{there}")).retry(once);
    (builder.connect().expect("it is valid"), first, second)
}

/// The stream of a hold that is opened at the one of two services, and not at the other.
async fn opened_at(service: &mut Service, other: &mut Service) -> Stream {
    let opened = async {
        tokio::select! {
            stream = service.hold() => stream,
            _ = other.hold() => panic!("it went to the other address"),
        }
    };
    tokio::time::timeout(Duration::from_secs(60), opened).await.expect("it is opened")
}

#[tokio::test]
async fn a_stream_that_ends_as_unavailable_goes_on_at_the_next_address() {
    let (pool, mut first, mut second) = with_two().await;
    let hold = pool.hold("m").open();
    let stream = opened_at(&mut first, &mut second).await;
    tell(&stream, Wire::Ready, 1);
    hold.ready().await.expect("it is ready");
    stream.refuse(refusal(Code::Unavailable, "SHUTTING_DOWN", vec![]));
    opened_at(&mut second, &mut first).await;
}

#[tokio::test]
async fn a_stream_that_ends_otherwise_is_no_failure_of_its_address() {
    let (pool, mut first, mut second) = with_two().await;
    let mut events = pool.watch();
    let watching = tokio::spawn(async move { events.next().await });
    let stream = first.watch().await;
    stream.refuse(refusal(Code::Internal, "INTERNAL", vec![]));
    watching.await.expect("it does not panic").expect("it ends").expect_err("it is final");
    let _hold = pool.hold("m").open();
    opened_at(&mut first, &mut second).await;
}
