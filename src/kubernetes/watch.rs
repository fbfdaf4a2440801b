//! Objects of any kind and every change of them, with the signs of life between.
//!
//! Unlike the store's own mirror this keeps nothing: it tells each object as it
//! is met, and when everything was told. Bookmarks are told too: while nothing
//! changes they are all that shows that the watch is alive.

use std::fmt::Debug;
use std::time::Duration;

use futures::stream::{self, BoxStream, Stream, StreamExt as _};
use kube::Resource;
use kube::api::{Api, ListParams, WatchParams};
use kube::core::{Status, WatchEvent};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::kubernetes::reopen::{PAGE, PAGE_TIMEOUT, Reopen, lasting};
use crate::kubernetes::{CALL_TIMEOUT, Failure};

/// What is told.
#[derive(Debug)]
pub enum Told<K> {
    /// Everything is told anew from here on.
    Begin,
    /// An object as it is.
    Put(K),
    /// Everything was told: what was not is gone.
    Listed,
    /// An object is gone; this was its last state.
    Gone(K),
    /// Nothing happened.
    Sign,
}

/// The watch broke, or could not be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{failure}")]
pub struct Broken {
    /// Why.
    #[source]
    pub failure: Failure,
    /// Whether this account may not watch these objects.
    pub is_forbidden: bool,
    /// Whether the API server does not know objects of this kind.
    pub is_unknown: bool,
    /// How long the stream waits before it goes on.
    pub again_in: Duration,
}

impl Broken {
    fn late(limit: Duration) -> Self {
        Self {
            failure: Failure::late(limit),
            is_forbidden: false,
            is_unknown: false,
            again_in: Duration::ZERO,
        }
    }

    fn of(error: &kube::Error) -> Self {
        let failure = match error {
            // Reading on from the same version would meet the same line again.
            kube::Error::SerdeError(_) => Failure::Refused(Failure::of(error).to_string()),
            error => Failure::of(error),
        };
        Self {
            failure,
            is_forbidden: matches!(error, kube::Error::Api(status) if status.code == 403),
            is_unknown: matches!(error, kube::Error::Api(status) if is_unknown(status)),
            again_in: Duration::ZERO,
        }
    }
}

/// Whether this says that there is no such kind, rather than no such object.
#[must_use]
pub fn is_unknown(status: &Status) -> bool {
    let name = status.details.as_ref().map(|details| &*details.name);
    status.code == 404 && name.is_none_or(str::is_empty)
}

/// Every object that `api` has and every change, without end. After an error it
/// waits, ever longer, and continues where it was.
pub fn watch<K>(api: Api<K>) -> impl Stream<Item = Result<Told<K>, Broken>> + Send + Unpin
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    watch_labelled(api, None)
}

/// The same, of the objects with these labels only.
pub fn watch_labelled<K>(
    api: Api<K>,
    labels: Option<String>,
) -> impl Stream<Item = Result<Told<K>, Broken>> + Send + Unpin
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let watch = Watch {
        api,
        labels,
        state: State::List(None),
        reopen: Reopen::new(),
        pause: Duration::ZERO,
    };
    stream::unfold(watch, |mut watch| async move {
        let told = match watch.next().await {
            Ok(told) => told.into_iter().map(Ok).collect(),
            Err(broken) => vec![Err(broken)],
        };
        Some((stream::iter(told), watch))
    })
    .flatten()
    .boxed()
}

struct Watch<K> {
    api: Api<K>,
    labels: Option<String>,
    state: State<K>,
    reopen: Reopen,
    /// To be waited out before anything else.
    pause: Duration,
}

enum State<K> {
    /// The page after this one is to be listed.
    List(Option<String>),
    /// Everything up to this version is told.
    Open(String),
    /// Changes are told as they happen; they hang after the deadline.
    Hear(
        String,
        BoxStream<'static, kube::Result<WatchEvent<K>>>,
        Deadline,
    ),
}

/// When a watch hangs: so long after it was opened.
struct Deadline {
    at: Instant,
    limit: Duration,
}

impl<K: Resource + Clone + Debug + DeserializeOwned + Send + 'static> Watch<K> {
    async fn next(&mut self) -> Result<Vec<Told<K>>, Broken> {
        sleep(std::mem::take(&mut self.pause)).await;
        match std::mem::replace(&mut self.state, State::List(None)) {
            State::List(more) => self
                .list(more)
                .await
                .map_err(|broken| self.broke(None, broken)),
            State::Open(version) => match self.open(&version).await {
                Ok((events, deadline)) => {
                    self.reopen.opened(Instant::now());
                    self.state = State::Hear(version, events, deadline);
                    Ok(vec![Told::Sign])
                }
                Err(broken) => Err(self.broke(Some(version), broken)),
            },
            State::Hear(version, mut events, deadline) => {
                let event = match timeout_at(deadline.at, events.next()).await {
                    Err(_) => Err(Broken::late(deadline.limit)),
                    Ok(None) => {
                        self.state = State::Open(version);
                        self.pause = self.reopen.ended(Instant::now());
                        return Ok(Vec::new());
                    }
                    Ok(Some(Err(error))) => Err(Broken::of(&error)),
                    Ok(Some(Ok(WatchEvent::Error(status)))) => {
                        Err(Broken::of(&kube::Error::Api(status)))
                    }
                    Ok(Some(Ok(event))) => Ok(event),
                };
                match event {
                    Ok(event) => {
                        self.reopen.told();
                        let (told, version) = tell(event, version);
                        self.state = State::Hear(version, events, deadline);
                        Ok(vec![told])
                    }
                    Err(broken) => Err(self.broke(Some(version), broken)),
                }
            }
        }
    }

    async fn list(&mut self, more: Option<String>) -> Result<Vec<Told<K>>, Broken> {
        let first = more.is_none();
        let mut params = ListParams::default().limit(PAGE);
        params.continue_token = more;
        params.label_selector.clone_from(&self.labels);
        let page = timeout(PAGE_TIMEOUT, self.api.list(&params)).await;
        let page = page
            .map_err(|_| Broken::late(PAGE_TIMEOUT))?
            .map_err(|error| Broken::of(&error))?;
        let begin = first.then_some(Told::Begin);
        let objects = page.items.into_iter().map(Told::Put);
        let more = page.metadata.continue_.filter(|more| !more.is_empty());
        let listed = more.is_none().then_some(Told::Listed);
        self.state = match more {
            Some(more) => State::List(Some(more)),
            None => State::Open(page.metadata.resource_version.unwrap_or_default()),
        };
        Ok(begin.into_iter().chain(objects).chain(listed).collect())
    }

    async fn open(
        &mut self,
        version: &str,
    ) -> Result<(BoxStream<'static, kube::Result<WatchEvent<K>>>, Deadline), Broken> {
        let (seconds, limit) = lasting();
        let at = Instant::now() + limit;
        let params = WatchParams {
            timeout: Some(seconds),
            bookmarks: true,
            label_selector: self.labels.clone(),
            ..WatchParams::default()
        };
        let events = timeout(CALL_TIMEOUT, self.api.watch(&params, version)).await;
        let events = events
            .map_err(|_| Broken::late(CALL_TIMEOUT))?
            .map_err(|error| Broken::of(&error))?;
        Ok((events.boxed(), Deadline { at, limit }))
    }

    /// A list or a watch broke, or could not be opened. A watch goes on where it
    /// was, unless the version is what was refused.
    fn broke(&mut self, version: Option<String>, broken: Broken) -> Broken {
        let next = self.reopen.broke(&broken.failure, Instant::now());
        if let Some(version) = version.filter(|_| next.goes_on) {
            self.state = State::Open(version);
        }
        self.pause = next.pause;
        Broken {
            again_in: next.pause,
            ..broken
        }
    }
}

/// What an event tells, and the version to go on from.
fn tell<K: Resource>(event: WatchEvent<K>, version: String) -> (Told<K>, String) {
    let version_of = |object: &K| object.meta().resource_version.clone();
    match event {
        WatchEvent::Added(object) | WatchEvent::Modified(object) => {
            let version = version_of(&object).unwrap_or(version);
            (Told::Put(object), version)
        }
        WatchEvent::Deleted(object) => {
            let version = version_of(&object).unwrap_or(version);
            (Told::Gone(object), version)
        }
        WatchEvent::Bookmark(bookmark) => (Told::Sign, bookmark.metadata.resource_version),
        WatchEvent::Error(_) => (Told::Sign, version),
    }
}

#[cfg(test)]
mod tests;
