use std::future::IntoFuture;
use std::time::Duration;

use crate::client::{BoxFuture, Client};
use crate::error::Error;
use crate::types::Found;
use crate::v1;

/// A call that looks up the server of one model; see [`Client::get`].
#[derive(Clone, Debug)]
#[must_use = "nothing is asked before it is awaited"]
pub struct GetCall {
    client: Client,
    request: v1::GetRequest,
    timeout: Option<Duration>,
}

impl GetCall {
    pub(crate) fn new(client: Client, model: String) -> Self {
        Self { client, request: v1::GetRequest { model, check: false }, timeout: None }
    }

    /// Whether a READY server is asked first if it still serves: see [`Found::answers`].
    pub fn check(mut self, check: bool) -> Self {
        self.request.check = check;
        self
    }

    /// The time limit of the whole call, its retries included.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }
}

impl IntoFuture for GetCall {
    type Output = Result<Found, Error>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let answer =
                self.client.unary(self.timeout, self.request, |mut stub, request| async move {
                    stub.get(request).await
                });
            Ok(answer.await?.into())
        })
    }
}
