//! A pool service that answers what the test says, call by call.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use pool_service_client::{Client, ClientBuilder, v1};
use prost::Message;
use prost_types::Any;
use tokio::io::{DuplexStream, copy_bidirectional, duplex};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::AbortHandle;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Endpoint, Server};
use tonic::{Code, Request, Response, Status};
use tonic_types::pb;

mod stub {
    #![allow(clippy::all, clippy::pedantic, unreachable_pub)]
    include!("generated/pool_service/v1/pool_service.v1.tonic.rs");
}

use stub::pool_service_server::{PoolService, PoolServiceServer};

type Answers<R> = UnboundedReceiverStream<Result<R, Status>>;

/// What the future gives. In paused time a wait for what never comes is over at once, and fails.
pub(crate) async fn soon<T>(future: impl IntoFuture<Output = T>) -> T {
    let day = Duration::from_secs(86_400);
    tokio::time::timeout(day, future).await.expect("what is waited for comes")
}

/// A call that the service has got, to be answered by the test.
pub(crate) struct Call<Q, R> {
    pub(crate) request: Q,
    /// The limit of time that the caller named, as it was sent.
    pub(crate) timeout: Option<String>,
    /// The header that tells who calls.
    pub(crate) token: Option<String>,
    answers: UnboundedSender<Result<R, Status>>,
}

impl<Q, R> Call<Q, R> {
    pub(crate) fn answer(&self, answer: R) {
        self.answers.send(Ok(answer)).expect("the caller is there");
    }

    pub(crate) fn refuse(self, status: Status) {
        self.answers.send(Err(status)).expect("the caller is there");
    }

    /// Returns when the caller is gone.
    pub(crate) async fn gone(self) {
        soon(self.answers.closed()).await;
    }
}

/// Where the calls of one method come in.
struct Line<Q, R>(UnboundedSender<Call<Q, R>>);

impl<Q, R> Line<Q, R> {
    fn take(&self, request: Request<Q>) -> UnboundedReceiver<Result<R, Status>> {
        let (answers, said) = unbounded_channel();
        let header = |name| {
            let value = request.metadata().get(name);
            value.map(|value| value.to_str().expect("it is text").to_owned())
        };
        let (timeout, token) = (header("grpc-timeout"), header("authorization"));
        let call = Call { request: request.into_inner(), timeout, token, answers };
        self.0.send(call).expect("the test is there");
        said
    }

    async fn once(&self, request: Request<Q>) -> Result<Response<R>, Status> {
        let answer = self.take(request).recv().await;
        answer
            .unwrap_or_else(|| Err(Status::internal("the test did not answer")))
            .map(Response::new)
    }

    fn stream(&self, request: Request<Q>) -> Response<Answers<R>> {
        Response::new(UnboundedReceiverStream::new(self.take(request)))
    }
}

macro_rules! service {
    ($(once $once:ident: $q:ident => $r:ident,)+ $(stream $stream:ident: $sq:ident => $sr:ident, $name:ident,)+) => {
        struct Lines {
            $($once: Line<v1::$q, v1::$r>,)+
            $($stream: Line<v1::$sq, v1::$sr>,)+
        }

        /// The test's end: each method gives its next call.
        pub(crate) struct Service {
            $($once: UnboundedReceiver<Call<v1::$q, v1::$r>>,)+
            $($stream: UnboundedReceiver<Call<v1::$sq, v1::$sr>>,)+
            pub(crate) network: Arc<Network>,
        }

        impl Service {
            $(pub(crate) async fn $once(&mut self) -> Call<v1::$q, v1::$r> {
                soon(self.$once.recv()).await.expect("the service is there")
            })+
            $(pub(crate) async fn $stream(&mut self) -> Call<v1::$sq, v1::$sr> {
                soon(self.$stream.recv()).await.expect("the service is there")
            })+
        }

        #[tonic::async_trait]
        impl PoolService for Lines {
            $(async fn $once(&self, request: Request<v1::$q>) -> Result<Response<v1::$r>, Status> {
                self.$once.once(request).await
            })+
            $(type $name = Answers<v1::$sr>;
            async fn $stream(&self, request: Request<v1::$sq>) -> Result<Response<Self::$name>, Status> {
                Ok(self.$stream.stream(request))
            })+
        }

        fn lines() -> (Lines, Service) {
            $(let $once = unbounded_channel();)+
            $(let $stream = unbounded_channel();)+
            let network = Arc::default();
            (
                Lines { $($once: Line($once.0),)+ $($stream: Line($stream.0),)+ },
                Service { $($once: $once.1,)+ $($stream: $stream.1,)+ network },
            )
        }
    };
}

service! {
    once ensure: EnsureRequest => EnsureResponse,
    once evict: EvictRequest => EvictResponse,
    once get: GetRequest => GetResponse,
    once list: ListRequest => ListResponse,
    once list_models: ListModelsRequest => ListModelsResponse,
    once forget: ForgetRequest => ForgetResponse,
    once pin: PinRequest => PinResponse,
    once describe: DescribeRequest => DescribeResponse,
    once reload: ReloadRequest => ReloadResponse,
    stream watch: WatchRequest => WatchResponse, WatchStream,
    stream hold: HoldRequest => HoldResponse, HoldStream,
    stream tail_logs: TailLogsRequest => TailLogsResponse, TailLogsStream,
    stream pull: PullRequest => PullResponse, PullStream,
}

/// What is between the client and the service.
#[derive(Default)]
pub(crate) struct Network {
    away: AtomicBool,
    wires: Mutex<Vec<AbortHandle>>,
}

impl Network {
    /// Breaks all connections, as the death of the service does.
    pub(crate) fn cut(&self) {
        self.wires.lock().expect("nobody panicked").drain(..).for_each(|wire| wire.abort());
    }

    /// Whether connections are refused.
    pub(crate) fn set_away(&self, away: bool) {
        self.away.store(away, Ordering::SeqCst);
    }

    fn dial(
        &self,
        listener: &UnboundedSender<io::Result<DuplexStream>>,
    ) -> io::Result<DuplexStream> {
        if self.away.load(Ordering::SeqCst) {
            return Err(io::Error::new(io::ErrorKind::ConnectionRefused, "nobody listens"));
        }
        let (near, mut left) = duplex(1 << 16);
        let (mut right, far) = duplex(1 << 16);
        let wire = tokio::spawn(async move {
            let _ = copy_bidirectional(&mut left, &mut right).await;
        });
        self.wires.lock().expect("nobody panicked").push(wire.abort_handle());
        listener.send(Ok(far)).expect("the service is there");
        Ok(near)
    }
}

/// A client, and the service that it talks to.
pub(crate) fn connected() -> (Client, Service) {
    connected_by(Client::builder())
}

pub(crate) fn connected_by(builder: ClientBuilder) -> (Client, Service) {
    let (lines, service) = lines();
    let (listener, connections) = unbounded_channel();
    let connections = UnboundedReceiverStream::new(connections);
    tokio::spawn(Server::builder().serve_with_incoming(PoolServiceServer::new(lines), connections));
    let network = service.network.clone();
    let connector = tower::service_fn(move |_| {
        let near = network.dial(&listener);
        async move { near.map(TokioIo::new) }
    });
    let channel = Endpoint::from_static("http://scripted").connect_with_connector_lazy(connector);
    (builder.connect_on(channel), service)
}

/// The address of a service on loopback, in time that passes.
pub(crate) async fn listening() -> (String, Service) {
    let (lines, service) = lines();
    let any = "127.0.0.1:0".parse().expect("it is an address");
    let incoming = TcpIncoming::bind(any).expect("a port is free");
    let address = incoming.local_addr().expect("it is bound").to_string();
    tokio::spawn(Server::builder().serve_with_incoming(PoolServiceServer::new(lines), incoming));
    (address, service)
}

/// A status as the service sends it, with its reason.
pub(crate) fn refusal(code: Code, reason: &str, details: Vec<Any>) -> Status {
    let info = pb::ErrorInfo {
        reason: reason.to_owned(),
        domain: "pool_service".to_owned(),
        metadata: [("model".to_owned(), "m".to_owned())].into(),
    };
    let message = format!("refused as {reason}");
    let rich = pb::Status {
        code: code.into(),
        message: message.clone(),
        details: [detail("ErrorInfo", &info)].into_iter().chain(details).collect(),
    };
    Status::with_details(code, message, rich.encode_to_vec().into())
}

pub(crate) fn detail(name: &str, message: &impl Message) -> Any {
    Any {
        type_url: format!("type.googleapis.com/google.rpc.{name}"),
        value: message.encode_to_vec(),
    }
}

pub(crate) fn retry_in(seconds: i64) -> Any {
    let delay = prost_types::Duration { seconds, nanos: 0 };
    detail("RetryInfo", &pb::RetryInfo { retry_delay: Some(delay) })
}

pub(crate) fn recovering() -> Status {
    refusal(Code::Unavailable, "RECOVERING", vec![retry_in(1)])
}

/// The server of `m`, in that state, as that generation.
pub(crate) fn server(state: v1::ServerState, generation: u64) -> v1::Server {
    v1::Server {
        model: "m".to_owned(),
        state: state.into(),
        generation,
        pid: 100,
        endpoint: format!("http://127.0.0.1:{}", 4000 + generation),
        ..Default::default()
    }
}

/// The answer of a call of ensure: a server that is READY.
pub(crate) fn ensured(generation: u64, api_key: &str) -> v1::EnsureResponse {
    let server = Some(server(v1::ServerState::Ready, generation));
    v1::EnsureResponse { server, started: true, api_key: api_key.to_owned() }
}
