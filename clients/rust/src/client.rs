use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tonic::service::interceptor::InterceptedService;
use tonic::{Request, Response, Status};

use crate::builder::{ClientBuilder, Interceptor};
use crate::calls::{
    EvictCall, ForgetCall, HoldCall, ListCall, LogsCall, ModelsCall, PinCall, PullCall, ReloadCall,
};
use crate::describe::DescribeCall;
use crate::ensure::EnsureCall;
use crate::error::Error;
use crate::failover::Failover;
use crate::get::GetCall;
use crate::retry::{Attempts, RetryPolicy};
use crate::start::ConnectOrStart;
use crate::status::{error_of, late, no_pool_service};
use crate::types::Found;
use crate::v1;
use crate::v1::evict_request::Target;
use crate::v1::pool_service_client::PoolServiceClient;
use crate::watch::Watch;

pub(crate) type Stub = PoolServiceClient<InterceptedService<Failover, Interceptor>>;
pub(crate) type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A connection to a pool service. A clone is cheap and shares the connection.
///
/// ```no_run
/// # async fn example() -> Result<(), pool_service_client::Error> {
/// let pool = pool_service_client::Client::connect()?; let server =
/// pool.ensure("vllm-mlx/qwen3-4b").await?.server;
/// # Ok(())
/// # }
/// ```
///
/// Await the result of a method, after its options. Errors that may pass are retried: within the
/// call's `timeout`, or without one for [`RetryPolicy::patience`]. Dropping a future ends only your
/// wait: the service goes on with what it has begun.
#[derive(Clone)]
pub struct Client {
    pub(crate) stub: Stub,
    pub(crate) address: Arc<str>,
    pub(crate) retry: RetryPolicy,
}

impl Client {
    /// A client of the service at `POOL_SERVICE_ADDRESS`, else at the socket of your own service if
    /// one listens there now, else at `127.0.0.1:50051`, with the token
    /// of `POOL_SERVICE_TOKEN`, else of the file `POOL_SERVICE_TOKEN_FILE`, else with none.
    ///
    /// It connects on first use, and again after a break.
    ///
    /// # Errors
    /// [`InvalidRequest`](crate::Reason::InvalidRequest) if a variable is not valid.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn connect() -> Result<Self, Error> {
        Self::builder().connect()
    }

    /// A client of the service that [`connect`](Self::connect) would find, or of one that is
    /// started, so that nobody has to start it first.
    ///
    /// 1. If `POOL_SERVICE_ADDRESS` names an address, the service there is somebody's: it is not
    ///    started.
    /// 2. If your own service says within 2 seconds that it serves, it is that one.
    /// 3. Else `pool-service start` is run, which waits for the end of a service that is ending, and
    ///    starts your own service, exactly once however many callers do so at a time. It goes on
    ///    after your program has ended.
    pub fn connect_or_start() -> ConnectOrStart {
        Self::builder().connect_or_start()
    }

    /// A client with your own address, token, retry policy or interceptor.
    pub fn builder() -> ClientBuilder {
        ClientBuilder::default()
    }

    /// Waits until the model's server is READY; starts it if there is none.
    pub fn ensure(&self, model: impl Into<String>) -> EnsureCall {
        EnsureCall::new(self.clone(), model.into())
    }

    /// Makes the model READY, and keeps it so until the hold is dropped: see [`crate::Hold`].
    pub fn hold(&self, model: impl Into<String>) -> HoldCall {
        HoldCall::new(self.clone(), model.into())
    }

    /// Stops the model's server, and returns the stopped server, or none if there was none.
    pub fn evict(&self, model: impl Into<String>) -> EvictCall {
        EvictCall::new(self.clone(), Target::Model(model.into()))
    }

    /// Stops every READY server that is neither in use nor pinned; force is not valid with it.
    pub fn evict_idle(&self) -> EvictCall {
        EvictCall::new(self.clone(), Target::Idle(true))
    }

    /// Stops every server that is not in use; with force also those that are.
    pub fn evict_all(&self) -> EvictCall {
        EvictCall::new(self.clone(), Target::All(true))
    }

    /// The server of one model, if it has one. Starts nothing, and is no use of the server.
    pub fn get(&self, model: impl Into<String>) -> GetCall {
        GetCall::new(self.clone(), model.into())
    }

    /// All servers, ordered by model; or their pages, with the pool's totals.
    pub fn list(&self) -> ListCall {
        ListCall::new(self.clone())
    }

    /// The present servers, [`Synced`](crate::Event::Synced), then every change.
    pub fn watch(&self) -> Watch {
        Watch::new(self.clone(), None)
    }

    /// Every change after a revision, such as that of a page or of another watch.
    pub fn watch_after(&self, revision: u64) -> Watch {
        Watch::new(self.clone(), Some(revision))
    }

    /// What the servers of the model have written, from the newest process on unless you say
    /// otherwise. Reading a log is no use of a server.
    pub fn logs(&self, model: impl Into<String>) -> LogsCall {
        LogsCall::new(self.clone(), model.into())
    }

    /// The models that the service's configuration lists, ordered by model.
    pub fn models(&self) -> ModelsCall {
        ModelsCall::new(self.clone())
    }

    /// Downloads the missing files of the model, and starts nothing.
    pub fn pull(&self, model: impl Into<String>) -> PullCall {
        PullCall::new(self.clone(), model.into())
    }

    /// Forgets the runtime model that is remembered for the model, and returns it, or "" if there
    /// was none. A running server goes on as it is.
    pub fn forget(&self, model: impl Into<String>) -> ForgetCall {
        ForgetCall::new(self.clone(), model.into())
    }

    /// Pins the model (`true`), takes its pin back (`false`), whatever the configuration says, or
    /// lets the configuration decide again (`None`). The server of a pinned model is stopped
    /// neither for being unused nor for other models. Starts nothing; kept over evictions and
    /// restarts of the service.
    pub fn pin(&self, model: impl Into<String>, pinned: impl Into<Option<bool>>) -> PinCall {
        PinCall::new(self.clone(), model.into(), pinned.into())
    }

    /// All that the service knows about the model: its settings, servers and last starts, who holds
    /// it and waits for it, what would be stopped for another model, and the last decisions.
    pub fn describe(&self, model: impl Into<String>) -> DescribeCall {
        DescribeCall::new(self.clone(), model.into())
    }

    /// Makes the service read its configuration again and apply the differences.
    pub fn reload(&self) -> ReloadCall {
        ReloadCall::new(self.clone())
    }

    /// The answer of a unary call, with retries by the policy.
    pub(crate) async fn unary<Q, R, F>(
        &self,
        timeout: Option<Duration>,
        message: Q,
        method: impl Fn(Stub, Request<Q>) -> F,
    ) -> Result<R, Error>
    where
        Q: Clone,
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let mut attempts = Attempts::new(self.retry, timeout);
        loop {
            let limit = attempts.remaining();
            let error = match self.attempt(limit, timeout, message.clone(), &method).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            tokio::time::sleep(attempts.failed(error)?).await;
        }
    }

    /// The server of the model, by one attempt within the limit.
    pub(crate) async fn look_up(
        &self,
        model: &str,
        check: bool,
        limit: Duration,
    ) -> Result<Found, Error> {
        let request = v1::GetRequest { model: model.to_owned(), check };
        let method = |mut stub: Stub, request| async move { stub.get(request).await };
        self.attempt(Some(limit), Some(limit), request, method).await.map(Found::from)
    }

    /// The answer of one attempt of a unary call.
    ///
    /// limit: the time that is left of the call's timeout.
    async fn attempt<Q, R, F>(
        &self,
        limit: Option<Duration>,
        timeout: Option<Duration>,
        message: Q,
        method: impl Fn(Stub, Request<Q>) -> F,
    ) -> Result<R, Error>
    where
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let mut request = Request::new(message);
        if let Some(limit) = limit {
            request.set_timeout(limit);
        }
        match within(limit, method(self.stub(), request)).await {
            Some(Ok(response)) => Ok(response.into_inner()),
            Some(Err(status)) => Err(self.error_of(&status, timeout)),
            None => Err(late(timeout)),
        }
    }

    pub(crate) fn stub(&self) -> Stub {
        self.stub.clone()
    }

    pub(crate) fn error_of(&self, status: &Status, timeout: Option<Duration>) -> Error {
        error_of(status, &self.address, timeout)
    }

    /// The error for an answer that no pool service gives.
    pub(crate) fn no_pool_service(&self, what: &str) -> Error {
        no_pool_service(&self.address, what)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Client")
            .field("address", &self.address)
            .field("retry", &self.retry)
            .finish_non_exhaustive()
    }
}

/// The result of the future, or `None` if it takes longer than the limit.
async fn within<T>(limit: Option<Duration>, future: impl Future<Output = T>) -> Option<T> {
    match limit {
        None => Some(future.await),
        Some(limit) => tokio::time::timeout(limit, future).await.ok(),
    }
}
