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

const STATUS: &str = "grpc-status";

/// A channel to each of several addresses, of which one is called.
///
/// A call that fails as UNAVAILABLE, or that the service drops (CANCELLED), moves the next calls on
/// to the next address, the first again after the last; the client's retries then make the call
/// there.
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
            let answer = answer.map(as_grpc);
            // An answer may be nothing but a status.
            if answer.as_ref().map_or(true, |answer| has_failed(answer.headers())) {
                this.leave(at);
            }
            answer.map(|answer| answer.map(|body| Body::new(Noted { body, of: this, at })))
        })
    }
}

/// The rest of an answer, whose end moves the next calls on if it is a failure of the address.
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
        let is_failure = match &frame {
            Some(Ok(frame)) => frame.trailers_ref().is_some_and(has_failed),
            Some(Err(status)) => is_failure(code_of(status)),
            None => false,
        };
        if is_failure {
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

/// Whether headers, or the trailers of an answer, have a status that is a failure of the address.
fn has_failed(headers: &HeaderMap) -> bool {
    let code = headers.get(STATUS).map(|code| Code::from_bytes(code.as_bytes()));
    code.is_some_and(is_failure)
}

/// CANCELLED comes from the service only: a call that is given up here is dropped.
fn is_failure(code: Code) -> bool {
    matches!(code, Code::Unavailable | Code::Cancelled)
}

/// An answer with a status of gRPC, also if it comes from a proxy that has not reached the service.
///
/// Such an answer has a page for people, which tonic would read as messages.
fn as_grpc(answer: http::Response<Body>) -> http::Response<Body> {
    let is_away = matches!(
        answer.status(),
        http::StatusCode::TOO_MANY_REQUESTS
            | http::StatusCode::BAD_GATEWAY
            | http::StatusCode::SERVICE_UNAVAILABLE
            | http::StatusCode::GATEWAY_TIMEOUT
    );
    if is_away && !answer.headers().contains_key(STATUS) {
        let why = format!("an answer of HTTP: {}", answer.status());
        return Status::unavailable(why).into_http();
    }
    answer
}
