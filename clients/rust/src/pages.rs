use std::collections::HashSet;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio_stream::Stream;

use crate::calls::ListCall;
use crate::client::{BoxFuture, Client};
use crate::error::Error;
use crate::types::Page;
use crate::v1;

const MOST_PAGES: usize = 10_000;

/// Goes through pages, whatever a server answers.
#[derive(Debug, Default)]
pub(crate) struct Paging {
    seen: HashSet<String>,
}

impl Paging {
    /// The token to ask with next; `None` after the last page. An error if that page was read
    /// before, or there is no end to them.
    pub(crate) fn turn(&mut self, client: &Client, token: String) -> Result<Option<String>, Error> {
        if token.is_empty() {
            return Ok(None);
        }
        if self.seen.len() == MOST_PAGES || !self.seen.insert(token.clone()) {
            return Err(client.no_pool_service("its pages have no end"));
        }
        Ok(Some(token))
    }
}

/// The pages of a list, each asked for when it is polled for. After an error there is nothing.
#[must_use = "streams do nothing unless polled"]
pub struct Pages {
    call: ListCall,
    /// Of the page that is asked for next; `None` after the last.
    token: Option<String>,
    paging: Paging,
    /// The page that was read led to no other as it should.
    broken: Option<Error>,
    asking: Option<BoxFuture<'static, Result<v1::ListResponse, Error>>>,
}

impl Pages {
    pub(crate) fn new(call: ListCall) -> Self {
        Self {
            call,
            token: Some(String::new()),
            paging: Paging::default(),
            broken: None,
            asking: None,
        }
    }

    /// The next page; `None` after the last.
    pub async fn next(&mut self) -> Option<Result<Page, Error>> {
        poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }

    fn ask(&self, page_token: String) -> BoxFuture<'static, Result<v1::ListResponse, Error>> {
        let ListCall { client, page_size, timeout } = self.call.clone();
        let request = v1::ListRequest { page_size, page_token };
        Box::pin(async move {
            client
                .unary(
                    timeout,
                    request,
                    |mut stub, request| async move { stub.list(request).await },
                )
                .await
        })
    }
}

impl Stream for Pages {
    type Item = Result<Page, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(error) = self.broken.take() {
            return Poll::Ready(Some(Err(error)));
        }
        if self.asking.is_none() {
            self.asking = self.token.take().map(|token| self.ask(token));
        }
        let Some(asking) = &mut self.asking else {
            return Poll::Ready(None);
        };
        let answer = ready!(asking.as_mut().poll(context));
        self.asking = None;
        Poll::Ready(Some(answer.map(|response| {
            let this = &mut *self;
            match this.paging.turn(&this.call.client, response.next_page_token.clone()) {
                Ok(token) => this.token = token,
                Err(error) => this.broken = Some(error),
            }
            response.into()
        })))
    }
}
