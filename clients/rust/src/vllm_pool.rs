//! A drop-in for a pool of servers in your own process.
//!
//! [`VllmServerPool`] has the calls of the type of that name in the crate car-inference: to let the
//! pool service do its work, change the line that names it.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::RwLock;

use crate::client::Client;
use crate::error::{Error, Reason};
use crate::start::ConnectOrStart;
use crate::types::{KeepAlive, Server, ServerState};

/// The longest keep alive that a service takes.
const LONGEST_KEEP_ALIVE: Duration = Duration::from_secs(10 * 365 * 86_400);
/// How long a caller who gets a plain number waits for the list of servers.
const LIST_TIMEOUT: Duration = Duration::from_secs(10);

/// Servers of models, each started when it is first asked for and stopped when it is unused.
///
/// Behind it stands a pool service, which is found or started with the first
/// [`ensure`](Self::ensure). Its servers outlive this value, until they are unused for their time.
#[derive(Debug)]
pub struct VllmServerPool {
    idle_ttl: Duration,
    service: ConnectOrStart,
    client: RwLock<Option<Client>>,
    /// The models that were asked for here, and whose servers are not known to be gone.
    models: Mutex<BTreeSet<String>>,
}

impl VllmServerPool {
    /// A pool whose servers may be unused for this long. It connects with the first `ensure`.
    #[must_use]
    pub fn new(idle_ttl: Duration) -> Self {
        let service = Client::connect_or_start();
        Self { idle_ttl, service, client: RwLock::default(), models: Mutex::default() }
    }

    /// The same pool, whose service is found or started in this way.
    #[must_use]
    pub fn with_service(self, service: ConnectOrStart) -> Self {
        Self { service, ..self }
    }

    /// Waits until the model's server is READY, and returns its endpoint. Starts it if there is none,
    /// or if its process died. An empty `runtime_model` lets the service choose. If the service has
    /// gone and does not come back, another one is started.
    ///
    /// # Errors
    /// What failed, in words, with the last lines that the server wrote.
    pub async fn ensure(&self, model_id: &str, runtime_model: &str) -> Result<String, String> {
        let server = self.ready(model_id, runtime_model).await.map_err(|error| in_words(&error))?;
        self.models().insert(server.model);
        Ok(server.endpoint)
    }

    /// Stops the servers that were unused for longer than their time; returns how many of this
    /// pool's servers have ended since the last call, whether they were stopped or died.
    ///
    /// Nobody has to call it: the service stops servers by itself. A server that is held or has
    /// requests in flight stays, as do servers that only others asked for. 0 if the service cannot
    /// be reached.
    pub async fn evict_idle(&self) -> usize {
        let Some((client, servers)) = self.listed().await else {
            return 0;
        };
        let models = self.models().clone();
        let mut ended = 0;
        for model in models {
            let is_gone = match servers.iter().find(|server| server.model == model) {
                Some(server) if self.is_idle(server) => client.evict(&*model).await.is_ok(),
                found => found.is_none_or(is_dead),
            };
            if is_gone {
                self.models().remove(&model);
                ended += 1;
            }
        }
        ended
    }

    /// Returns how many servers this pool has.
    pub async fn len(&self) -> usize {
        let models = self.models().clone();
        match self.listed().await {
            None => models.len(),
            Some((_, servers)) => {
                servers.iter().filter(|it| models.contains(&it.model) && !is_dead(it)).count()
            }
        }
    }

    /// Returns whether this pool has no server.
    pub async fn is_empty(&self) -> bool {
        self.len().await == 0
    }

    async fn ready(&self, model_id: &str, runtime_model: &str) -> Result<Server, Error> {
        let client = self.connected().await?;
        match self.ready_at(&client, model_id, runtime_model).await {
            Err(error) if error.reason() == Reason::PoolUnavailable => {
                *self.client.write().await = None;
                let client = self.connected().await?;
                self.ready_at(&client, model_id, runtime_model).await
            }
            told => told,
        }
    }

    /// The client of the service, which is found or started if there is none yet.
    async fn connected(&self) -> Result<Client, Error> {
        if let Some(client) = &*self.client.read().await {
            return Ok(client.clone());
        }
        let mut present = self.client.write().await;
        if let Some(client) = &*present {
            return Ok(client.clone());
        }
        let client = self.service.clone().await?;
        *present = Some(client.clone());
        Ok(client)
    }

    async fn ready_at(
        &self,
        client: &Client,
        model_id: &str,
        runtime_model: &str,
    ) -> Result<Server, Error> {
        let keep_alive = if self.idle_ttl > LONGEST_KEEP_ALIVE {
            KeepAlive::Forever
        } else {
            self.idle_ttl.into()
        };
        let call = client.ensure(model_id).runtime_model(runtime_model).keep_alive(keep_alive);
        Ok(call.await?.server)
    }

    /// The servers of the service, unless nothing was asked for here, or it cannot be reached.
    async fn listed(&self) -> Option<(Client, Vec<Server>)> {
        let client = self.client.read().await.clone().filter(|_| !self.models().is_empty())?;
        let servers = client.list().timeout(LIST_TIMEOUT).await.ok()?;
        Some((client, servers))
    }

    fn is_idle(&self, server: &Server) -> bool {
        let unused = server.last_use_time.map(|last| SystemTime::now().duration_since(last));
        server.is_ready() && unused.is_some_and(|unused| unused.is_ok_and(|it| it >= self.idle_ttl))
    }

    fn models(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.models.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_dead(server: &Server) -> bool {
    server.state == ServerState::Failed
}

fn in_words(error: &Error) -> String {
    let lines = error.last_lines().iter().map(String::as_str);
    std::iter::once(error.message()).chain(lines).collect::<Vec<_>>().join("\n")
}
