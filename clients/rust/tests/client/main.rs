//! The client against a scripted service in the same process, in tokio's own time: the clock
//! stands still, and jumps to the next timer when nothing else is to be done.

mod addresses;
mod calls;
mod descriptions;
mod documents;
mod holds;
mod keys;
mod logs;
mod progress;
mod pulls;
mod readiness;
mod scripted;
mod tokens;
mod vllm_pool;
mod watches;
