use pool_service_client::{Client, Reason, RetryPolicy, v1};
use tonic::Status;

use crate::scripted::{connected, connected_by, recovering, soon};

fn progress(done_bytes: u64) -> v1::PullResponse {
    v1::PullResponse { done_bytes, total_bytes: 10 }
}

#[tokio::test(start_paused = true)]
async fn a_download_ends_when_all_files_are_there() {
    let (pool, mut service) = connected();
    let mut pull = pool.pull("m").runtime_model("org/m").stream();
    let reading = tokio::spawn(async move {
        let mut done = Vec::new();
        while let Some(progress) = pull.next().await {
            done.push(progress.expect("it goes on").done);
        }
        done
    });
    let call = service.pull().await;
    assert_eq!(call.request.runtime_model, "org/m");
    call.answer(progress(1));
    call.answer(progress(10));
    drop(call);
    assert_eq!(soon(reading).await.expect("no panic"), [1, 10]);
}

#[tokio::test(start_paused = true)]
async fn each_download_that_gets_further_is_a_new_beginning() {
    let retry = RetryPolicy::default().attempts(2);
    let (pool, mut service) = connected_by(Client::builder().retry(retry));
    let mut pull = pool.pull("m").stream();
    let reading = tokio::spawn(async move {
        loop {
            if let Err(error) = pull.next().await.expect("it fails before it ends") {
                return error;
            }
        }
    });
    for done in [1, 2, 3] {
        let call = service.pull().await;
        call.answer(progress(done));
        call.refuse(recovering());
    }
    let call = service.pull().await;
    call.answer(progress(3));
    call.refuse(recovering());
    assert_eq!(soon(reading).await.expect("no panic").reason(), Reason::Recovering);
}

#[tokio::test(start_paused = true)]
async fn a_download_that_is_dropped_ends_at_the_service() {
    let (pool, mut service) = connected();
    let mut pull = pool.pull("m").stream();
    let reading = tokio::spawn(async move { pull.next().await });
    let call = service.pull().await;
    reading.abort();
    call.gone().await;
}

#[tokio::test(start_paused = true)]
async fn after_its_error_a_stream_is_over() {
    let (pool, mut service) = connected();
    let mut pull = pool.pull("m").stream();
    let reading = tokio::spawn(async move { (pull.next().await, pull.next().await) });
    service.pull().await.refuse(Status::internal("broken"));
    let (first, second) = soon(reading).await.expect("no panic");
    assert!(first.expect("an error").is_err() && second.is_none());
}
