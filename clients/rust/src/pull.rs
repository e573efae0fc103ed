use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio_stream::Stream;

use crate::client::{Client, Stub};
use crate::error::Error;
use crate::retry::Attempts;
use crate::stream::{Follower, Opening, Resuming};
use crate::types::Progress;
use crate::v1;

/// How far a download is, until all files are there.
///
/// Dropping it gives the download up; what was fetched is kept for the next time. A download
/// that breaks is resumed.
#[must_use = "streams do nothing unless polled"]
pub struct Pull(Resuming<Pulling>);

impl Pull {
    pub(crate) fn new(client: Client, asked: v1::PullRequest) -> Self {
        let attempts = Attempts::new(client.retry, None);
        Self(Resuming::new(client, Pulling { asked, attempts, most: None }))
    }

    /// The next news of the download; `None` when all files are there.
    pub async fn next(&mut self) -> Option<Result<Progress, Error>> {
        poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }
}

impl Stream for Pull {
    type Item = Result<Progress, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.0).poll_next(context)
    }
}

/// A download between two of its streams: each that gets further is a new beginning.
struct Pulling {
    asked: v1::PullRequest,
    attempts: Attempts,
    most: Option<u64>,
}

impl Follower for Pulling {
    type Request = v1::PullRequest;
    type Response = v1::PullResponse;
    type Value = Progress;

    fn finite(&self) -> bool {
        true
    }

    fn request(&mut self) -> v1::PullRequest {
        self.asked.clone()
    }

    fn open(mut stub: Stub, request: v1::PullRequest) -> Opening<v1::PullResponse> {
        Box::pin(async move { stub.pull(request).await })
    }

    fn receive(&mut self, response: v1::PullResponse) -> Vec<Progress> {
        let progress = Progress::from(response);
        if self.most.is_some_and(|most| progress.done > most) {
            self.attempts.succeeded();
        }
        self.most = self.most.max(Some(progress.done));
        vec![progress]
    }

    fn failed(&mut self, error: Error) -> Result<Duration, Error> {
        self.attempts.failed(error)
    }
}
