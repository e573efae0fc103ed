//! Answers each line of stdin as a prompt, whatever happens to the server: `engine MODEL`.

use async_openai::{Client as OpenAi, config::OpenAIConfig, error::OpenAIError};
use pool_service_client::{Client, Server};
use serde_json::{Value, json};
use tokio_stream::StreamExt as _;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let model = std::env::args().nth(1).ok_or("usage: engine MODEL")?;
    let hold = Client::connect_or_start().await?.hold(model).holder("engine").open();
    for prompt in std::io::stdin().lines() {
        let (prompt, mut server) = (prompt?, hold.ready().await?);
        loop {
            match answer(&server, &prompt).await {
                Ok(line) => break println!("{line}"),
                // No answer has begun: the server is asked again, or the next one.
                Err(OpenAIError::Reqwest(_)) => server = hold.ready().after(&server).await?,
                Err(error) => break println!("lost {error}"),
            }
        }
    }
    Ok(())
}

async fn answer(at: &Server, prompt: &str) -> Result<String, OpenAIError> {
    let messages = json!([{"role": "user", "content": prompt}]);
    let request = json!({"model": at.served_model_name, "messages": messages, "stream": true});
    let config = OpenAIConfig::new().with_api_base(at.base_url()).with_api_key(at.api_key.expose());
    let stream = OpenAi::with_config(config).chat().create_stream_byot(request).await?;
    let chunks: Vec<Value> = stream.collect::<Result<_, _>>().await?;
    let text = chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str());
    let is_whole = chunks.iter().any(|chunk| chunk["choices"][0]["finish_reason"].is_string());
    Ok(if is_whole { format!("done {}", text.collect::<String>()) } else { "lost its end".into() })
}
