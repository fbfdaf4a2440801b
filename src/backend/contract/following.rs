//! A watch that is followed, and checked on the way.

use std::collections::HashMap;
use std::time::Duration;

use futures::stream::{BoxStream, StreamExt as _};
use tunnel_registry::backend::{Backend, Change, Revision, Stored, WatchError};
use tunnel_registry::record::{Key, Kind};

/// A watch.
pub(crate) type Watch = BoxStream<'static, Result<Change, WatchError>>;

/// The next item of a watch. Waits for a store that is slow, not for one that
/// never tells.
pub(crate) async fn next(watch: &mut Watch) -> Option<Result<Change, WatchError>> {
    let patience = Duration::from_secs(60);
    tokio::time::timeout(patience, watch.next()).await.unwrap()
}

/// Everything that is stored now.
pub(crate) async fn everything(store: &dyn Backend) -> HashMap<Key, Stored> {
    Following::begin(store, store.watch()).await.all
}

/// A watch that is followed, and checked on the way.
pub(crate) struct Following {
    watch: Watch,
    /// What is stored, as far as was told.
    pub all: HashMap<Key, Stored>,
    /// Up to which revision each kind was told, from its reset on.
    told: HashMap<Kind, Revision>,
}

impl Following {
    /// Follows a watch until it has told everything of each kind.
    pub async fn begin(store: &(impl Backend + ?Sized), watch: Watch) -> Self {
        let mut following = Self {
            watch,
            all: HashMap::new(),
            told: HashMap::new(),
        };
        let kept = Kind::ALL.into_iter().filter(|kind| store.keeps(*kind));
        let kept = kept.count();
        while following.told.len() < kept {
            following.change().await;
        }
        following
    }

    /// Up to which revision a kind was told.
    pub fn told(&self, kind: Kind) -> Revision {
        self.told[&kind]
    }

    /// The next change.
    pub async fn change(&mut self) -> Change {
        let change = match next(&mut self.watch).await {
            Some(Ok(change)) => change,
            other => panic!("{other:?} after {:?}", self.told),
        };
        match &change {
            Change::Reset(kind, all, revision) => self.reset(*kind, all, *revision),
            Change::Put(stored) => {
                self.rise(stored.record.kind(), stored.revision);
                self.all.insert(stored.record.key(), stored.clone());
            }
            Change::Delete(key, revision) => {
                self.rise(key.kind(), *revision);
                assert!(self.all.remove(key).is_some(), "{key} was removed unknown");
            }
        }
        change
    }

    fn reset(&mut self, kind: Kind, all: &[Stored], revision: Revision) {
        self.all.retain(|key, _| key.kind() != kind);
        for stored in all {
            assert_eq!(stored.record.kind(), kind);
            assert!(stored.revision <= revision, "{stored:?} at {revision}");
            let before = self.all.insert(stored.record.key(), stored.clone());
            assert_eq!(before, None, "a record was told twice");
        }
        self.told.insert(kind, revision);
    }

    fn rise(&mut self, kind: Kind, revision: Revision) {
        let told = self.told.insert(kind, revision);
        let told = told.expect("a watch began without a reset");
        assert!(revision > told, "{revision} was told after {told}");
    }
}
