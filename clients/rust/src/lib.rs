#![doc = include_str!("../README.md")]
#![deny(missing_docs)]

mod address;
mod builder;
mod calls;
mod client;
mod convert;
mod convert_description;
mod default_address;
mod describe;
mod description;
mod ensure;
mod error;
mod failover;
mod file;
mod get;
mod health;
mod hold;
mod logs;
mod open_enum;
mod pages;
mod pull;
mod retry;
mod start;
mod status;
mod stream;
mod tls;
mod token;
mod token_file;
mod types;
pub mod vllm_pool;
mod watch;

pub use address::{ADDRESS_VARIABLE, DEFAULT_ADDRESS};
pub use builder::ClientBuilder;
pub use calls::{
    EvictCall, ForgetCall, HoldCall, ListCall, LogsCall, ModelsCall, PinCall, PullCall, ReloadCall,
};
pub use client::Client;
pub use describe::DescribeCall;
pub use description::{
    Choice, Decision, Description, EvictionCandidate, Holder, Run, RunOrigin, Setting, WaitingCall,
};
pub use ensure::EnsureCall;
pub use error::{Error, Reason, Violation};
pub use get::GetCall;
pub use hold::{Hold, Ready, States};
pub use logs::Logs;
pub use pages::Pages;
pub use pull::Pull;
pub use retry::RetryPolicy;
pub use start::{ConnectOrStart, PROGRAM_VARIABLE};
pub use tls::{CA_VARIABLE, CERT_VARIABLE, KEY_VARIABLE, SERVER_NAME_VARIABLE};
pub use token::{TOKEN_FILE_VARIABLE, TOKEN_VARIABLE};
pub use tonic::Code;
pub use types::{
    Ensured, Event, EvictedServer, Exit, ExitCause, Expectation, Found, KeepAlive, LogPart, Model,
    Page, Pinned, Progress, PromptCache, Reloaded, Secret, Server, ServerRole, ServerState, Totals,
};
pub use watch::Watch;

/// The messages and the stub, as generated from the service's proto file: for what the rest of
/// this package does not do. Its values convert into those of this package.
pub mod v1 {
    #![allow(clippy::all, clippy::pedantic, missing_docs, unreachable_pub)]
    include!("generated/pool_service/v1/pool_service.v1.rs");
}
