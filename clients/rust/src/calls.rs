//! Calls with their options, made when they are awaited.

use std::future::IntoFuture;
use std::time::Duration;

use crate::client::{BoxFuture, Client};
use crate::error::Error;
use crate::hold::Hold;
use crate::logs::Logs;
use crate::pages::{Pages, Paging};
use crate::pull::Pull;
use crate::types::{EvictedServer, KeepAlive, Model, Pinned, Reloaded, Server};
use crate::v1;
use crate::v1::tail_logs_request::Begin;

/// A call that stops servers and returns when their processes are gone; see [`Client::evict`].
#[derive(Clone, Debug)]
#[must_use = "nothing is asked before it is awaited"]
pub struct EvictCall {
    client: Client,
    request: v1::EvictRequest,
    timeout: Option<Duration>,
}

impl EvictCall {
    pub(crate) fn new(client: Client, target: v1::evict_request::Target) -> Self {
        let request = v1::EvictRequest { target: Some(target), force: false };
        Self { client, request, timeout: None }
    }

    /// Also evict servers that are held or have requests in flight, which finish within the drain
    /// limit.
    pub fn force(mut self, force: bool) -> Self {
        self.request.force = force;
        self
    }

    /// The time limit of the whole call; giving up does not stop the eviction.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }
}

impl IntoFuture for EvictCall {
    type Output = Result<Vec<EvictedServer>, Error>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let answer =
                self.client.unary(self.timeout, self.request, |mut stub, request| async move {
                    stub.evict(request).await
                });
            Ok(answer.await?.evicted.into_iter().map(EvictedServer::from).collect())
        })
    }
}

/// A call that lists the servers; see [`Client::list`].
#[derive(Clone, Debug)]
#[must_use = "nothing is asked before it is awaited"]
pub struct ListCall {
    pub(crate) client: Client,
    pub(crate) page_size: i32,
    pub(crate) timeout: Option<Duration>,
}

impl ListCall {
    pub(crate) fn new(client: Client) -> Self {
        Self { client, page_size: 0, timeout: None }
    }

    /// Maximum number of servers on a page; with 0 the service chooses.
    pub fn page_size(mut self, page_size: i32) -> Self {
        self.page_size = page_size;
        self
    }

    /// The time limit of each page.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// The pages one by one, at least one, each requested when it is polled.
    pub fn pages(self) -> Pages {
        Pages::new(self)
    }
}

impl IntoFuture for ListCall {
    type Output = Result<Vec<Server>, Error>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let (mut pages, mut servers) = (self.pages(), Vec::new());
            while let Some(page) = pages.next().await {
                servers.extend(page?.servers);
            }
            Ok(servers)
        })
    }
}

/// A call that lists the catalogue; see [`Client::models`].
#[derive(Clone, Debug)]
#[must_use = "nothing is asked before it is awaited"]
pub struct ModelsCall {
    client: Client,
    found: bool,
    timeout: Option<Duration>,
}

impl ModelsCall {
    pub(crate) fn new(client: Client) -> Self {
        Self { client, found: false, timeout: None }
    }

    /// Whether to return models that are not listed too: models that have a server, whose runtime
    /// model is remembered, or that are in the service's Hugging Face cache.
    pub fn found(mut self, found: bool) -> Self {
        self.found = found;
        self
    }

    /// The time limit of each page.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }
}

impl IntoFuture for ModelsCall {
    type Output = Result<Vec<Model>, Error>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let mut models = Vec::new();
            let mut paging = Paging::default();
            let found = self.found;
            let mut request = v1::ListModelsRequest { found, ..Default::default() };
            loop {
                let answer =
                    self.client.unary(self.timeout, request, |mut stub, request| async move {
                        stub.list_models(request).await
                    });
                let page = answer.await?;
                models.extend(page.models.into_iter().map(Model::from));
                let Some(page_token) = paging.turn(&self.client, page.next_page_token)? else {
                    return Ok(models);
                };
                request = v1::ListModelsRequest { page_token, found, ..Default::default() };
            }
        })
    }
}

/// A call that forgets a runtime model; see [`Client::forget`].
#[derive(Clone, Debug)]
#[must_use = "nothing is asked before it is awaited"]
pub struct ForgetCall {
    client: Client,
    request: v1::ForgetRequest,
    timeout: Option<Duration>,
}

impl ForgetCall {
    pub(crate) fn new(client: Client, model: String) -> Self {
        Self { client, request: v1::ForgetRequest { model }, timeout: None }
    }

    /// The time limit of the whole call, its retries included.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }
}

impl IntoFuture for ForgetCall {
    type Output = Result<String, Error>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let answer =
                self.client.unary(self.timeout, self.request, |mut stub, request| async move {
                    stub.forget(request).await
                });
            Ok(answer.await?.runtime_model)
        })
    }
}

/// A call that pins a model or takes its pin back; see [`Client::pin`].
#[derive(Clone, Debug)]
#[must_use = "nothing is asked before it is awaited"]
pub struct PinCall {
    client: Client,
    request: v1::PinRequest,
    timeout: Option<Duration>,
}

impl PinCall {
    pub(crate) fn new(client: Client, model: String, pinned: Option<bool>) -> Self {
        Self { client, request: v1::PinRequest { model, pinned }, timeout: None }
    }

    /// The time limit of the whole call, its retries included.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }
}

impl IntoFuture for PinCall {
    type Output = Result<Pinned, Error>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let answer =
                self.client.unary(self.timeout, self.request, |mut stub, request| async move {
                    stub.pin(request).await
                });
            Ok(answer.await?.into())
        })
    }
}

/// A call that reads the configuration again; see [`Client::reload`].
#[derive(Clone, Debug)]
#[must_use = "nothing is asked before it is awaited"]
pub struct ReloadCall {
    client: Client,
    timeout: Option<Duration>,
}

impl ReloadCall {
    pub(crate) fn new(client: Client) -> Self {
        Self { client, timeout: None }
    }

    /// The time limit of the whole call, its retries included.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }
}

impl IntoFuture for ReloadCall {
    type Output = Result<Reloaded, Error>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let answer = self.client.unary(
                self.timeout,
                v1::ReloadRequest {},
                |mut stub, request| async move { stub.reload(request).await },
            );
            Ok(answer.await?.into())
        })
    }
}

/// The options of a download; see [`Client::pull`].
#[derive(Clone, Debug)]
#[must_use = "nothing is asked before its stream is polled"]
pub struct PullCall {
    client: Client,
    request: v1::PullRequest,
}

impl PullCall {
    pub(crate) fn new(client: Client, model: String) -> Self {
        Self { client, request: v1::PullRequest { model, ..Default::default() } }
    }

    /// The model that the runtime would load, if the service should not choose it.
    pub fn runtime_model(mut self, runtime_model: impl Into<String>) -> Self {
        self.request.runtime_model = runtime_model.into();
        self
    }

    /// The progress of the download, until all files are there. It begins when it is first polled.
    pub fn stream(self) -> Pull {
        Pull::new(self.client, self.request)
    }
}

/// The options of a read log; see [`Client::logs`]. Of those that say where to begin, the last one
/// counts.
#[derive(Clone, Debug)]
#[must_use = "nothing is asked before its stream is polled"]
pub struct LogsCall {
    client: Client,
    request: v1::TailLogsRequest,
}

impl LogsCall {
    pub(crate) fn new(client: Client, model: String) -> Self {
        Self { client, request: v1::TailLogsRequest { model, ..Default::default() } }
    }

    /// Begin with the process of this generation.
    pub fn generation(mut self, generation: u64) -> Self {
        self.request.begin = Some(Begin::Generation(generation));
        self
    }

    /// Begin with the process before the newest one.
    pub fn previous(mut self) -> Self {
        self.request.begin = Some(Begin::Previous(true));
        self
    }

    /// Begin with the oldest process whose log is kept, and go on to the newest, with every line.
    /// It is not valid together with `lines`.
    pub fn oldest(mut self) -> Self {
        self.request.begin = Some(Begin::Oldest(true));
        self
    }

    /// Go on after the part that had this cursor, with every line. It is not valid together with
    /// `lines`.
    pub fn cursor(mut self, cursor: impl Into<String>) -> Self {
        self.request.begin = Some(Begin::Cursor(cursor.into()));
        self
    }

    /// How many of the last lines of the first process are read; 100 unless you say.
    pub fn lines(mut self, lines: u32) -> Self {
        self.request.lines = Some(lines);
        self
    }

    /// Go on with new lines and new processes, without end.
    pub fn follow(mut self) -> Self {
        self.request.follow = true;
        self
    }

    /// The lines and the ends of processes. It begins when it is first polled.
    pub fn stream(self) -> Logs {
        Logs::new(self.client, self.request)
    }
}

/// The options of a hold; see [`Client::hold`].
#[derive(Clone, Debug)]
#[must_use = "nothing is held before it is opened"]
pub struct HoldCall {
    client: Client,
    request: v1::HoldRequest,
}

impl HoldCall {
    pub(crate) fn new(client: Client, model: String) -> Self {
        Self { client, request: v1::HoldRequest { model, ..Default::default() } }
    }

    /// The model that the runtime loads, if the service should not choose it.
    pub fn runtime_model(mut self, runtime_model: impl Into<String>) -> Self {
        self.request.runtime_model = runtime_model.into();
        self
    }

    /// How long the server stays when it is unused, which counts from the end of the last hold.
    pub fn keep_alive(mut self, keep_alive: impl Into<KeepAlive>) -> Self {
        self.request.keep_alive = Some(keep_alive.into().into());
        self
    }

    /// Whether missing files may be downloaded, which can take long; by default as configured.
    pub fn download(mut self, download: bool) -> Self {
        self.request.download = Some(download);
        self
    }

    /// A label of the holder, shown to callers that want to evict the model.
    pub fn holder(mut self, holder: impl Into<String>) -> Self {
        self.request.holder = holder.into();
        self
    }

    /// Holds the model from now on.
    ///
    /// # Panics
    /// Outside a tokio runtime, where there is no task to read the stream.
    pub fn open(self) -> Hold {
        Hold::new(self.client, self.request)
    }
}
