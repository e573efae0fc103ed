//! A client of several addresses, in time that passes.

use std::error::Error as _;
use std::time::Duration;

use pool_service_client::v1::ServerState as Wire;
use pool_service_client::{Client, Code, Reason, RetryPolicy, v1};
use tokio::net::TcpListener;
use tonic::Status;
use tonic::codegen::{Bytes, http};

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
    in_time(opened).await
}

/// What the future gives within a minute.
async fn in_time<T>(future: impl IntoFuture<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future).await.expect("it comes")
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

#[tokio::test]
async fn a_call_that_the_service_drops_is_made_at_the_next_address() {
    let (pool, mut first, mut second) = with_two().await;
    let _hold = pool.hold("m").open();
    opened_at(&mut first, &mut second).await.refuse(Status::cancelled("CANCELLED"));
    opened_at(&mut second, &mut first).await;

    let (pool, mut first, mut second) = with_two().await;
    let listed = tokio::spawn(async move { pool.list().await });
    first.list().await.refuse(Status::cancelled("CANCELLED"));
    in_time(second.list()).await.answer(v1::ListResponse::default());
    assert!(listed.await.expect("it does not panic").expect("it is answered").is_empty());
}

#[tokio::test]
async fn a_call_that_its_caller_gives_up_is_no_failure_of_its_address() {
    let (pool, mut first, mut second) = with_two().await;
    let hold = pool.hold("m").open();
    let stream = opened_at(&mut first, &mut second).await;
    drop(hold);
    stream.gone().await;
    let _hold = pool.hold("m").open();
    opened_at(&mut first, &mut second).await;
}

#[tokio::test]
async fn a_proxy_that_does_not_reach_the_service_is_an_address_that_has_failed() {
    let (there, mut second) = listening().await;
    let address = format!("{},{there}", proxy().await);
    let once = RetryPolicy::default().attempts(1);
    let pool = Client::builder().address(address).retry(once).connect().expect("it is valid");
    let listed = tokio::spawn(async move { pool.list().await });
    in_time(second.list()).await.answer(v1::ListResponse::default());
    assert!(listed.await.expect("it does not panic").expect("it is answered").is_empty());
}

#[tokio::test]
async fn the_cause_of_a_deadline_is_the_failure_at_another_address() {
    let (there, mut second) = listening().await;
    let address = format!("{},{there}", proxy().await);
    let pool = Client::builder().address(address).connect().expect("it is valid");
    let listed = tokio::spawn(async move { pool.list().timeout(Duration::from_secs(5)).await });
    let _unanswered = in_time(second.list()).await;
    let error = listed.await.expect("it does not panic").expect_err("it is late");
    assert_eq!(error.reason(), Reason::DeadlineExceeded);
    let cause = error.source().expect("it has a cause").to_string();
    assert!(cause.contains("502"), "{cause}");
}

/// The address of a proxy that says with a page that it does not reach the service.
async fn proxy() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let address = listener.local_addr().expect("it is bound").to_string();
    tokio::spawn(async move {
        let (socket, _) = listener.accept().await.expect("somebody connects");
        let mut connection = h2::server::handshake(socket).await.expect("it is HTTP/2");
        while let Some(Ok((_, mut respond))) = connection.accept().await {
            let head = http::Response::builder().status(502).header("content-type", "text/html");
            let head = head.body(()).expect("it is valid");
            let mut body = respond.send_response(head, false).expect("it is there");
            body.send_data(Bytes::from_static(b"<html>"), true).expect("it is there");
        }
    });
    address
}
