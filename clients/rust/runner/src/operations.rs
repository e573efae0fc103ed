//! The commands that take time, as the client's users would write them.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::description;
use crate::infer::infer;
use crate::json;
use crate::output::{Answers, Failure, Outcome};
use crate::protocol::{self, Op, keep_alive, seconds};
use crate::session::{Held, Session};

pub(crate) struct Operation {
    /// The client that it is made by, where one is named.
    pub(crate) client: Option<Value>,
    pub(crate) future: Pin<Box<dyn Future<Output = Outcome> + Send>>,
}

/// The operation of a command that is not over at once.
pub(crate) fn run(session: Arc<Session>, op: Op, answers: Answers) -> Operation {
    let client = client_of(&op).cloned();
    let future = Box::pin(async move {
        match op {
            Op::Ensure(asked) => ensure(&session, asked, answers).await,
            Op::Evict(asked) => evict(&session, asked).await,
            Op::Get { client, model, check } => {
                let call = session.client(&client)?.get(model).check(check.unwrap_or(false));
                Ok(json::found(&call.await?))
            }
            Op::Servers { client } => {
                let servers = session.client(&client)?.list().await?;
                Ok(json!({"servers": servers.iter().map(json::server).collect::<Vec<_>>()}))
            }
            Op::List { client, page_size, timeout } => {
                list(&session, &client, page_size.unwrap_or(0), timeout).await
            }
            Op::Watch { client, after_revision } => {
                watch(&session, &client, after_revision, &answers).await
            }
            Op::Ready { hold, timeout, after } => ready(&session, &hold, timeout, after).await,
            Op::Infer(asked) => infer(session.held(&asked.hold)?, asked, answers).await,
            Op::Models { client, found } => {
                let asked = session.client(&client)?.models().found(found.unwrap_or(false));
                let models = asked.await?;
                Ok(json!({"models": models.iter().map(json::model).collect::<Vec<_>>()}))
            }
            Op::Logs(asked) => logs(&session, asked, &answers).await,
            Op::Pull { client, model, runtime_model } => {
                pull(&session, &client, model, runtime_model, &answers).await
            }
            Op::Forget { client, model } => {
                Ok(json!({"runtime_model": session.client(&client)?.forget(model).await?}))
            }
            Op::Pin { client, model, pinned } => {
                Ok(json::pinned(session.client(&client)?.pin(model, pinned).await?))
            }
            Op::Describe { client, model } => {
                Ok(description::json(&session.client(&client)?.describe(model).await?))
            }
            Op::Reload { client } => Ok(json::reloaded(&session.client(&client)?.reload().await?)),
            _ => Err(Failure::Command("this is over at once".to_owned())),
        }
    });
    Operation { client, future }
}

fn client_of(op: &Op) -> Option<&Value> {
    match op {
        Op::Ensure(protocol::Ensure { client, .. })
        | Op::Evict(protocol::Evict { client, .. })
        | Op::Logs(protocol::Logs { client, .. })
        | Op::Get { client, .. }
        | Op::Servers { client }
        | Op::List { client, .. }
        | Op::Watch { client, .. }
        | Op::Models { client, .. }
        | Op::Pull { client, .. }
        | Op::Forget { client, .. }
        | Op::Pin { client, .. }
        | Op::Describe { client, .. }
        | Op::Reload { client } => Some(client),
        _ => None,
    }
}

async fn ensure(session: &Session, asked: protocol::Ensure, answers: Answers) -> Outcome {
    let mut call = session.client(&asked.client)?.ensure(asked.model);
    if let Some(runtime_model) = asked.runtime_model {
        call = call.runtime_model(runtime_model);
    }
    if let Some(value) = asked.keep_alive {
        call = call.keep_alive(keep_alive(value));
    }
    if let Some(download) = asked.download {
        call = call.download(download);
    }
    if let Some(timeout) = asked.timeout {
        call = call.timeout(seconds(timeout));
    }
    if asked.progress {
        call = call.on_progress(move |server| {
            answers.event(&json!({"server": json::server(server)}));
        });
    }
    let ensured = call.await?;
    Ok(json!({"server": json::server(&ensured.server), "started": ensured.started}))
}

async fn evict(session: &Session, asked: protocol::Evict) -> Outcome {
    let client = session.client(&asked.client)?;
    let mut call = match asked.model {
        Some(model) => client.evict(model),
        None if asked.idle => client.evict_idle(),
        None if asked.all => client.evict_all(),
        None => return Err(Failure::Command("evict names no target".to_owned())),
    };
    if let Some(force) = asked.force {
        call = call.force(force);
    }
    if let Some(timeout) = asked.timeout {
        call = call.timeout(seconds(timeout));
    }
    Ok(json!({"evicted": call.await?.iter().map(json::evicted).collect::<Vec<_>>()}))
}

async fn list(session: &Session, client: &Value, page_size: i32, timeout: Option<f64>) -> Outcome {
    let mut call = session.client(client)?.list().page_size(page_size);
    if let Some(timeout) = timeout {
        call = call.timeout(seconds(timeout));
    }
    let (mut pages, mut servers, mut count) = (call.pages(), Vec::new(), 0);
    let mut said = json!({});
    while let Some(page) = pages.next().await {
        let page = page?;
        count += 1;
        servers.extend(page.servers.iter().map(json::server));
        said = json!({
            "revision": page.revision,
            "totals": json::totals(&page.totals),
            "notices": page.notices,
        });
    }
    said["servers"] = json!(servers);
    said["pages"] = json!(count);
    Ok(said)
}

async fn watch(
    session: &Session,
    client: &Value,
    after_revision: Option<u64>,
    answers: &Answers,
) -> Outcome {
    let client = session.client(client)?;
    let mut events = match after_revision {
        Some(revision) => client.watch_after(revision),
        None => client.watch(),
    };
    while let Some(event) = events.next().await {
        answers.event(&json::event(&event?));
    }
    Ok(json!({}))
}

/// Tells the states of a hold until it is released.
pub(crate) async fn states(answers: Answers, held: Arc<Held>) -> Outcome {
    let mut states = held.hold.states();
    while let Some(state) = states.next().await {
        let server = state?;
        held.remember(&server);
        answers.event(&json!({"server": json::server(&server)}));
    }
    Ok(json!({}))
}

async fn ready(session: &Session, id: &Value, timeout: Option<f64>, after: Option<u64>) -> Outcome {
    let held = session.held(id)?;
    let old = after.map(|generation| held.seen(generation)).transpose()?;
    let mut wait = held.hold.ready();
    if let Some(timeout) = timeout {
        wait = wait.timeout(seconds(timeout));
    }
    if let Some(old) = &old {
        wait = wait.after(old);
    }
    let server = wait.await?;
    held.remember(&server);
    Ok(json!({"server": json::server(&server)}))
}

async fn logs(session: &Session, asked: protocol::Logs, answers: &Answers) -> Outcome {
    let mut call = session.client(&asked.client)?.logs(asked.model);
    if let Some(generation) = asked.generation {
        call = call.generation(generation);
    }
    if asked.previous == Some(true) {
        call = call.previous();
    }
    if asked.oldest == Some(true) {
        call = call.oldest();
    }
    if let Some(cursor) = asked.cursor {
        call = call.cursor(cursor);
    }
    if let Some(lines) = asked.lines {
        call = call.lines(lines);
    }
    if asked.follow == Some(true) {
        call = call.follow();
    }
    let mut parts = call.stream();
    while let Some(part) = parts.next().await {
        answers.event(&json::log_part(&part?));
    }
    Ok(json!({}))
}

async fn pull(
    session: &Session,
    client: &Value,
    model: String,
    runtime_model: Option<String>,
    answers: &Answers,
) -> Outcome {
    let mut call = session.client(client)?.pull(model);
    if let Some(runtime_model) = runtime_model {
        call = call.runtime_model(runtime_model);
    }
    let mut news = call.stream();
    while let Some(progress) = news.next().await {
        let progress = progress?;
        answers.event(&json!({"done": progress.done, "total": progress.total}));
    }
    Ok(json!({}))
}
