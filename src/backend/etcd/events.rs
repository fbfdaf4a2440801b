//! What etcd says in answer to a watch of all keys of the registry.

use std::time::Duration;

use futures::stream;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use tonic::Streaming;

use super::client::{CALL_TIMEOUT, Client, Watched};
use super::failure::Failure;
use super::keys::Span;
use super::proto::watch_request::RequestUnion;
use super::proto::{Event, WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse};

/// etcd is asked for a sign of life when it has said nothing for this long,
const SILENT_FOR: Duration = Duration::from_secs(5);
/// and the watch hangs when there is none so much later.
const SIGN_WITHIN: Duration = Duration::from_secs(5);

/// A watch that etcd answers.
pub(super) struct Events {
    answers: Streaming<WatchResponse>,
    asks: mpsc::Sender<WatchRequest>,
    /// The member that answers.
    pub member: usize,
    id: i64,
    /// When something is to be said at last, and whether it was asked for.
    deadline: Instant,
    asked: bool,
    /// What was told of an answer that comes in pieces.
    pieces: Vec<Event>,
    /// The revision of the member when it began to answer.
    pub began: i64,
}

/// One thing that is told.
#[derive(Debug)]
pub(super) enum Told {
    /// What happened; all of it up to and with this revision.
    Changes(Vec<Event>, i64),
    /// Nothing happened up to this revision.
    Nothing(i64),
    /// etcd lives; of this watch it says nothing.
    Sign,
}

impl Events {
    /// Watches from the revision after `known` on.
    pub async fn open(client: &Client, span: &Span, known: i64) -> Result<Self, Failure> {
        match Self::open_once(client, span, known).await {
            // The token had expired, and is asked for anew.
            Err(Failure::Unauthenticated(_)) if client.is_user() => {
                Self::open_once(client, span, known).await
            }
            opened => opened,
        }
    }

    async fn open_once(client: &Client, span: &Span, known: i64) -> Result<Self, Failure> {
        let create = WatchCreateRequest {
            key: span.from.clone(),
            range_end: span.to.clone(),
            start_revision: known + 1,
            progress_notify: true,
            fragment: true,
        };
        let (asks, asked) = mpsc::channel(1);
        let create = ask(RequestUnion::CreateRequest(create));
        let asked = stream::unfold((Some(create), asked), |(first, mut asked)| async {
            let next = match first {
                Some(first) => first,
                None => asked.recv().await?,
            };
            Some((next, (None, asked)))
        });
        let Watched { answers, member } = client.watch(asked).await?;
        let mut events = Self {
            answers,
            asks,
            member,
            id: 0,
            deadline: Instant::now() + CALL_TIMEOUT,
            asked: true,
            pieces: Vec::new(),
            began: 0,
        };
        match events.created().await {
            Ok(()) => Ok(events),
            Err(failure) => {
                client.broke(member, &failure);
                Err(failure)
            }
        }
    }

    async fn created(&mut self) -> Result<(), Failure> {
        let answer = self.answer().await?;
        if let Some(failure) = refusal(&answer) {
            return Err(failure);
        }
        self.id = answer.watch_id;
        self.began = answer.header.map_or(0, |header| header.revision);
        self.heard();
        Ok(())
    }

    /// The next thing that is told.
    pub async fn next(&mut self) -> Result<Told, Failure> {
        loop {
            let answer = self.answer().await?;
            self.heard();
            if let Some(failure) = refusal(&answer) {
                return Err(failure);
            }
            // A sign of life that was asked for is of no watch. Some versions of
            // etcd give it before what has happened, so it proves no more.
            if answer.watch_id != self.id {
                return Ok(Told::Sign);
            }
            self.pieces.extend(answer.events);
            if answer.fragment {
                continue;
            }
            let events = std::mem::take(&mut self.pieces);
            let last = |event: &Event| event.kv.as_ref().map(|pair| pair.mod_revision);
            return Ok(match events.last().and_then(last) {
                Some(revision) => Told::Changes(events, revision),
                None => Told::Nothing(answer.header.map_or(0, |header| header.revision)),
            });
        }
    }

    fn heard(&mut self) {
        self.deadline = Instant::now() + SILENT_FOR;
        self.asked = false;
    }

    /// The next answer. A silent etcd is asked for a sign of life.
    async fn answer(&mut self) -> Result<WatchResponse, Failure> {
        loop {
            match timeout_at(self.deadline, self.answers.message()).await {
                Ok(Ok(Some(answer))) => return Ok(answer),
                Ok(Ok(None)) => return Err(Failure::Unreachable("the watch was ended".into())),
                Ok(Err(status)) => return Err(Failure::of(&status)),
                Err(_) if self.asked => return Err(Failure::late(SILENT_FOR + SIGN_WITHIN)),
                Err(_) => {
                    let progress = RequestUnion::ProgressRequest(WatchProgressRequest {});
                    // One that was not taken yet is a question too.
                    drop(self.asks.try_send(ask(progress)));
                    self.asked = true;
                    self.deadline = Instant::now() + SIGN_WITHIN;
                }
            }
        }
    }
}

fn ask(request: RequestUnion) -> WatchRequest {
    WatchRequest {
        request_union: Some(request),
    }
}

/// Why etcd ended the watch, if it did.
fn refusal(answer: &WatchResponse) -> Option<Failure> {
    answer.canceled.then(|| match answer.compact_revision {
        0 => Failure::of_reason(&answer.cancel_reason),
        _ => Failure::Compacted,
    })
}
