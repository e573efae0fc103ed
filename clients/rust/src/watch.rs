use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::mem::take;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;
use tokio_stream::Stream;

use crate::client::{Client, Stub};
use crate::convert;
use crate::error::{Error, Reason};
use crate::retry::{Attempts, RetryPolicy};
use crate::stream::{Follower, Opening, Resuming};
use crate::types::{Event, Server};
use crate::v1;

/// The pool's events, in order, for as long as it is polled.
///
/// After a break, the watch resumes after the last revision. If the history since then is gone, a
/// watch that began with the present state begins with it again: when the new state is complete, it
/// reports servers that are gone as removed, and another `Synced`. The stream ends with an error:
/// [`PoolUnavailable`](Reason::PoolUnavailable) if the service is unreachable for
/// [`RetryPolicy::patience`], [`RevisionCompacted`](Reason::RevisionCompacted) if a watch that
/// began after a revision cannot go on.
#[must_use = "streams do nothing unless polled"]
pub struct Watch(Resuming<Following>);

impl Watch {
    pub(crate) fn new(client: Client, after_revision: Option<u64>) -> Self {
        let following = Following::new(client.retry, after_revision);
        Self(Resuming::new(client, following))
    }

    /// The next event. Dropping this before it resolves loses no event.
    pub async fn next(&mut self) -> Option<Result<Event, Error>> {
        poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }

    /// The revision after which another watch can resume; `None` before the first `Synced`.
    #[must_use]
    pub fn revision(&self) -> Option<u64> {
        self.0.follower.revision
    }
}

impl Stream for Watch {
    type Item = Result<Event, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.0).poll_next(context)
    }
}

/// The model and the generation of a server: while one replaces another, a model has two.
type Key = (String, u64);

fn key(server: &Server) -> Key {
    (server.model.clone(), server.generation)
}

/// The state of a watch: the revision to resume after, and the servers that its reader knows.
struct Following {
    policy: RetryPolicy,
    after_revision: Option<u64>,
    revision: Option<u64>,
    attempts: Attempts,
    opened: Instant,
    known: BTreeMap<Key, Server>,
    told: BTreeSet<Key>,
}

impl Following {
    fn new(policy: RetryPolicy, after_revision: Option<u64>) -> Self {
        Self {
            policy,
            after_revision,
            revision: after_revision,
            attempts: Attempts::new(policy, None),
            opened: Instant::now(),
            known: BTreeMap::new(),
            told: BTreeSet::new(),
        }
    }

    /// Synced: known servers that the new state does not have are gone.
    fn gone(&mut self, revision: u64) -> Vec<Event> {
        self.revision = Some(revision);
        let (known, gone): (BTreeMap<_, _>, BTreeMap<_, _>) =
            take(&mut self.known).into_iter().partition(|(key, _)| self.told.contains(key));
        self.known = known;
        gone.into_values().map(|server| Event::Removed { revision, server }).collect()
    }

    fn can_begin_again(&self) -> bool {
        self.after_revision.is_none() && self.revision.is_some()
    }
}

impl Follower for Following {
    type Request = v1::WatchRequest;
    type Response = v1::WatchResponse;
    type Value = Event;

    fn finite(&self) -> bool {
        false
    }

    fn request(&mut self) -> v1::WatchRequest {
        self.opened = Instant::now();
        self.told.clear();
        v1::WatchRequest { after_revision: self.revision }
    }

    fn open(mut stub: Stub, request: v1::WatchRequest) -> Opening<v1::WatchResponse> {
        Box::pin(async move { stub.watch(request).await })
    }

    fn receive(&mut self, response: v1::WatchResponse) -> Vec<Event> {
        self.attempts.succeeded();
        let revision = response.revision;
        if self.revision.is_some_and(|seen| revision < seen) {
            // Revisions never go back: what the reader knows is newer.
            return Vec::new();
        }
        let event = convert::event(response);
        let mut events = Vec::new();
        match &event {
            Some(Event::Synced { .. }) => events = self.gone(revision),
            Some(Event::Changed { server, .. }) => {
                self.known.insert(key(server), server.clone());
                self.told.insert(key(server));
            }
            Some(Event::Removed { server, .. }) => {
                self.known.remove(&key(server));
            }
            None => {}
        }
        // Before the first Synced there is no revision to resume after.
        self.revision = self.revision.map(|_| revision);
        events.extend(event);
        events
    }

    fn failed(&mut self, error: Error) -> Result<Duration, Error> {
        if error.reason() == Reason::RevisionCompacted && self.can_begin_again() {
            self.revision = None;
            // With a delay: a service that answers this each time would be called in a loop.
            return Ok(self.attempts.pause());
        }
        if self.opened.elapsed() > self.policy.patience {
            self.attempts.succeeded_since(self.opened);
        }
        self.attempts.failed(error)
    }
}
