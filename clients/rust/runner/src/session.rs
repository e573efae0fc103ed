//! What a conductor has connected and holds, and what is under way.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pool_service_client::{Client, ClientBuilder, Hold, RetryPolicy, Server};
use serde_json::{Value, json};
use tokio::sync::Notify;
use tonic::{GrpcMethod, Request};

use crate::operations;
use crate::output::{Answers, Failure, Outcome};
use crate::protocol::{self, Command, Op, seconds};

type Calls = Arc<Mutex<BTreeMap<String, u64>>>;

#[derive(Default)]
pub(crate) struct Session {
    connected: Mutex<HashMap<Value, Connected>>,
    holds: Mutex<HashMap<Value, Arc<Held>>>,
    under_way: Mutex<HashMap<Value, UnderWay>>,
}

#[derive(Clone)]
struct Connected {
    client: Client,
    calls: Calls,
}

/// A hold, and the servers that were told of: `after` names them by their generation.
pub(crate) struct Held {
    pub(crate) hold: Hold,
    client: Value,
    seen: Mutex<HashMap<u64, Server>>,
}

impl Held {
    pub(crate) fn remember(&self, server: &Server) {
        lock(&self.seen).insert(server.generation, server.clone());
    }

    pub(crate) fn seen(&self, generation: u64) -> Result<Server, Failure> {
        let seen = lock(&self.seen).get(&generation).cloned();
        seen.ok_or_else(|| Failure::Command(format!("generation {generation} was not told of")))
    }
}

struct UnderWay {
    client: Option<Value>,
    cancelled: Arc<Notify>,
}

impl Session {
    /// Begins a command, so that the next one finds what this one made, and goes on beside it.
    pub(crate) fn begin(self: &Arc<Self>, command: Command) {
        let Command { id, op } = command;
        let answers = Answers(id.clone());
        match op {
            Op::Connect(asked) if asked.start.is_some() => {
                let session = self.clone();
                let future = async move { session.connect_or_start(answers.0, asked).await };
                self.spawn(id, None, future);
            }
            Op::Connect(asked) => answers.end(self.connect(id, asked)),
            Op::Close { client } => answers.end(self.close(&client)),
            Op::Calls { client } => answers.end(self.calls(&client)),
            Op::Release { hold } => answers.end(self.release(&hold)),
            Op::Cancel { target } => {
                self.cancel(&target);
                answers.end(Ok(json!({})));
            }
            Op::Hold(asked) => match self.open(id.clone(), asked) {
                Ok(held) => {
                    let client = Some(held.client.clone());
                    self.spawn(id, client, operations::states(answers, held));
                }
                Err(failure) => answers.end(Err(failure)),
            },
            op => {
                let operation = operations::run(self.clone(), op, answers);
                self.spawn(id, operation.client, operation.future);
            }
        }
    }

    fn spawn<F>(self: &Arc<Self>, id: Value, client: Option<Value>, operation: F)
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        let cancelled = Arc::new(Notify::new());
        let entry = UnderWay { client, cancelled: cancelled.clone() };
        lock(&self.under_way).insert(id.clone(), entry);
        let session = self.clone();
        tokio::spawn(async move {
            let outcome = tokio::select! {
                biased;
                () = cancelled.notified() => Err(Failure::Cancelled),
                outcome = operation => outcome,
            };
            // A hold that was closed may end before its cancelling is seen above.
            let outcome = tokio::select! {
                biased;
                () = cancelled.notified() => Err(Failure::Cancelled),
                () = std::future::ready(()) => outcome,
            };
            lock(&session.under_way).remove(&id);
            Answers(id).end(outcome);
        });
    }

    fn connect(&self, id: Value, asked: protocol::Connect) -> Outcome {
        let (builder, calls) = builder(asked);
        self.add(id, builder.connect()?, calls);
        Ok(json!({}))
    }

    async fn connect_or_start(&self, id: Value, mut asked: protocol::Connect) -> Outcome {
        let (program, timeout) = (asked.program.take(), asked.start_timeout.take());
        let arguments = asked.start.take().unwrap_or_default();
        let (builder, calls) = builder(asked);
        let mut call = builder.connect_or_start().arguments(arguments);
        if let Some(program) = program {
            call = call.program(program);
        }
        if let Some(timeout) = timeout {
            call = call.timeout(seconds(timeout));
        }
        self.add(id, call.await?, calls);
        Ok(json!({}))
    }

    fn add(&self, id: Value, client: Client, calls: Calls) {
        lock(&self.connected).insert(id, Connected { client, calls });
    }

    /// What is under way on the client is given up, and what it holds is released.
    fn close(&self, client: &Value) -> Outcome {
        lock(&self.connected).remove(client).ok_or_else(|| unknown("client", client))?;
        for it in lock(&self.under_way).values().filter(|it| it.client.as_ref() == Some(client)) {
            it.cancelled.notify_one();
        }
        for held in lock(&self.holds).values().filter(|held| held.client == *client) {
            held.hold.close();
        }
        Ok(json!({}))
    }

    fn calls(&self, client: &Value) -> Outcome {
        let connected = self.connected(client)?;
        let calls = lock(&connected.calls).clone();
        Ok(json!(calls))
    }

    fn open(&self, id: Value, asked: protocol::Hold) -> Result<Arc<Held>, Failure> {
        let mut call = self.client(&asked.client)?.hold(asked.model);
        if let Some(runtime_model) = asked.runtime_model {
            call = call.runtime_model(runtime_model);
        }
        if let Some(keep_alive) = asked.keep_alive {
            call = call.keep_alive(protocol::keep_alive(keep_alive));
        }
        if let Some(download) = asked.download {
            call = call.download(download);
        }
        if let Some(holder) = asked.holder {
            call = call.holder(holder);
        }
        let held =
            Arc::new(Held { hold: call.open(), client: asked.client, seen: Mutex::default() });
        lock(&self.holds).insert(id, held.clone());
        Ok(held)
    }

    fn release(&self, hold: &Value) -> Outcome {
        self.held(hold)?.hold.close();
        Ok(json!({}))
    }

    /// What has ended meanwhile needs no cancelling.
    fn cancel(&self, target: &Value) {
        if let Some(it) = lock(&self.under_way).get(target) {
            it.cancelled.notify_one();
            if let Some(held) = lock(&self.holds).get(target) {
                held.hold.close();
            }
        }
    }

    fn connected(&self, client: &Value) -> Result<Connected, Failure> {
        lock(&self.connected).get(client).cloned().ok_or_else(|| unknown("client", client))
    }

    pub(crate) fn client(&self, client: &Value) -> Result<Client, Failure> {
        Ok(self.connected(client)?.client)
    }

    pub(crate) fn held(&self, hold: &Value) -> Result<Arc<Held>, Failure> {
        lock(&self.holds).get(hold).cloned().ok_or_else(|| unknown("hold", hold))
    }
}

/// The builder of a client, and the count of the calls that it begins.
fn builder(asked: protocol::Connect) -> (ClientBuilder, Calls) {
    let mut retry = RetryPolicy::default();
    retry.attempts = asked.attempts;
    retry.patience = asked.patience.map_or(retry.patience, seconds);
    let calls = Calls::default();
    let counter = calls.clone();
    let count = move |request: Request<()>| {
        if let Some(method) = request.extensions().get::<GrpcMethod<'_>>() {
            *lock(&counter).entry(method.method().to_owned()).or_default() += 1;
        }
        Ok(request)
    };
    let mut builder = Client::builder().retry(retry).interceptor(count);
    if let Some(address) = asked.address {
        builder = builder.address(address);
    }
    if let Some(token) = asked.token {
        builder = builder.token(token);
    }
    if let Some(path) = asked.token_file {
        builder = builder.token_file(path);
    }
    if let Some(path) = asked.ca {
        builder = builder.ca(path);
    }
    if let (Some(cert), Some(key)) = (asked.cert, asked.key) {
        builder = builder.certificate(cert, key);
    }
    if let Some(name) = asked.server_name {
        builder = builder.server_name(name);
    }
    (builder, calls)
}

fn unknown(what: &str, id: &Value) -> Failure {
    Failure::Command(format!("there is no {what} {id}"))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
