use std::time::Duration;

use pool_service_client::{Client, Error};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let model = std::env::args().nth(1).expect("name a model");
    let pool = Client::connect_or_start().await?; // POOL_SERVICE_ADDRESS, else your own service
    let ensured = pool.ensure(model).timeout(Duration::from_secs(300)).await?;
    println!("{}", ensured.server.endpoint);
    Ok(())
}
