use std::future::{IntoFuture, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tokio_stream::wrappers::WatchStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::Code;

use crate::client::{BoxFuture, Client, Stub};
use crate::error::{Error, Reason};
use crate::retry::Attempts;
use crate::stream::{Follower, Opening, Resuming};
use crate::types::{Found, Server};
use crate::v1;

/// How long a process that the service holds for READY may owe its caller an answer.
const READY_GRACE: Duration = Duration::from_millis(1500);

/// A model that is kept READY for as long as this exists.
///
/// Its own task reads the stream and opens it again when it breaks, also after a restart of the
/// service, whether you use the hold or not. Dropping the hold ends the task, and releases the
/// model at once. To share it, put it into an [`Arc`](std::sync::Arc).
#[derive(Debug)]
#[must_use = "a hold ends when it is dropped"]
pub struct Hold {
    client: Client,
    model: String,
    held: watch::Sender<Held>,
    reader: AbortHandle,
}

impl Hold {
    pub(crate) fn new(client: Client, asked: v1::HoldRequest) -> Self {
        let model = asked.model.clone();
        let held = watch::Sender::new(Held::default());
        let attempts = Attempts::new(client.retry, None);
        let stream =
            Resuming::new(client.clone(), Holding { asked, attempts, alive: None, told_of: None });
        let reader = tokio::spawn(read(stream, held.clone())).abort_handle();
        Self { client, model, held, reader }
    }

    /// The model that is held.
    #[must_use]
    pub fn model(&self) -> &str {
        &self.model
    }

    /// The server, from memory: at once if it is READY, else when it is.
    ///
    /// The endpoint may have changed, so call this whenever you need it. While the service is
    /// unreachable, you get the last received state.
    pub fn ready(&self) -> Ready<'_> {
        Ready { hold: self, timeout: None, after: None }
    }

    /// The server's present state, then the newest after each change.
    ///
    /// A slow reader misses outdated states. The stream ends with the hold: with an error if one
    /// ended it, without if it was closed or dropped.
    pub fn states(&self) -> States {
        States { news: WatchStream::new(self.held.subscribe()), told: 0, end: None }
    }

    /// Releases the model at once, for all owners of the hold.
    pub fn close(&self) {
        self.reader.abort();
        self.held.send_modify(|held| held.end(End::Closed));
    }

    async fn wait_ready(&self, after: Option<&Server>) -> Result<Server, Error> {
        let mut news = self.held.subscribe();
        // A connection that broke is no death, if the process is still the newest and READY.
        let suspect = after.and_then(|old| news.borrow().same_ready(old).cloned());
        if let Some(old) = &suspect {
            let serves = tokio::select! {
                biased;
                () = async { drop(news.wait_for(|held| held.same_ready(old).is_none()).await) } => false,
                serves = self.still_serves(old) => serves,
            };
            let newest = self.held.borrow().same_ready(old).cloned();
            if let Some(newest) = newest.filter(|_| serves) {
                return Ok(newest);
            }
        }
        match news.wait_for(|held| held.end.is_some() || held.ready(after).is_some()).await {
            Ok(held) => match (&held.end, held.ready(after)) {
                (None, Some(server)) => Ok(server.clone()),
                (Some(End::Failed(error)), _) => Err(error.clone()),
                _ => Err(self.closed()),
            },
            Err(_) => Err(self.closed()),
        }
    }

    /// Whether the process of that server serves, as far as the service can tell.
    ///
    /// It is asked by the model's own name: an alias that is held may mean another model by now.
    ///
    /// 1. The service says that the process is not READY, or that the model has another or none:
    ///    no, at once.
    /// 2. The process has just answered the service: yes, at once.
    /// 3. The process does not answer, or the service does not, or tells of another model: yes, but
    ///    when the grace is over, so that a caller whose connections keep breaking does not ask in a
    ///    loop.
    async fn still_serves(&self, old: &Server) -> bool {
        let grace = Instant::now() + READY_GRACE;
        match self.client.look_up(&old.model, true, READY_GRACE).await {
            Ok(Found { server: None, .. }) => return false,
            Ok(Found { server: Some(server), answers }) if server.model == old.model => {
                if !server.is_same_ready(old) {
                    return false;
                }
                if answers {
                    return true;
                }
            }
            _ => {}
        }
        tokio::time::sleep_until(grace).await;
        true
    }

    fn closed(&self) -> Error {
        let message = format!("the hold of {:?} was closed", self.model);
        Error::plain(Reason::Cancelled, Code::Cancelled, message)
    }

    fn late(&self, timeout: Duration) -> Error {
        let state = self.held.borrow().in_words();
        let message =
            format!("{:?} was not READY within {timeout:?}: {state}; the hold goes on", self.model);
        Error::plain(Reason::DeadlineExceeded, Code::DeadlineExceeded, message)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.close();
    }
}

/// A wait for the server of a hold; see [`Hold::ready`].
#[derive(Clone, Copy, Debug)]
#[must_use = "nothing is waited for before it is awaited"]
pub struct Ready<'a> {
    hold: &'a Hold,
    timeout: Option<Duration>,
    after: Option<&'a Server>,
}

impl<'a> Ready<'a> {
    /// Gives up after this time, with [`Reason::DeadlineExceeded`]; the hold goes on.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Waits until that server's process serves again, or else for the next one. Use it when a
    /// connection to the server broke or was refused.
    ///
    /// If the process is still READY, the service asks it once. You get its server again as soon as
    /// it answers, or after 1.5 seconds if it does not answer but is no worse; if it is gone, you get
    /// the next.
    pub fn after(mut self, server: &'a Server) -> Self {
        self.after = Some(server);
        self
    }
}

impl<'a> IntoFuture for Ready<'a> {
    type Output = Result<Server, Error>;
    type IntoFuture = BoxFuture<'a, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let waiting = self.hold.wait_ready(self.after);
            let Some(limit) = self.timeout else {
                return waiting.await;
            };
            tokio::time::timeout(limit, waiting)
                .await
                .unwrap_or_else(|_| Err(self.hold.late(limit)))
        })
    }
}

/// The states of a server that is held; see [`Hold::states`].
#[must_use = "streams do nothing unless polled"]
pub struct States {
    news: WatchStream<Held>,
    told: u64,
    end: Option<End>,
}

impl States {
    /// The next state; `None` after the hold was closed or dropped.
    pub async fn next(&mut self) -> Option<Result<Server, Error>> {
        poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }
}

impl Stream for States {
    type Item = Result<Server, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            match self.end.replace(End::Closed) {
                Some(End::Failed(error)) => return Poll::Ready(Some(Err(error))),
                Some(End::Closed) => return Poll::Ready(None),
                None => self.end = None,
            }
            let Some(held) = ready!(Pin::new(&mut self.news).poll_next(context)) else {
                return Poll::Ready(None);
            };
            let is_news = held.told != self.told && !matches!(held.end, Some(End::Closed));
            self.told = held.told;
            self.end = held.end;
            if let Some(newest) = held.newest.filter(|_| is_news) {
                return Poll::Ready(Some(Ok(newest)));
            }
        }
    }
}

async fn read(mut stream: Resuming<Holding>, told: watch::Sender<Held>) {
    while let Some(state) = stream.next().await {
        told.send_modify(|held| match state {
            Ok(server) => held.tell(server),
            Err(error) => held.end(End::Failed(error)),
        });
    }
}

/// The newest state of a held server, and how the hold ended if it did.
#[derive(Clone, Debug, Default)]
struct Held {
    newest: Option<Server>,
    /// The number of states so far.
    told: u64,
    end: Option<End>,
}

#[derive(Clone, Debug)]
enum End {
    Closed,
    Failed(Error),
}

impl Held {
    /// Sets the newest state, unless the hold is over.
    fn tell(&mut self, server: Server) {
        if self.end.is_none() {
            self.newest = Some(server);
            self.told += 1;
        }
    }

    /// Ends the hold; the first end counts.
    fn end(&mut self, end: End) {
        self.end.get_or_insert(end);
    }

    /// The server if it is READY and its process is not that one.
    fn ready(&self, after: Option<&Server>) -> Option<&Server> {
        self.newest
            .as_ref()
            .filter(|newest| newest.is_ready())
            .filter(|newest| !after.is_some_and(|old| newest.is_same_process(old)))
    }

    /// The server if it is READY and its process is that one.
    fn same_ready(&self, old: &Server) -> Option<&Server> {
        let same = self.newest.as_ref().filter(|newest| newest.is_same_ready(old));
        same.filter(|_| self.end.is_none())
    }

    fn in_words(&self) -> String {
        match &self.newest {
            None => "its state is not known".to_owned(),
            Some(server) if server.detail.is_empty() => format!("it is {:?}", server.state),
            Some(server) => format!("it is {:?} ({})", server.state, server.detail),
        }
    }
}

/// A hold, whose stream is opened again when it breaks.
///
/// A break of a working stream restarts the count of failures. The failures of a start are counted
/// together until the server is READY; otherwise a model that never starts would be started for
/// ever.
struct Holding {
    asked: v1::HoldRequest,
    attempts: Attempts,
    /// Since when the stream that is open told something.
    alive: Option<Instant>,
    /// The model that it tells of: an alias may have been asked for.
    told_of: Option<String>,
}

impl Follower for Holding {
    type Request = v1::HoldRequest;
    type Response = v1::HoldResponse;
    type Value = Server;

    fn finite(&self) -> bool {
        false
    }

    fn request(&mut self) -> v1::HoldRequest {
        self.alive = None;
        self.told_of = None;
        self.asked.clone()
    }

    fn open(mut stub: Stub, request: v1::HoldRequest) -> Opening<v1::HoldResponse> {
        Box::pin(async move { stub.hold(request).await })
    }

    fn receive(&mut self, response: v1::HoldResponse) -> Vec<Server> {
        if response.server.is_none() {
            return Vec::new();
        }
        let server = Server::from(response);
        let told_of = self.told_of.get_or_insert_with(|| server.model.clone());
        if *told_of != server.model || (server.is_ready() && server.endpoint.is_empty()) {
            return Vec::new(); // It cannot be of the server that is held.
        }
        self.alive.get_or_insert_with(Instant::now);
        if server.is_ready() {
            self.attempts.succeeded();
        }
        vec![server]
    }

    fn failed(&mut self, error: Error) -> Result<Duration, Error> {
        let is_break = matches!(
            error.reason(),
            Reason::PoolUnavailable | Reason::Recovering | Reason::ShuttingDown
        );
        if let Some(since) = self.alive.filter(|_| is_break) {
            self.attempts.succeeded_since(since);
        }
        self.attempts.failed(error)
    }
}
