//! Everything under the prefix and every change, without end.
//!
//! Reads all keys at one revision, then watches from the next on. A watch that
//! breaks goes on where it was, at the next member if there is one; when etcd has
//! compacted what follows, everything is read again.

use std::time::Duration;

use futures::stream::{self, BoxStream, StreamExt as _};
use tokio::time::{Instant, sleep};

use super::client::Client;
use super::events::{Events, Told};
use super::failure::Failure;
use super::keys::{Keys, Span};
use super::proto::event::EventType;
use super::proto::{Event, KeyValue, RangeRequest};
use super::shared::Shared;
use super::value::{self, revision};
use crate::backend::follow::{LONGEST_WAIT, Pauses};
use crate::backend::problems::{Problem, Problems};
use crate::backend::{Change, Stored, WatchError};
use crate::causes::Causes;
use crate::map::Set;
use crate::record::{Key, Kind};
use crate::time::Now;

/// How many records are asked for at once: some 0.5 MiB.
const PAGE: i64 = 500;

/// Everything, then every change. Never ends, never fails: it tells a
/// [`Change::Reset`] again where it may have missed something.
pub(super) fn mirror(
    client: Client,
    keys: Keys,
    shared: Shared,
) -> BoxStream<'static, Result<Change, WatchError>> {
    let mirror = Mirror {
        client,
        keys,
        shared,
        state: State::Lost,
        opened: None,
        pauses: Pauses::new(),
        causes: Causes::new(),
    };
    stream::unfold(mirror, |mut mirror| async move {
        let changes = mirror.next().await;
        Some((stream::iter(changes.into_iter().map(Ok)), mirror))
    })
    .flatten()
    .boxed()
}

struct Mirror {
    client: Client,
    keys: Keys,
    shared: Shared,
    state: State,
    /// When the last watch began.
    opened: Option<Instant>,
    pauses: Pauses,
    causes: Causes,
}

enum State {
    /// Everything must be read.
    Lost,
    /// Everything up to a revision is known.
    Knows(Known),
    /// Changes are told as they happen.
    Hears(Known, Box<Events>),
}

#[derive(Default)]
struct Known {
    revision: i64,
    /// The keys that are there and not served.
    unserved: Set<Vec<u8>>,
}

impl Mirror {
    /// The next changes.
    async fn next(&mut self) -> Vec<Change> {
        loop {
            match std::mem::replace(&mut self.state, State::Lost) {
                State::Lost => match self.list().await {
                    Ok((resets, known)) => {
                        self.state = State::Knows(known);
                        return resets;
                    }
                    Err(failure) => self.broke(&failure).await,
                },
                State::Knows(known) => {
                    let span = self.keys.all();
                    match Events::open(&self.client, &span, known.revision).await {
                        Ok(events) => match self.has_gone_back(&known, &events).await {
                            Ok(false) => {
                                self.shared.trouble(None);
                                self.opened = Some(Instant::now());
                                self.state = State::Hears(known, Box::new(events));
                            }
                            Ok(true) => self.broke(&Failure::WentBack).await,
                            Err(failure) => self.goes_on(known, &failure).await,
                        },
                        Err(failure) => self.goes_on(known, &failure).await,
                    }
                }
                State::Hears(mut known, mut events) => match events.next().await {
                    Ok(told) => {
                        self.causes.mended();
                        self.shared.trouble(None);
                        let changes = self.apply(&mut known, told);
                        self.state = State::Hears(known, events);
                        if !changes.is_empty() {
                            return changes;
                        }
                    }
                    Err(failure) => {
                        self.client.broke(events.member, &failure);
                        self.goes_on(known, &failure).await;
                    }
                },
            }
        }
    }

    async fn list(&mut self) -> Result<(Vec<Change>, Known), Failure> {
        let mut all: [Vec<Stored>; Kind::ALL.len()] = Default::default();
        let mut known = Known::default();
        let mut problems = Problems::default();
        let at = read(&self.client, self.keys.all(), |pair| {
            match value::read(&self.keys, &pair) {
                Ok(stored) => all[stored.record.kind() as usize].push(stored),
                Err(why) => {
                    problems.note(problem(&self.keys, &pair.key, why));
                    known.unserved.insert(pair.key);
                }
            }
        })
        .await?;
        self.shared.listed(problems);
        self.shared.trouble(None);
        known.revision = at;
        let resets = Kind::ALL
            .into_iter()
            .map(|kind| {
                let all = std::mem::take(&mut all[kind as usize]);
                Change::Reset(kind, all, revision(at))
            })
            .collect();
        Ok((resets, known))
    }

    /// Whether etcd has forgotten what it once told: a watch from there on would
    /// wait until it has made as many revisions again. A member that lags behind
    /// the others has not forgotten, so all of them are asked.
    async fn has_gone_back(&self, known: &Known, events: &Events) -> Result<bool, Failure> {
        if events.began >= known.revision {
            return Ok(false);
        }
        let request = RangeRequest {
            key: self.keys.nothing(),
            keys_only: true,
            ..RangeRequest::default()
        };
        let now = self.client.range(request).await?.header;
        Ok(now.map_or(0, |header| header.revision) < known.revision)
    }

    fn apply(&self, known: &mut Known, told: Told) -> Vec<Change> {
        match told {
            Told::Sign => Vec::new(),
            Told::Nothing(revision) => {
                known.revision = known.revision.max(revision);
                Vec::new()
            }
            Told::Changes(events, revision) => {
                known.revision = revision;
                let changes = events.into_iter();
                let changes = changes
                    .filter_map(|event| self.change(known, event))
                    .collect();
                self.shared.tell();
                changes
            }
        }
    }

    /// What an event changes of what is served.
    fn change(&self, known: &mut Known, event: Event) -> Option<Change> {
        let is_delete = event.r#type() == EventType::Delete;
        let pair = event.kv?;
        let at = revision(pair.mod_revision);
        let gone = |key: Option<Key>| key.map(|key| Change::Delete(key, at));
        if is_delete {
            self.shared.served(&pair.key);
            return match known.unserved.remove(&pair.key) {
                true => None,
                false => gone(self.keys.read(&pair.key)),
            };
        }
        match value::read(&self.keys, &pair) {
            Ok(stored) => {
                self.shared.served(&pair.key);
                known.unserved.remove(&pair.key);
                Some(Change::Put(stored))
            }
            Err(why) => {
                self.shared.unserved(problem(&self.keys, &pair.key, why));
                let key = self.keys.read(&pair.key);
                let is_new = pair.create_revision == pair.mod_revision;
                // What was served before is so no more.
                let was_served = !is_new && !known.unserved.contains(&pair.key);
                known.unserved.insert(pair.key);
                gone(key.filter(|_| was_served))
            }
        }
    }

    /// A watch broke, or could not be opened: it goes on where it was, if etcd
    /// still has what follows.
    async fn goes_on(&mut self, known: Known, failure: &Failure) {
        self.broke(failure).await;
        if !matches!(failure, Failure::Compacted | Failure::Refused(_)) {
            self.state = State::Knows(known);
        }
    }

    /// Waits after a failure.
    async fn broke(&mut self, failure: &Failure) {
        let lived = self.opened.take().map(|opened| opened.elapsed());
        if lived.is_some_and(|lived| lived >= LONGEST_WAIT) {
            self.pauses.reset();
        }
        let pause = match failure {
            // Nobody is to blame.
            Failure::Compacted => Duration::ZERO,
            _ if failure.is_this_member() => self.pauses.next_unreached(),
            _ => self.pauses.next(),
        };
        let failure = failure.to_string();
        if self.causes.is_news(&failure, Now::read().mono) {
            tracing::warn!(again_in = ?pause, "the watch of etcd broke: {failure}");
        }
        self.shared.trouble(Some(failure));
        sleep(pause).await;
    }
}

/// A key that is not served.
fn problem(keys: &Keys, path: &[u8], text: String) -> Problem {
    Problem {
        kind: keys.kind(path),
        name: String::from_utf8_lossy(path).into_owned(),
        uid: None,
        text,
    }
}

/// All of a kind as it is stored now, and no watch needed.
pub(super) async fn list(client: &Client, keys: &Keys, kind: Kind) -> Result<Vec<Stored>, Failure> {
    let mut all = Vec::new();
    read(client, keys.of_kind(kind), |pair| {
        // The watch tells what cannot be read.
        all.extend(value::read(keys, &pair));
    })
    .await?;
    Ok(all)
}

/// Reads all keys of a span as they were at one revision, each as soon as it is
/// met; returns the revision.
async fn read(client: &Client, span: Span, mut met: impl FnMut(KeyValue)) -> Result<i64, Failure> {
    let mut request = RangeRequest {
        key: span.from,
        range_end: span.to,
        limit: PAGE,
        ..RangeRequest::default()
    };
    loop {
        let page = match client.range(request.clone()).await {
            // Somebody stores what is much longer than records are.
            Err(Failure::TooLong(_)) if request.limit > 1 => {
                request.limit /= 2;
                continue;
            }
            page => page?,
        };
        if request.revision == 0 {
            request.revision = page.header.map_or(0, |header| header.revision);
        }
        let last = page.kvs.last().map(|pair| pair.key.clone());
        page.kvs.into_iter().for_each(&mut met);
        match last.filter(|_| page.more) {
            None => return Ok(request.revision),
            Some(mut last) => {
                // The least key after it.
                last.push(0);
                request.key = last;
            }
        }
    }
}
