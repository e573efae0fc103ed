//! Keys of servers: on what `ensure` and `hold` return, and in no text that shows it.

use std::future::IntoFuture as _;

use pool_service_client::v1::ServerState as Wire;
use pool_service_client::{Server, v1};

use crate::scripted::{connected, ensured, server, soon};

const KEY: &str = "psk_secret";

fn ready(generation: u64, api_key: &str) -> v1::HoldResponse {
    v1::HoldResponse { server: Some(server(Wire::Ready, generation)), api_key: api_key.to_owned() }
}

#[tokio::test(start_paused = true)]
async fn ensure_gives_the_key_with_the_server() {
    for key in [KEY, ""] {
        let (pool, mut service) = connected();
        let asking = tokio::spawn(pool.ensure("m").into_future());
        service.ensure().await.answer(ensured(1, key));
        let ensured = soon(asking).await.expect("no panic").expect("it is ready");
        assert_eq!(ensured.server.api_key.expose(), key);
        assert_eq!(ensured.server.api_key.is_empty(), key.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_hold_gives_the_key_of_the_server_that_is_ready() {
    let (pool, mut service) = connected();
    let hold = pool.hold("m").open();
    let stream = service.hold().await;
    stream.answer(ready(1, KEY));
    let first = hold.ready().await.expect("it is ready");
    assert_eq!(first.api_key.expose(), KEY);
    stream.answer(ready(2, "another"));
    let second = hold.ready().after(&first).await.expect("it is ready");
    assert_eq!(second.api_key.expose(), "another");
}

#[test]
fn no_text_shows_a_key() {
    let response = ready(1, KEY);
    let server = Server::from(response.clone());
    assert_eq!(server.api_key.expose(), KEY);
    let shown =
        format!("{response:?} {:?} {server:?} {server:#?} {:?}", ensured(1, KEY), server.api_key);
    assert!(!shown.contains(KEY), "{shown}");
    assert!(shown.contains("***"), "{shown}");
}
