//! Several addresses: a client calls one of them, and goes on with the next when a call fails.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use tonic::Code;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service, http};
use tonic::transport::{Channel, Error};

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
            if answer.as_ref().map_or(true, is_unavailable) {
                this.leave(at);
            }
            answer
        })
    }
}

/// Whether an answer is nothing but a status that says so.
fn is_unavailable(answer: &http::Response<Body>) -> bool {
    let code = answer.headers().get("grpc-status").map(|code| Code::from_bytes(code.as_bytes()));
    code == Some(Code::Unavailable)
}
