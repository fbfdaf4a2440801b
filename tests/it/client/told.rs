//! What a watch tells, with an end to the waiting.

use futures::{Stream, StreamExt as _};
use tokio::time::timeout;
use tunnel_registry::client::{Error, Event, Watch};

use crate::process::PATIENCE;

/// The next of a stream.
pub async fn next<T>(stream: &mut (impl Stream<Item = Result<T, Error>> + Unpin)) -> T {
    let next = timeout(PATIENCE, stream.next()).await;
    next.expect("nothing was told")
        .expect("the stream has ended")
        .unwrap()
}

/// An event in short: its kind, and what it is about.
pub fn short(event: &Event) -> String {
    let kind = event.kind();
    match event {
        Event::Up(instance) | Event::Update(instance) | Event::Down(instance) => {
            let k = instance.meta.get("k").map_or("", String::as_str);
            format!("{kind} {} {k}", instance.addr)
                .trim_end()
                .to_owned()
        }
        Event::Leader(Some(leader)) => format!("{kind} {}", leader.addr),
        Event::ServiceMeta(Some(meta)) => format!("{kind} {}", meta.data),
        _ => kind.to_owned(),
    }
}

/// The next events are these.
pub async fn are(watch: &mut Watch, expected: &[&str]) {
    for expected in expected {
        let event = next(watch).await;
        assert_eq!(short(&event), *expected, "{event:?}");
    }
}
