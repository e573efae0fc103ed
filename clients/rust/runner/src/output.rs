//! The lines that answer a command.

use std::io::Write as _;

use pool_service_client::Error;
use serde_json::{Value, json};

use crate::json;

/// Why a command ended without a result.
pub(crate) enum Failure {
    /// The client said so.
    Pool(Error),
    /// It was given up.
    Cancelled,
    /// It cannot be carried out.
    Command(String),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Pool(error)
    }
}

pub(crate) type Outcome = Result<Value, Failure>;

/// The answers of one command.
#[derive(Clone)]
pub(crate) struct Answers(pub(crate) Value);

impl Answers {
    pub(crate) fn event(&self, event: &Value) {
        write(&json!({"id": self.0, "event": event}));
    }

    pub(crate) fn end(&self, outcome: Outcome) {
        write(&match outcome {
            Ok(result) => json!({"id": self.0, "result": result}),
            Err(Failure::Pool(error)) => json!({"id": self.0, "error": json::error(&error)}),
            Err(Failure::Cancelled) => json!({"id": self.0, "error": json::cancelled()}),
            Err(Failure::Command(why)) => json!({"id": self.0, "error": json::refused(&why)}),
        });
    }
}

/// Nobody reads any longer: the conductor is gone, and stdin will say so.
fn write(line: &Value) {
    let mut stdout = std::io::stdout().lock();
    let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
}
