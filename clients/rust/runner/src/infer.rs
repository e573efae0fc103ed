//! Chat completions on the endpoint of a hold, whatever happens to its server.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pool_service_client::{Error, Server};
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use crate::output::{Answers, Failure, Outcome};
use crate::protocol::Infer;
use crate::session::Held;

struct Work {
    held: Arc<Held>,
    http: reqwest::Client,
    text: String,
    left: AtomicU64,
    counts: Mutex<Counts>,
    answers: Answers,
}

#[derive(Default)]
struct Counts {
    done: u64,
    failed: u64,
}

/// Makes `count` completions, `parallel` at a time, with an event after each.
pub(crate) async fn infer(held: Arc<Held>, asked: Infer, answers: Answers) -> Outcome {
    // A connection for each request: one that was kept could be to a server that is gone.
    let http = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).build();
    let work = Arc::new(Work {
        held,
        http: http.map_err(|error| Failure::Command(error.to_string()))?,
        text: asked.text,
        left: AtomicU64::new(asked.count),
        counts: Mutex::default(),
        answers,
    });
    let mut workers = JoinSet::new();
    for _ in 0..asked.parallel.unwrap_or(1).max(1) {
        workers.spawn(work_on(work.clone()));
    }
    while let Some(ended) = workers.join_next().await {
        ended.map_err(|error| Failure::Command(error.to_string()))??;
    }
    let counts = work.counts.lock().await;
    Ok(json!({"done": counts.done, "failed": counts.failed}))
}

async fn work_on(work: Arc<Work>) -> Result<(), Error> {
    let less = |left: u64| left.checked_sub(1);
    while work.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok() {
        let is_done = work.complete().await?;
        let mut counts = work.counts.lock().await;
        if is_done {
            counts.done += 1;
        } else {
            counts.failed += 1;
        }
        work.answers.event(&json!({"done": counts.done}));
    }
    Ok(())
}

impl Work {
    /// Whether one completion was made; one that could not connect waits for the next server.
    async fn complete(&self) -> Result<bool, Error> {
        let hold = &self.held.hold;
        let mut server = hold.ready().await?;
        loop {
            match self.ask(&server).await {
                Ok(()) => return Ok(true),
                Err(error) if error.is_connect() => server = hold.ready().after(&server).await?,
                Err(error) => {
                    eprintln!("{} of generation {}: {error:?}", server.model, server.generation);
                    return Ok(false);
                }
            }
        }
    }

    async fn ask(&self, server: &Server) -> reqwest::Result<()> {
        let request = json!({
            "model": server.served_model_name,
            "messages": [{"role": "user", "content": self.text}],
        });
        let url = format!("{}/v1/chat/completions", server.endpoint);
        let call = self.http.post(url).bearer_auth(server.api_key.expose()).json(&request);
        let response = call.send().await?;
        response.error_for_status()?.json::<Value>().await?;
        Ok(())
    }
}
