//! What async-openai returns when a connection breaks: the engine relies on it.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread;

use async_openai::Client;
use async_openai::config::OpenAIConfig;
use async_openai::error::OpenAIError;
use async_openai::types::stream::StreamResponse;
use serde_json::{Value, json};
use tokio_stream::StreamExt as _;

const BEGUN: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
                     transfer-encoding: chunked\r\n\r\n";
const EVENT: &str = "data: {\"choices\": []}\n\n";
const END: &str = "0\r\n\r\n";

/// The base URL of a server that reads one request, writes these parts, and closes.
fn server(parts: &[&str]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    let answer = parts.concat();
    thread::spawn(move || {
        let (mut connection, _) = listener.accept().expect("it is called");
        read_request(&mut connection);
        connection.write_all(answer.as_bytes()).expect("it is read");
    });
    format!("http://{address}/v1")
}

fn read_request(connection: &mut TcpStream) {
    let (mut request, mut part) = (Vec::new(), [0; 4096]);
    while !request.ends_with(b"}") {
        let count = connection.read(&mut part).expect("it is sent");
        request.extend_from_slice(&part[..count]);
    }
}

fn chunk(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}

async fn begin(base_url: String) -> Result<StreamResponse<Value>, OpenAIError> {
    let config = OpenAIConfig::new().with_api_base(base_url);
    let request = json!({"model": "m", "stream": true, "messages": []});
    Client::with_config(config).chat().create_stream_byot(request).await
}

async fn collected(base_url: String) -> Result<Vec<Value>, OpenAIError> {
    begin(base_url).await.expect("it begins").collect::<Result<_, _>>().await
}

#[tokio::test]
async fn a_connection_that_is_refused_is_an_error_of_reqwest() {
    let nobody = "http://127.0.0.1:1/v1".to_owned();
    assert!(matches!(begin(nobody).await, Err(OpenAIError::Reqwest(_))));
}

#[tokio::test]
async fn a_connection_that_ends_before_the_first_byte_is_an_error_of_reqwest() {
    assert!(matches!(begin(server(&[])).await, Err(OpenAIError::Reqwest(_))));
}

#[tokio::test]
async fn a_stream_that_is_cut_is_an_error_of_the_stream() {
    let event = chunk(EVENT);
    for parts in [&[BEGUN][..], &[BEGUN, &event], &[BEGUN, "ff\r\nda"]] {
        let answer = collected(server(parts)).await;
        assert!(matches!(answer, Err(OpenAIError::StreamError(_))), "{answer:?}");
    }
}

#[tokio::test]
async fn a_stream_that_ends_early_is_no_error() {
    let event = chunk(EVENT);
    let chunks = collected(server(&[BEGUN, &event, END])).await.expect("it ends");
    assert_eq!(chunks, [json!({"choices": []})]);
}
