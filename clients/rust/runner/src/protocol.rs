//! The commands, as they come.

use std::time::Duration;

use pool_service_client::KeepAlive;
use serde::Deserialize;
use serde_json::Value;

/// One line of stdin.
#[derive(Deserialize)]
pub(crate) struct Command {
    pub(crate) id: Value,
    #[serde(flatten)]
    pub(crate) op: Op,
}

#[derive(Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub(crate) enum Op {
    Connect(Connect),
    Close { client: Value },
    Calls { client: Value },
    Ensure(Ensure),
    Evict(Evict),
    Get { client: Value, model: String, check: Option<bool> },
    Servers { client: Value },
    List { client: Value, page_size: Option<i32>, timeout: Option<f64> },
    Watch { client: Value, after_revision: Option<u64> },
    Hold(Hold),
    Ready { hold: Value, timeout: Option<f64>, after: Option<u64> },
    Release { hold: Value },
    Infer(Infer),
    Models { client: Value, found: Option<bool> },
    Logs(Logs),
    Pull { client: Value, model: String, runtime_model: Option<String> },
    Forget { client: Value, model: String },
    Pin { client: Value, model: String, pinned: Option<bool> },
    Describe { client: Value, model: String },
    Reload { client: Value },
    Cancel { target: Value },
}

#[derive(Deserialize)]
pub(crate) struct Connect {
    pub(crate) address: Option<String>,
    pub(crate) token: Option<String>,
    pub(crate) token_file: Option<String>,
    pub(crate) ca: Option<String>,
    pub(crate) cert: Option<String>,
    pub(crate) key: Option<String>,
    pub(crate) server_name: Option<String>,
    pub(crate) start: Option<Vec<String>>,
    pub(crate) program: Option<String>,
    pub(crate) start_timeout: Option<f64>,
    pub(crate) attempts: Option<u32>,
    pub(crate) patience: Option<f64>,
}

#[derive(Deserialize)]
pub(crate) struct Ensure {
    pub(crate) client: Value,
    pub(crate) model: String,
    pub(crate) runtime_model: Option<String>,
    pub(crate) keep_alive: Option<f64>,
    pub(crate) download: Option<bool>,
    #[serde(default)]
    pub(crate) progress: bool,
    pub(crate) timeout: Option<f64>,
}

#[derive(Deserialize)]
pub(crate) struct Logs {
    pub(crate) client: Value,
    pub(crate) model: String,
    pub(crate) generation: Option<u64>,
    pub(crate) previous: Option<bool>,
    pub(crate) oldest: Option<bool>,
    pub(crate) cursor: Option<String>,
    pub(crate) lines: Option<u32>,
    pub(crate) follow: Option<bool>,
}

#[derive(Deserialize)]
pub(crate) struct Evict {
    pub(crate) client: Value,
    pub(crate) model: Option<String>,
    #[serde(default)]
    pub(crate) idle: bool,
    #[serde(default)]
    pub(crate) all: bool,
    pub(crate) force: Option<bool>,
    pub(crate) timeout: Option<f64>,
}

#[derive(Deserialize)]
pub(crate) struct Hold {
    pub(crate) client: Value,
    pub(crate) model: String,
    pub(crate) runtime_model: Option<String>,
    pub(crate) keep_alive: Option<f64>,
    pub(crate) download: Option<bool>,
    pub(crate) holder: Option<String>,
}

#[derive(Deserialize)]
pub(crate) struct Infer {
    pub(crate) hold: Value,
    pub(crate) count: u64,
    pub(crate) text: String,
    pub(crate) parallel: Option<usize>,
}

/// Seconds as a duration: what is negative is none, what is too long is the longest.
pub(crate) fn seconds(value: f64) -> Duration {
    Duration::try_from_secs_f64(value.max(0.0)).unwrap_or(Duration::MAX)
}

/// Seconds as how long a server stays: what is negative is for ever.
pub(crate) fn keep_alive(value: f64) -> KeepAlive {
    if value < 0.0 { KeepAlive::Forever } else { seconds(value).into() }
}
