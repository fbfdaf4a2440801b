//! What the API server says in answer to a watch.

use std::time::Duration;

use futures::StreamExt as _;
use futures::io::AsyncBufReadExt as _;
use futures::stream::BoxStream;
use kube::api::WatchParams;
use kube::core::Status;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::{Instant, timeout, timeout_at};

use super::api::{Api, version_of};
use super::holders::Holders;
use super::object::{Object, Seen};
use crate::backend::Revision;
use crate::kubernetes::reopen::lasting;
use crate::kubernetes::{CALL_TIMEOUT, Failure};

/// One thing that is told.
#[derive(Debug)]
pub(super) enum Event {
    /// An object was made or changed.
    Changed(Seen),
    /// An object was deleted; this was its last state.
    Deleted(Seen),
    /// Nothing happened up to this version.
    Bookmark(Revision),
}

/// A watch of one kind that the API server answers.
pub(super) struct Events {
    lines: BoxStream<'static, std::io::Result<String>>,
    /// When it hangs.
    deadline: Instant,
    limit: Duration,
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(rename = "type")]
    what: What,
    #[serde(borrow)]
    object: &'a RawValue,
}

#[derive(Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum What {
    Added,
    Modified,
    Deleted,
    Bookmark,
    Error,
}

impl Events {
    /// Watches from a version on.
    pub async fn open<K: Object>(api: &Api, from: Revision) -> Result<Self, Failure> {
        let (seconds, limit) = lasting();
        let deadline = Instant::now() + limit;
        let params = WatchParams {
            label_selector: K::SELECTOR.map(Into::into),
            timeout: Some(seconds),
            bookmarks: true,
            ..WatchParams::default()
        };
        let request = api.request::<K>().watch(&params, &from.to_string());
        let request = request.map_err(|why| Failure::of(&kube::Error::BuildRequest(why)))?;
        let answer = timeout(CALL_TIMEOUT, api.client().request_stream(request)).await;
        let body = answer
            .map_err(|_| Failure::late(CALL_TIMEOUT))?
            .map_err(|why| Failure::of(&why))?;
        Ok(Self {
            lines: Box::pin(body).lines().boxed(),
            deadline,
            limit,
        })
    }

    /// The next event; none when the API server has ended the watch.
    pub async fn next<K: Object>(
        &mut self,
        holders: &mut Holders,
    ) -> Result<Option<Event>, Failure> {
        let next = timeout_at(self.deadline, self.lines.next()).await;
        match next.map_err(|_| Failure::late(self.limit))? {
            None => Ok(None),
            Some(Ok(line)) => read::<K>(&line, holders),
            Some(Err(why)) => Err(Failure::of(&kube::Error::ReadEvents(why))),
        }
    }
}

/// Reads a line of the answer. The last one may have been cut off.
fn read<K: Object>(line: &str, holders: &mut Holders) -> Result<Option<Event>, Failure> {
    let Line { what, object } = match serde_json::from_str(line) {
        Ok(line) => line,
        Err(why) if why.is_eof() => return Ok(None),
        Err(why) => return Err(unreadable(why)),
    };
    let text = object.get();
    let event = match what {
        What::Added | What::Modified => Seen::read::<K>(text, holders).map(Event::Changed),
        What::Deleted => Seen::read::<K>(text, holders).map(Event::Deleted),
        What::Bookmark => version_of(text).map(Event::Bookmark),
        What::Error => {
            let status: Status = serde_json::from_str(text).map_err(unreadable)?;
            return Err(Failure::of_status(&status));
        }
    };
    event.map(Some).map_err(again)
}

fn unreadable(why: serde_json::Error) -> Failure {
    again(Failure::unreadable(&why))
}

/// Reading on from the same version would meet the same line again.
fn again(failure: Failure) -> Failure {
    Failure::Refused(failure.to_string())
}
