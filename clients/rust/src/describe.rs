use std::future::IntoFuture;
use std::time::Duration;

use crate::client::{BoxFuture, Client};
use crate::description::Description;
use crate::error::Error;
use crate::v1;

/// A call that asks for all that is known about a model; see [`Client::describe`].
#[derive(Clone, Debug)]
#[must_use = "nothing is asked before it is awaited"]
pub struct DescribeCall {
    client: Client,
    request: v1::DescribeRequest,
    timeout: Option<Duration>,
}

impl DescribeCall {
    pub(crate) fn new(client: Client, model: String) -> Self {
        Self { client, request: v1::DescribeRequest { model }, timeout: None }
    }

    /// The time limit of the whole call, its retries included.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }
}

impl IntoFuture for DescribeCall {
    type Output = Result<Description, Error>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let answer =
                self.client.unary(self.timeout, self.request, |mut stub, request| async move {
                    stub.describe(request).await
                });
            Ok(answer.await?.into())
        })
    }
}
