//! Several addresses: a client calls one of them, and goes on with the next when a call fails.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use http_body::{Frame, SizeHint};
use tonic::body::Body;
use tonic::codegen::http::HeaderMap;
use tonic::codegen::{BoxFuture, Bytes, Service, http};
use tonic::transport::{Channel, Error};
use tonic::{Code, Status};

use crate::status::code_of;

/// A channel to each of several addresses, of which one is called.
///
/// A call that fails as UNAVAILABLE moves the next calls on to the next address, the first again
/// after the last; the client's retries then make the call there.
#[derive(Clone)]
pub(crate) struct Failover {
    channels: Arc<[Channel]>,
    at: Arc<AtomicUsize>,
}

impl Failover {
    pub(crate) fn new(channels: impl Into<Arc<[Channel]>>) -> Self {
        Self { channels: channels.into(), at: Arc::default() }
    }

    /// Moves on from an address, unless another call that failed there has done so.
    fn leave(&self, at: usize) {
        let next = (at + 1) % self.channels.len();
        let _ = self.at.compare_exchange(at, next, Ordering::Relaxed, Ordering::Relaxed);
    }
}

impl Service<http::Request<Body>> for Failover {
    type Response = http::Response<Body>;
    type Error = Error;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        // Each call waits for the channel that it is made on.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            let at = this.at.load(Ordering::Relaxed);
            let mut channel = this.channels[at].clone();
            let answer = match poll_fn(|context| channel.poll_ready(context)).await {
                Ok(()) => channel.call(request).await,
                Err(error) => Err(error),
            };
            // An answer may be nothing but a status.
            if answer.as_ref().map_or(true, |answer| is_unavailable(answer.headers())) {
                this.leave(at);
            }
            answer.map(|answer| answer.map(|body| Body::new(Noted { body, of: this, at })))
        })
    }
}

/// The rest of an answer, whose end moves the next calls on if it is UNAVAILABLE.
struct Noted {
    body: Body,
    of: Failover,
    at: usize,
}

impl http_body::Body for Noted {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        let has_failed = match &frame {
            Some(Ok(frame)) => frame.trailers_ref().is_some_and(is_unavailable),
            Some(Err(status)) => code_of(status) == Code::Unavailable,
            None => false,
        };
        if has_failed {
            self.of.leave(self.at);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Whether headers, or the trailers of an answer, have a status that says so.
fn is_unavailable(headers: &HeaderMap) -> bool {
    let code = headers.get("grpc-status").map(|code| Code::from_bytes(code.as_bytes()));
    code == Some(Code::Unavailable)
}
