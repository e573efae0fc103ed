use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;
use tokio_stream::Stream;

use crate::client::{Client, Stub};
use crate::convert;
use crate::error::Error;
use crate::retry::{Attempts, RetryPolicy};
use crate::stream::{Follower, Opening, Resuming};
use crate::types::LogPart;
use crate::v1;
use crate::v1::tail_logs_request::Begin;

/// What the servers of a model have written, oldest first, and the end of each process.
///
/// After a break, also by a restart of the service, it goes on with the next line. One that follows
/// has no end; it fails with [`PoolUnavailable`](crate::Reason::PoolUnavailable) if the service is
/// unreachable for [`RetryPolicy::patience`].
#[must_use = "streams do nothing unless polled"]
pub struct Logs(Resuming<Reading>);

impl Logs {
    pub(crate) fn new(client: Client, asked: v1::TailLogsRequest) -> Self {
        let reading = Reading {
            policy: client.retry,
            attempts: Attempts::new(client.retry, None),
            opened: Instant::now(),
            asked,
        };
        Self(Resuming::new(client, reading))
    }

    /// The next lines, or the end of a process. Dropping this before it resolves loses nothing.
    pub async fn next(&mut self) -> Option<Result<LogPart, Error>> {
        poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }
}

impl Stream for Logs {
    type Item = Result<LogPart, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.0).poll_next(context)
    }
}

/// The state of a read log: the request, which a cursor resumes.
struct Reading {
    policy: RetryPolicy,
    attempts: Attempts,
    opened: Instant,
    asked: v1::TailLogsRequest,
}

impl Follower for Reading {
    type Request = v1::TailLogsRequest;
    type Response = v1::TailLogsResponse;
    type Value = LogPart;

    fn finite(&self) -> bool {
        !self.asked.follow
    }

    fn request(&mut self) -> v1::TailLogsRequest {
        self.opened = Instant::now();
        self.asked.clone()
    }

    fn open(mut stub: Stub, request: v1::TailLogsRequest) -> Opening<v1::TailLogsResponse> {
        Box::pin(async move { stub.tail_logs(request).await })
    }

    fn receive(&mut self, response: v1::TailLogsResponse) -> Vec<LogPart> {
        self.attempts.succeeded();
        self.asked.begin = Some(Begin::Cursor(response.cursor.clone()));
        self.asked.lines = None;
        convert::log_parts(response)
    }

    fn failed(&mut self, error: Error) -> Result<Duration, Error> {
        if self.asked.follow && self.opened.elapsed() > self.policy.patience {
            self.attempts.succeeded_since(self.opened);
        }
        self.attempts.failed(error)
    }
}
