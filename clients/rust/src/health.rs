//! Whether a service serves, as it says itself.

use std::time::Duration;

use tokio::time::timeout;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Request, Status};
use tonic_prost::ProstCodec;

const CHECK: &str = "/grpc.health.v1.Health/Check";
const SERVING: i32 = 1;
const LIMIT: Duration = Duration::from_secs(2);

/// Asks the service once, and returns whether it says in time that it is SERVING.
pub(crate) async fn is_serving(channel: Channel) -> bool {
    matches!(timeout(LIMIT, check(channel)).await, Ok(Ok(SERVING)))
}

/// The status of the service as a whole, by `grpc.health.v1.Health/Check`.
///
/// An empty message asks for the whole. The answer has its status in field 1, where the message of
/// an `i32` has its value.
async fn check(channel: Channel) -> Result<i32, Status> {
    let mut rpc = Grpc::new(channel);
    rpc.ready().await.map_err(|error| Status::from_error(Box::new(error)))?;
    let mut request = Request::new(());
    request.set_timeout(LIMIT);
    let codec = ProstCodec::<(), i32>::default();
    Ok(rpc.unary(request, PathAndQuery::from_static(CHECK), codec).await?.into_inner())
}

#[cfg(test)]
pub(crate) mod tests {
    use std::convert::Infallible;
    use std::future::ready;
    use std::path::Path;
    use std::task::{Context, Poll};

    use prost::Message as _;
    use tokio::net::UnixListener;
    use tokio::sync::mpsc::unbounded_channel;
    use tokio::task::AbortHandle;
    use tokio_stream::wrappers::UnboundedReceiverStream;
    use tonic::Response;
    use tonic::body::Body;
    use tonic::codegen::{Service, http};
    use tonic::transport::Server;

    use super::*;
    use crate::client::BoxFuture;

    /// The health of a service that always says the same.
    #[derive(Clone)]
    struct Health(Result<i32, Status>);

    impl Service<http::Request<Body>> for Health {
        type Response = http::Response<Body>;
        type Error = Infallible;
        type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, request: http::Request<Body>) -> Self::Future {
            assert_eq!(request.uri().path(), CHECK);
            let said = self.0.clone();
            let answer =
                tower::service_fn(move |_: Request<()>| ready(said.clone().map(Response::new)));
            let codec = ProstCodec::<i32, ()>::default();
            Box::pin(
                async move { Ok(tonic::server::Grpc::new(codec).unary(answer, request).await) },
            )
        }
    }

    /// A service at the socket, with that answer about its health, until its task is aborted.
    pub(crate) fn serve(socket: &Path, said: Result<i32, Status>) -> AbortHandle {
        let listener = UnixListener::bind(socket).expect("it is free");
        let (accepted, connections) = unbounded_channel();
        let connections = UnboundedReceiverStream::new(connections);
        tokio::spawn(Server::builder().serve_with_incoming(Health(said), connections));
        let accepting = async move {
            while let Ok((connection, _)) = listener.accept().await {
                let _ = accepted.send(std::io::Result::Ok(connection));
            }
        };
        tokio::spawn(accepting).abort_handle()
    }

    #[test]
    fn its_messages_are_those_of_the_protocol() {
        assert!(().encode_to_vec().is_empty());
        assert_eq!(i32::decode(&[0x08, 0x01][..]), Ok(SERVING));
    }
}
