//! Streams that outlive breaks of the connection.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::Sleep;
use tokio_stream::Stream;
use tonic::{Response, Status, Streaming};

use crate::client::{BoxFuture, Client, Stub};
use crate::error::Error;
use crate::status::ended;

pub(crate) type Opening<R> = BoxFuture<'static, Result<Response<Streaming<R>>, Status>>;

/// How to go on when a call's stream breaks.
pub(crate) trait Follower: Unpin {
    type Request;
    type Response: Send + 'static;
    type Value: Unpin;
    /// Whether its stream may end without an error.
    fn finite(&self) -> bool;

    /// The request of the next stream.
    fn request(&mut self) -> Self::Request;

    /// The call with that request.
    fn open(stub: Stub, request: Self::Request) -> Opening<Self::Response>;

    /// The values of a message of the stream.
    fn receive(&mut self, response: Self::Response) -> Vec<Self::Value>;

    /// The delay before the next stream, or the error if there should be none.
    fn failed(&mut self, error: Error) -> Result<Duration, Error>;
}

/// The values of a call that answers with a stream, which is opened again when it breaks.
pub(crate) struct Resuming<F: Follower> {
    client: Client,
    pub(crate) follower: F,
    values: VecDeque<F::Value>,
    state: State<F::Response>,
}

enum State<R> {
    Closed,
    Opening(Opening<R>),
    Open(Box<Streaming<R>>),
    Waiting(Pin<Box<Sleep>>),
    Over,
}

impl<F: Follower> Resuming<F> {
    pub(crate) fn new(client: Client, follower: F) -> Self {
        Self { client, follower, values: VecDeque::new(), state: State::Closed }
    }

    /// The change after the present state; an error if there is none.
    fn poll_step(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let outcome = match &mut self.state {
            State::Over => return Poll::Ready(Ok(())),
            State::Closed => {
                let request = self.follower.request();
                self.state = State::Opening(F::open(self.client.stub(), request));
                return Poll::Ready(Ok(()));
            }
            State::Waiting(sleep) => {
                ready!(sleep.as_mut().poll(context));
                self.state = State::Closed;
                return Poll::Ready(Ok(()));
            }
            State::Opening(opening) => ready!(opening.as_mut().poll(context)).map(|response| {
                self.state = State::Open(Box::new(response.into_inner()));
            }),
            State::Open(stream) => match ready!(Pin::new(stream).poll_next(context)) {
                Some(message) => message.map(|it| self.values.extend(self.follower.receive(it))),
                None if self.follower.finite() => {
                    self.state = State::Over;
                    Ok(())
                }
                None => return Poll::Ready(self.resume(ended())),
            },
        };
        Poll::Ready(outcome.or_else(|status| {
            let error = self.client.error_of(&status, None);
            self.resume(error)
        }))
    }

    fn resume(&mut self, error: Error) -> Result<(), Error> {
        self.state = State::Over;
        let delay = self.follower.failed(error)?;
        self.state = State::Waiting(Box::pin(tokio::time::sleep(delay)));
        Ok(())
    }
}

impl<F: Follower> Stream for Resuming<F> {
    type Item = Result<F::Value, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(value) = self.values.pop_front() {
                return Poll::Ready(Some(Ok(value)));
            }
            if matches!(self.state, State::Over) {
                return Poll::Ready(None);
            }
            if let Err(error) = ready!(self.poll_step(context)) {
                return Poll::Ready(Some(Err(error)));
            }
        }
    }
}
