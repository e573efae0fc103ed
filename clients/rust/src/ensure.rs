use std::convert::Infallible;
use std::fmt;
use std::future::IntoFuture;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::client::{BoxFuture, Client};
use crate::error::Error;
use crate::types::{Ensured, Found, KeepAlive, Server};
use crate::v1;

/// The time between two lookups of the progress, and the limit of each.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(500);

type Progress = dyn Fn(&Server) + Send + Sync;

/// A call that starts a model's server if there is none; see [`Client::ensure`].
#[derive(Clone)]
#[must_use = "nothing is asked before it is awaited"]
pub struct EnsureCall {
    client: Client,
    request: v1::EnsureRequest,
    timeout: Option<Duration>,
    on_progress: Option<Arc<Progress>>,
}

impl EnsureCall {
    pub(crate) fn new(client: Client, model: String) -> Self {
        let request = v1::EnsureRequest { model, ..Default::default() };
        Self { client, request, timeout: None, on_progress: None }
    }

    /// The model that the runtime loads, if the service should not choose it.
    pub fn runtime_model(mut self, runtime_model: impl Into<String>) -> Self {
        self.request.runtime_model = runtime_model.into();
        self
    }

    /// How long the server stays when it is unused; by default unchanged.
    pub fn keep_alive(mut self, keep_alive: impl Into<KeepAlive>) -> Self {
        self.request.keep_alive = Some(keep_alive.into().into());
        self
    }

    /// Whether missing files may be downloaded, which can take long; by default as configured.
    pub fn download(mut self, download: bool) -> Self {
        self.request.download = Some(download);
        self
    }

    /// The time limit of the whole call, its retries included.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Shows the start to `tell`: the server as it is, twice a second while the call waits, whenever
    /// that differs from what was shown last.
    ///
    /// It is not called for a server that is READY, nor before half a second is over, nor after the
    /// answer. Do not block in it.
    pub fn on_progress(mut self, tell: impl Fn(&Server) + Send + Sync + 'static) -> Self {
        self.on_progress = Some(Arc::new(tell));
        self
    }
}

impl fmt::Debug for EnsureCall {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("EnsureCall")
            .field("client", &self.client)
            .field("request", &self.request)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

impl IntoFuture for EnsureCall {
    type Output = Result<Ensured, Error>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let Self { client, request, timeout, on_progress } = self;
            let model = request.model.clone();
            let answer = client.unary(timeout, request, |mut stub, request| async move {
                stub.ensure(request).await
            });
            let answer = match on_progress {
                None => answer.await?,
                Some(tell) => tokio::select! {
                    biased;
                    answer = answer => answer?,
                    never = follow(&client, &model, &*tell) => match never {},
                },
            };
            let flaw = match &answer.server {
                None => "it names no server",
                Some(server) if server.endpoint.is_empty() => "its server has no endpoint",
                Some(_) => return Ok(answer.into()),
            };
            Err(client.no_pool_service(flaw))
        })
    }
}

/// Looks the server up again and again, and tells each change of it.
async fn follow(client: &Client, model: &str, tell: &Progress) -> Infallible {
    let mut ticks = interval_at(Instant::now() + PROGRESS_INTERVAL, PROGRESS_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told = None;
    loop {
        ticks.tick().await;
        // A lookup that fails says nothing: the call itself ends with what is wrong.
        let Ok(Found { server: Some(server), .. }) =
            client.look_up(model, false, PROGRESS_INTERVAL).await
        else {
            continue;
        };
        if !server.is_ready() && told.as_ref() != Some(&server) {
            tell(&server);
            told = Some(server);
        }
    }
}
