//! A first conversation: says something, reads it back, and follows what others say.
//!
//! Against a running cluster:
//! `cargo run --release -p firebreak-client --example first_conversation -- 127.0.0.1:7001,127.0.0.1:7002`

use std::error::Error;
use std::time::Duration;

use firebreak_client::{Client, Event, From, ListOptions, Message};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let nodes = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "127.0.0.1:7001".to_owned());
    // One node of each data center is enough: the client learns the others from them.
    let client = Client::builder()
        .endpoints(nodes.split(','))
        .deadline(Duration::from_secs(5))
        .build()?;
    let room = "tenants/demo/conversations/first";

    // Acknowledged means: synced to the disks of a majority, in different data centers. If a data
    // center is lost right now, this call takes a little longer; it does not fail.
    let said = client
        .append(room, Message::text("ann", "Hello, is anybody here?"))
        .await?;
    println!(
        "message {} is durable after {} ms",
        said.seq,
        said.latency.as_millis()
    );

    // The same id has one effect, however often it is sent, through whichever node.
    for _ in 0..2 {
        let answer = Message::text("ben", "I am!").id("ben-1");
        let said = client.append(room, answer).await?;
        println!(
            "message {}, appended before: {}",
            said.seq, said.deduplicated
        );
    }

    let page = client
        .list(
            room,
            &ListOptions {
                page_size: 5,
                ..ListOptions::default()
            },
        )
        .await?;
    for message in &page.messages {
        println!(
            "{:>4}  {}: {}",
            message.seq,
            message.sender,
            String::from_utf8_lossy(&message.body)
        );
    }

    println!("following from here; ctrl-c ends it");
    let mut tail = client.tail(room, From::New);
    while let Some(event) = tail.next().await {
        if let Event::Message(message) = event? {
            println!(
                "{:>4}  {}: {}",
                message.seq,
                message.sender,
                String::from_utf8_lossy(&message.body)
            );
        }
    }
    Ok(())
}
