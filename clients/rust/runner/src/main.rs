//! The conformance runner: reads commands as lines of JSON, calls the pool service by the client
//! as they say, and writes what came of it. The protocol is in tests/conformance/README.md.

mod description;
mod infer;
mod json;
mod operations;
mod output;
mod protocol;
mod session;

use std::sync::Arc;

use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::session::Session;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let session = Arc::new(Session::default());
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        match serde_json::from_str(&line) {
            Ok(command) => session.begin(command),
            Err(error) => eprintln!("not a command ({error}): {line}"),
        }
    }
    // Tokio's stdin has a thread that would hold up the end of the runtime.
    std::process::exit(0)
}
