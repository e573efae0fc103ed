//! Holds a model, and streams a chat completion from its server: `chat MODEL PROMPT`.

use std::error::Error;
use std::io::Write as _;

use async_openai::Client as OpenAi;
use async_openai::config::OpenAIConfig;
use async_openai::types::chat::{
    ChatCompletionRequestUserMessageArgs, CreateChatCompletionRequestArgs,
};
use pool_service_client::Client;
use tokio_stream::StreamExt as _;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(model), Some(prompt)) = (arguments.next(), arguments.next()) else {
        return Err("usage: chat MODEL PROMPT".into());
    };
    let hold = Client::connect()?.hold(model).holder("chat").open();
    let server = hold.ready().await?;
    let config = OpenAIConfig::new()
        .with_api_base(format!("{}/v1", server.endpoint))
        .with_api_key(server.api_key.expose());
    let message = ChatCompletionRequestUserMessageArgs::default().content(prompt).build()?;
    let request = CreateChatCompletionRequestArgs::default()
        .model(server.served_model_name)
        .messages([message.into()])
        .stream(true)
        .build()?;
    let mut chunks = OpenAi::with_config(config).chat().create_stream(request).await?;
    while let Some(chunk) = chunks.next().await {
        for choice in chunk?.choices {
            print!("{}", choice.delta.content.unwrap_or_default());
            std::io::stdout().flush()?;
        }
    }
    println!();
    Ok(())
}
