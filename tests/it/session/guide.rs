//! The guide for backend teams says what is.

use std::path::Path;

use crate::session::env::Env;

fn guide() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/proxy-sessions.md");
    std::fs::read_to_string(path).unwrap()
}

#[tokio::test]
async fn its_examples_are_answered_as_it_says() {
    let guide = guide();
    let mut answered = 0;
    for env in Env::each(|_| {}).await {
        let mut client = env.client().await;
        let mut written = None;
        let mut sid = String::new();
        let mut reply = None;
        for line in guide.lines() {
            if let Some(command) = line.strip_prefix("    > ") {
                let command = match &written {
                    Some(written) => command.replace(written, &sid),
                    None => command.to_owned(),
                };
                reply = Some(client.ask(&command).await);
            } else if let Some(expected) = line.strip_prefix("    < ") {
                let reply = reply.take().unwrap();
                match (expected.strip_prefix("ACK|"), reply.strip_prefix("ACK|")) {
                    (Some(expected), Some(id)) => {
                        assert_eq!(expected.len(), id.len());
                        written = Some(expected.to_owned());
                        id.clone_into(&mut sid);
                    }
                    _ => assert_eq!(reply, expected),
                }
                if expected == "GOODBYE" {
                    client = env.client().await;
                }
                answered += 1;
            }
        }
    }
    assert!(answered >= 24, "{answered}");
}

#[tokio::test]
async fn its_policy_is_one() {
    let guide = guide();
    let (_, from) = guide.split_once("    rules:\n").unwrap();
    let rules = from.lines().take_while(|line| line.starts_with("    "));
    let text: String = rules.map(|line| format!("{}\n", &line[4..])).collect();
    tunnel_registry::session::policy::Policy::parse(&format!("rules:\n{text}"), true).unwrap();
}

#[tokio::test]
async fn it_has_every_option_that_is_told_of_one_that_there_is_not() {
    let guide = guide();
    let env = Env::one(|_| {}).await;
    let (mut client, sid) = env.registered().await;
    let reply = client.ask(&format!("OPTIONS|{sid}|x|y")).await;
    let options = reply
        .strip_prefix("ERROR|Invalid option: there are ")
        .unwrap();
    for option in options.split(", ") {
        assert!(guide.contains(&format!("`{option}`")), "{option}");
    }
    assert!(options.contains("weight"));
}
