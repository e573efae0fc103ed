use std::future::IntoFuture as _;

use pool_service_client::{Client, Code, Reason};
use tokio::time::{Duration, Instant, timeout};

use crate::scripted::{Service, connected, ensured, listening, refusal, retry_in, soon};

const SENT: Option<&str> = Some("Bearer hush");

/// What the future gives, in time that passes.
pub(crate) async fn real<T>(future: impl IntoFuture<Output = T>) -> T {
    timeout(Duration::from_secs(60), future).await.expect("it comes")
}

async fn with_token() -> (Client, Service) {
    let (address, service) = listening().await;
    let builder = Client::builder().address(address).token("hush");
    (builder.connect().expect("it is valid"), service)
}

#[tokio::test]
async fn a_token_comes_with_each_call_its_retries_and_streams() {
    let (pool, mut service) = with_token().await;
    let asking = tokio::spawn(pool.ensure("m").into_future());
    let call = real(service.ensure()).await;
    assert_eq!(call.token.as_deref(), SENT);
    call.refuse(refusal(Code::Unavailable, "RECOVERING", vec![]));
    let call = real(service.ensure()).await;
    assert_eq!(call.token.as_deref(), SENT);
    call.answer(ensured(1, ""));
    real(asking).await.expect("no panic").expect("it is ready");

    let hold = pool.hold("m").open();
    let call = real(service.hold()).await;
    assert_eq!(call.token.as_deref(), SENT);
    call.refuse(refusal(Code::Unavailable, "RECOVERING", vec![]));
    assert_eq!(real(service.hold()).await.token.as_deref(), SENT);
    drop(hold);
}

#[tokio::test(start_paused = true)]
async fn on_a_channel_of_the_callers_none_is_sent() {
    let (pool, mut service) = connected();
    let asking = tokio::spawn(pool.ensure("m").into_future());
    assert_eq!(service.ensure().await.token, None);
    asking.abort();
}

#[tokio::test]
async fn a_token_is_not_shown_and_its_refusal_is_final() {
    let (pool, mut service) = with_token().await;
    for (code, name, reason) in [
        (Code::Unauthenticated, "TOKEN_UNKNOWN", Reason::TokenUnknown),
        (Code::PermissionDenied, "SCOPE_MISSING", Reason::ScopeMissing),
    ] {
        let asking = tokio::spawn(pool.ensure("m").into_future());
        real(service.ensure()).await.refuse(refusal(code, name, vec![]));
        let error = real(asking).await.expect("no panic").expect_err("it was refused");
        assert_eq!(error.reason(), reason);
        assert!(!format!("{error} {error:?} {pool:?}").contains("hush"));
    }
    assert!(!format!("{:?}", Client::builder().token("hush")).contains("hush"));
}

#[tokio::test(start_paused = true)]
async fn a_quota_is_waited_for() {
    let (pool, mut service) = connected();
    let asking = tokio::spawn(pool.ensure("m").into_future());
    let full = refusal(Code::ResourceExhausted, "QUOTA_EXCEEDED", vec![retry_in(3)]);
    service.ensure().await.refuse(full);
    let refused = Instant::now();
    let call = service.ensure().await;
    assert!(refused.elapsed() >= Duration::from_secs(3));
    let answer = ensured(1, "");
    call.answer(answer);
    soon(asking).await.expect("no panic").expect("it is ready");
}
