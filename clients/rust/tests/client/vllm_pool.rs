//! The drop-in for a pool in your own process, against what a service may answer.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use pool_service_client::v1::ServerState as Wire;
use pool_service_client::vllm_pool::VllmServerPool;
use pool_service_client::{Client, RetryPolicy, v1};
use tokio::task::JoinHandle;
use tonic::{Code, Status};
use tonic_types::pb;

use crate::scripted::{Service, detail, ensured, listening, refusal, server};
use crate::tokens::real;

const MINUTE: Duration = Duration::from_secs(60);

struct Engine {
    pool: Arc<VllmServerPool>,
    service: Service,
}

impl Engine {
    async fn new(idle_ttl: Duration) -> Self {
        let (address, service) = listening().await;
        let connecting = Client::builder().address(address).connect_or_start();
        let pool = VllmServerPool::new(idle_ttl).with_service(connecting);
        Self { pool: Arc::new(pool), service }
    }

    /// An engine that has asked for its model.
    async fn with_server(idle_ttl: Duration) -> Self {
        let mut engine = Self::new(idle_ttl).await;
        let asking = engine.spawn(|pool| async move { pool.ensure("alias", "").await });
        real(engine.service.ensure()).await.answer(ensured(1, ""));
        assert_eq!(real(asking).await.expect("no panic"), Ok("http://127.0.0.1:4001".to_owned()));
        engine
    }

    fn spawn<F>(&self, call: impl FnOnce(Arc<VllmServerPool>) -> F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        tokio::spawn(call(self.pool.clone()))
    }

    async fn listed(&mut self, servers: Vec<v1::Server>) {
        let answer = v1::ListResponse { servers, ..Default::default() };
        real(self.service.list()).await.answer(answer);
    }

    async fn len(&mut self, servers: Vec<v1::Server>) -> usize {
        let asking = self.spawn(|pool| async move { (pool.len().await, pool.is_empty().await) });
        self.listed(servers.clone()).await;
        self.listed(servers).await;
        let (len, is_empty) = real(asking).await.expect("no panic");
        assert_eq!(len == 0, is_empty);
        len
    }
}

fn used(model: &str, state: Wire, ago: Duration) -> v1::Server {
    let last = SystemTime::now().checked_sub(ago).expect("it is after 1970");
    v1::Server { model: model.to_owned(), last_use_time: Some(last.into()), ..server(state, 1) }
}

#[tokio::test]
async fn ensure_asks_for_both_names_and_for_the_time() {
    for (idle_ttl, sent) in [(5 * MINUTE, 300), (Duration::MAX, -1)] {
        let mut engine = Engine::new(idle_ttl).await;
        let asking = engine.spawn(|pool| async move { pool.ensure("m", "org/m").await });
        let call = real(engine.service.ensure()).await;
        let expected = v1::EnsureRequest {
            model: "m".to_owned(),
            runtime_model: "org/m".to_owned(),
            keep_alive: Some(prost_types::Duration { seconds: sent, nanos: 0 }),
            download: None,
        };
        assert_eq!(call.request, expected);
        call.answer(ensured(1, ""));
        assert_eq!(real(asking).await.expect("no panic"), Ok("http://127.0.0.1:4001".to_owned()));
    }
}

#[tokio::test]
async fn a_start_that_fails_says_why_with_the_last_lines() {
    let mut engine = Engine::new(MINUTE).await;
    let asking = engine.spawn(|pool| async move { pool.ensure("m", "org/m").await });
    let lines = pb::DebugInfo { stack_entries: vec!["no room".to_owned()], ..Default::default() };
    let details = vec![detail("DebugInfo", &lines)];
    let refused = refusal(Code::FailedPrecondition, "MODEL_REJECTED", details);
    real(engine.service.ensure()).await.refuse(refused);
    let expected = Err("refused as MODEL_REJECTED\nno room".to_owned());
    assert_eq!(real(asking).await.expect("no panic"), expected);
}

#[tokio::test]
async fn a_service_that_has_gone_is_found_or_started_anew_and_asked_again() {
    let (address, mut service) = listening().await;
    let connecting = Client::builder()
        .address(address)
        .retry(RetryPolicy::default().attempts(1))
        .connect_or_start();
    let pool = VllmServerPool::new(MINUTE).with_service(connecting);
    let asking = tokio::spawn(async move { pool.ensure("m", "").await });
    real(service.ensure()).await.refuse(Status::unavailable("it is gone"));
    real(service.ensure()).await.answer(ensured(1, ""));
    assert_eq!(real(asking).await.expect("no panic"), Ok("http://127.0.0.1:4001".to_owned()));
}

#[tokio::test]
async fn only_servers_of_this_pool_that_are_unused_for_long_are_evicted() {
    let mut engine = Engine::with_server(MINUTE).await;
    for kept in [used("m", Wire::Ready, MINUTE / 2), used("m", Wire::Starting, 2 * MINUTE)] {
        let evicting = engine.spawn(|pool| async move { pool.evict_idle().await });
        engine.listed(vec![kept, used("other", Wire::Ready, 2 * MINUTE)]).await;
        assert_eq!(real(evicting).await.expect("no panic"), 0);
    }
    for is_in_use in [true, false] {
        let evicting = engine.spawn(|pool| async move { pool.evict_idle().await });
        engine.listed(vec![used("m", Wire::Ready, 2 * MINUTE)]).await;
        let call = real(engine.service.evict()).await;
        let target = Some(v1::evict_request::Target::Model("m".to_owned()));
        assert_eq!(call.request, v1::EvictRequest { target, force: false });
        if is_in_use {
            call.refuse(refusal(Code::FailedPrecondition, "SERVER_IN_USE", vec![]));
        } else {
            call.answer(v1::EvictResponse::default());
        }
        assert_eq!(real(evicting).await.expect("no panic"), usize::from(!is_in_use));
    }
    assert_eq!(engine.pool.evict_idle().await, 0);
}

#[tokio::test]
async fn a_server_that_has_ended_counts_once() {
    for left in [vec![], vec![used("m", Wire::Failed, Duration::ZERO)]] {
        let mut engine = Engine::with_server(MINUTE).await;
        let evicting = engine.spawn(|pool| async move { pool.evict_idle().await });
        engine.listed(left).await;
        assert_eq!(real(evicting).await.expect("no panic"), 1);
        assert_eq!(engine.pool.evict_idle().await, 0);
    }
}

#[tokio::test]
async fn the_servers_of_this_pool_are_counted_while_they_are_there() {
    let mut engine = Engine::with_server(MINUTE).await;
    let other = used("other", Wire::Ready, Duration::ZERO);
    for (state, expected) in [(Wire::Ready, 1), (Wire::BackingOff, 1), (Wire::Failed, 0)] {
        let servers = vec![used("m", state, Duration::ZERO), other.clone()];
        assert_eq!(engine.len(servers).await, expected);
    }
    assert_eq!(engine.len(vec![other]).await, 0);
}
