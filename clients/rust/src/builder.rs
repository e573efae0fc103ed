//! The settings of a client, and its connection.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tonic::transport::{Channel, ClientTlsConfig, Endpoint};
use tonic::{Request, Status};

use crate::address::{self, ADDRESS_VARIABLE, DEFAULT_ADDRESS};
use crate::client::Client;
use crate::error::Error;
use crate::failover::Failover;
use crate::retry::RetryPolicy;
use crate::start::ConnectOrStart;
use crate::token::{self, Token};
use crate::v1::pool_service_client::PoolServiceClient;
use crate::{default_address, tls};

const USER_AGENT: &str = concat!("pool-service-client-rust/", env!("CARGO_PKG_VERSION"));
/// gRPC's default in other languages.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// Where another address could be called instead.
const SHORT_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A watch may be quiet for hours; the keepalive notices a peer that vanished.
const KEEPALIVE: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

type Intercept = dyn Fn(Request<()>) -> Result<Request<()>, Status> + Send + Sync;

/// The settings of a client.
#[derive(Clone, Default)]
#[must_use = "it does nothing before `connect`"]
pub struct ClientBuilder {
    address: Option<String>,
    token: token::Given,
    tls: tls::Given,
    retry: RetryPolicy,
    intercept: Option<Arc<Intercept>>,
}

impl ClientBuilder {
    /// The address of the service: `host:port` or `unix:PATH`, which may begin with `~`. Or several
    /// `host:port`, separated by commas, of which the next one is called when one fails.
    pub fn address(self, address: impl Into<String>) -> Self {
        Self { address: Some(address.into()), ..self }
    }

    /// The token that is sent with each call.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token.token = Some(token.into());
        self
    }

    /// The file that holds the token, for you alone to read (`chmod 600`); `~` is the home
    /// directory. It is read again when it has changed, so that a new token is sent with the next
    /// call.
    pub fn token_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.token.file = Some(path.into());
        self
    }

    /// The file with the authorities, in PEM, that are trusted to know the service; by default those
    /// of the system. `~` is the home directory.
    pub fn ca(mut self, path: impl Into<PathBuf>) -> Self {
        self.tls.ca = Some(path.into());
        self
    }

    /// The files with the certificate that is shown to the service, and with its key, in PEM. The
    /// key is for you alone to read (`chmod 600`).
    pub fn certificate(mut self, cert: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.tls.cert = Some(cert.into());
        self.tls.key = Some(key.into());
        self
    }

    /// The name that the service's certificate must have, if that is not the host of the address.
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.tls.server_name = Some(name.into());
        self
    }

    /// How the client retries.
    pub fn retry(self, retry: RetryPolicy) -> Self {
        Self { retry, ..self }
    }

    /// Sees each RPC before it is sent, also of retries and of streams that are opened again. It
    /// may change the metadata, or refuse the RPC with a status. Its name is in the extension
    /// [`tonic::GrpcMethod`]. The token is added afterwards.
    pub fn interceptor<F>(self, intercept: F) -> Self
    where
        F: Fn(Request<()>) -> Result<Request<()>, Status> + Send + Sync + 'static,
    {
        Self { intercept: Some(Arc::new(intercept)), ..self }
    }

    /// The client, which connects on first use.
    ///
    /// To another machine it speaks TLS, by these settings, or else by the variables
    /// `POOL_SERVICE_CA`, `POOL_SERVICE_CERT`, `POOL_SERVICE_KEY` and `POOL_SERVICE_SERVER_NAME`. To
    /// a loopback address it speaks TLS only if one of these settings is given. The files are read
    /// now: make a new client when you have replaced them.
    ///
    /// # Errors
    /// [`InvalidRequest`](crate::Reason::InvalidRequest) if the address, the token or a file is not
    /// valid.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn connect(self) -> Result<Client, Error> {
        let place = Place::of_process();
        let found = self.named(&place)?.or_else(|| place.own_socket());
        let target = found.unwrap_or_else(|| DEFAULT_ADDRESS.to_owned());
        self.connect_to(target, place.home.as_deref())
    }

    /// The client, of a service that is started if none serves: see [`Client::connect_or_start`].
    pub fn connect_or_start(self) -> ConnectOrStart {
        ConnectOrStart::new(self)
    }

    /// The address that is given, else that of the environment; `None` if there is none.
    pub(crate) fn named(&self, place: &Place) -> Result<Option<String>, Error> {
        let environment = place.address.as_ref().map(|address| address.to_string_lossy());
        let home = place.home.as_deref();
        address::named(self.address.as_deref(), environment.as_deref(), home)
    }

    pub(crate) fn connect_to(
        mut self,
        target: String,
        home: Option<&Path>,
    ) -> Result<Client, Error> {
        let given = std::mem::take(&mut self.token);
        let token = Token::of(given, token::Given::of_environment(), home)?;
        let given = std::mem::take(&mut self.tls);
        let environment = tls::Given::of_environment();
        self.retry.addresses = address::each_of(&target).count();
        let limit = if self.retry.addresses > 1 { SHORT_CONNECT_TIMEOUT } else { CONNECT_TIMEOUT };
        let channels = address::each_of(&target)
            .map(|one| {
                let tls = tls::config(given.clone(), environment.clone(), &target, one, home)?;
                Ok(endpoint(one, tls)?.connect_timeout(limit).connect_lazy())
            })
            .collect::<Result<Vec<_>, Error>>()?;
        Ok(self.client(Failover::new(channels), target, token))
    }

    /// The client on your own channel, with that channel's settings; for TLS, say. It sends no
    /// token: for that, set `authorization` in an interceptor.
    #[must_use]
    pub fn connect_on(self, channel: Channel) -> Client {
        let name = self.address.clone().unwrap_or_else(|| "the channel's address".to_owned());
        self.client(Failover::new([channel]), name, None)
    }

    fn client(self, channel: Failover, address: String, token: Option<Token>) -> Client {
        let interceptor = Interceptor { intercept: self.intercept, token: token.map(Arc::new) };
        Client {
            stub: PoolServiceClient::with_interceptor(channel, interceptor),
            address: address.into(),
            retry: self.retry,
        }
    }
}

impl fmt::Debug for ClientBuilder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ClientBuilder")
            .field("address", &self.address)
            .field("retry", &self.retry)
            .finish_non_exhaustive()
    }
}

/// What the environment says of where a service is.
#[derive(Default)]
pub(crate) struct Place {
    pub(crate) address: Option<OsString>,
    pub(crate) home: Option<PathBuf>,
    pub(crate) runtime: Option<OsString>,
    pub(crate) state: Option<OsString>,
}

impl Place {
    pub(crate) fn of_process() -> Self {
        Self {
            address: std::env::var_os(ADDRESS_VARIABLE),
            home: std::env::home_dir(),
            runtime: std::env::var_os("XDG_RUNTIME_DIR"),
            state: std::env::var_os("XDG_STATE_HOME"),
        }
    }

    /// The address of a default socket on which a program listens; `None` if there is none.
    pub(crate) fn own_socket(&self) -> Option<String> {
        let (runtime, state) = (self.runtime.clone(), self.state.clone());
        let directories = default_address::directories(runtime, state, self.home.as_deref());
        default_address::in_directories(&directories)
    }
}

/// A tonic channel dials again with the next call, so the delay between attempts is the only delay
/// until a restarted service is found.
pub(crate) fn endpoint(target: &str, tls: Option<ClientTlsConfig>) -> Result<Endpoint, Error> {
    let endpoint = Endpoint::from_shared(address::uri(target, tls.is_some()))
        .and_then(|endpoint| endpoint.user_agent(USER_AGENT))
        .map_err(|_| address::not_an_address(target))?;
    let endpoint = match tls {
        Some(tls) => endpoint.tls_config(tls).map_err(|error| tls::unusable(&error))?,
        None => endpoint,
    };
    Ok(endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT))
}

#[derive(Clone)]
pub(crate) struct Interceptor {
    intercept: Option<Arc<Intercept>>,
    token: Option<Arc<Token>>,
}

impl tonic::service::Interceptor for Interceptor {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        let mut request = match &self.intercept {
            Some(intercept) => intercept(request)?,
            None => request,
        };
        if let Some(token) = &self.token {
            request.metadata_mut().insert("authorization", token.header());
        }
        Ok(request)
    }
}
