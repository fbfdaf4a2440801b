//! Announces an instance of a service, says who leads it, and goes in order.
//!
//!     cargo run --package tunnel-registry-client --example announce -- web 10.0.0.1:80

use std::error::Error;

use futures::StreamExt as _;
use tunnel_registry_client::{Client, Instance, LeaderType};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args().skip(1);
    let (Some(service), Some(addr)) = (words.next(), words.next()) else {
        return Err("usage: announce SERVICE HOST:PORT".into());
    };
    let servers = std::env::var("TUNNEL_REGISTRY_SERVER");
    let client = Client::new(servers.as_deref().unwrap_or("http://127.0.0.1:8000"))?;
    let instance = Instance::new(addr);
    let id = instance.id.clone();
    let registration = client
        .register(&service, instance)
        .create(LeaderType::Oldest)
        .await?;
    let mut leaders = client.follow_leader(&service);
    loop {
        tokio::select! {
            stopped = tokio::signal::ctrl_c() => break stopped?,
            leader = leaders.next() => match leader.transpose()? {
                Some(Some(leader)) if leader.id == id => say("this one leads"),
                Some(Some(leader)) => say(&format!("{} leads", leader.addr)),
                _ => say("nobody leads"),
            },
        }
    }
    registration.unregister().await?;
    Ok(())
}

#[expect(clippy::print_stdout, reason = "it is what the program is for")]
fn say(text: &str) {
    println!("{text}");
}
