//! Everything of one kind and every change, without end.
//!
//! Lists, then watches from the version of the list. A watch that the API server
//! ends, as it does every minute or two, goes on where it was. One that breaks
//! does so after a pause; when the version is too old by then, it lists again.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use futures::stream::{self, BoxStream, StreamExt as _};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

use super::api::Api;
use super::catalogue::{Catalogue, Unknown};
use super::events::{Event, Events};
use super::holders::Holders;
use super::object::Object;
use super::shared::Shared;
use crate::backend::problems::MAX_PROBLEMS;
use crate::backend::{Change, Revision, WatchError};
use crate::causes::Causes;
use crate::kubernetes::Failure;
use crate::kubernetes::reopen::Reopen;
use crate::time::Now;

/// Everything of a kind, then every change. Never ends, never fails: it tells a
/// [`Change::Reset`] again where it may have missed something.
pub(super) fn mirror<K: Object>(
    api: Api,
    shared: Shared,
) -> BoxStream<'static, Result<Change, WatchError>> {
    let mirror = Mirror {
        api,
        shared,
        state: State::Lost,
        holders: Holders::default(),
        reopen: Reopen::new(),
        causes: Causes::new(),
    };
    stream::unfold(mirror, |mut mirror| async move {
        let changes = mirror.next::<K>().await;
        Some((stream::iter(changes.into_iter().map(Ok)), mirror))
    })
    .flatten()
    .boxed()
}

struct Mirror {
    api: Api,
    shared: Shared,
    state: State,
    holders: Holders,
    reopen: Reopen,
    causes: Causes,
}

enum State {
    /// Everything must be listed.
    Lost,
    /// Everything up to a version is known.
    Knows(Known),
    /// Changes are told as they happen.
    Hears(Known, Events),
}

struct Known {
    catalogue: Arc<Mutex<Catalogue>>,
    revision: Revision,
}

impl Mirror {
    /// The next changes.
    async fn next<K: Object>(&mut self) -> Vec<Change> {
        loop {
            match std::mem::replace(&mut self.state, State::Lost) {
                State::Lost => match self.list::<K>().await {
                    Ok((reset, known)) => {
                        self.state = State::Knows(known);
                        return vec![reset];
                    }
                    Err(failure) => {
                        self.broke::<K>(&failure).await;
                    }
                },
                State::Knows(known) => match Events::open::<K>(&self.api, known.revision).await {
                    Ok(events) => {
                        self.reopen.opened(Instant::now());
                        self.state = State::Hears(known, events);
                    }
                    Err(failure) => self.goes_on::<K>(known, &failure).await,
                },
                State::Hears(mut known, mut events) => {
                    match events.next::<K>(&mut self.holders).await {
                        Ok(Some(event)) => {
                            self.reopen.told();
                            self.causes.mended();
                            self.shared.trouble(K::KIND, None);
                            if let Ok(changes) = self.apply::<K>(&mut known, event) {
                                self.state = State::Hears(known, events);
                                if !changes.is_empty() {
                                    return changes;
                                }
                            }
                        }
                        Ok(None) => {
                            self.state = State::Knows(known);
                            sleep(self.reopen.ended(Instant::now())).await;
                        }
                        Err(failure) => self.goes_on::<K>(known, &failure).await,
                    }
                }
            }
        }
    }

    async fn list<K: Object>(&mut self) -> Result<(Change, Known), Failure> {
        let mut catalogue = Catalogue::new(K::KIND);
        let mut all = Vec::new();
        let revision = self
            .api
            .list::<K>(|seen| all.extend(catalogue.listed(seen)))
            .await?;
        all.extend(catalogue.others());
        let catalogue = self.shared.replace(K::KIND, catalogue);
        tell_problems::<K>(&mut catalogue.lock());
        self.shared.trouble(K::KIND, None);
        let reset = Change::Reset(K::KIND, all, revision);
        Ok((
            reset,
            Known {
                catalogue,
                revision,
            },
        ))
    }

    fn apply<K: Object>(&self, known: &mut Known, event: Event) -> Result<Vec<Change>, Unknown> {
        let mut catalogue = known.catalogue.lock();
        let (revision, changes) = match event {
            Event::Bookmark(revision) => (revision, Vec::new()),
            Event::Changed(seen) => (seen.revision, catalogue.changed(seen)?),
            Event::Deleted(seen) => (seen.revision, catalogue.deleted(&seen)?),
        };
        known.revision = revision;
        tell_problems::<K>(&mut catalogue);
        Ok(changes)
    }

    /// A watch broke, or could not be opened: it goes on where it was, unless
    /// the version is what was refused.
    async fn goes_on<K: Object>(&mut self, known: Known, failure: &Failure) {
        if self.broke::<K>(failure).await {
            self.state = State::Knows(known);
        }
    }

    /// Waits after a failure. Returns whether it goes on where it was.
    async fn broke<K: Object>(&mut self, failure: &Failure) -> bool {
        let next = self.reopen.broke(failure, Instant::now());
        let failure = failure.to_string();
        if self.causes.is_news(&failure, Now::read().mono) {
            tracing::warn!(again_in = ?next.pause, "the watch of {}s broke: {failure}", K::WORD);
        }
        self.shared.trouble(K::KIND, Some(failure));
        sleep(next.pause).await;
        next.goes_on
    }
}

/// Each problem is told once, until it changes.
fn tell_problems<K: Object>(catalogue: &mut Catalogue) {
    let news = catalogue.problems().take_news();
    for problem in &news {
        tracing::warn!(
            "{} {} is not served: {}",
            K::WORD,
            problem.name,
            problem.text
        );
    }
    let more = catalogue.problems().take_more();
    if more > 0 {
        tracing::warn!(
            more,
            "further {}s are not served; only {MAX_PROBLEMS} are named",
            K::WORD
        );
    }
}
