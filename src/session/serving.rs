//! What is served, as those see it who carry or answer requests.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::session::engine::view::Offer;
use crate::session::place::Place;
use crate::session::sessions::Sessions;

/// Who knows what is served.
pub trait Serving: fmt::Debug + Send + Sync {
    /// Who serves which place, as [`Engine::served`](crate::session::Engine::served)
    /// tells; none before the store was read, when nobody knows yet.
    fn served(&self) -> Option<BTreeMap<Place, Vec<Offer>>>;

    /// Changes whenever the other may.
    fn version(&self) -> u64;
}

impl Serving for Sessions {
    fn served(&self) -> Option<BTreeMap<Place, Vec<Offer>>> {
        // What was read once stays known.
        self.is_ready().then(|| Sessions::served(self).1)
    }

    fn version(&self) -> u64 {
        Sessions::version(self)
    }
}

/// Something that is made from what is served, and made again once that has
/// changed.
pub struct Derived<T> {
    serving: Arc<dyn Serving>,
    make: Box<Make<T>>,
    fresh: Duration,
    made: Mutex<Option<Made<T>>>,
}

type Make<T> = dyn Fn(&BTreeMap<Place, Vec<Offer>>) -> T + Send + Sync;

struct Made<T> {
    version: u64,
    at: Instant,
    value: Arc<T>,
}

impl<T> fmt::Debug for Derived<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Derived").finish_non_exhaustive()
    }
}

impl<T> Derived<T> {
    /// What `make` makes. It may be out of date by `fresh`, so that it is not
    /// made with every change.
    pub fn new(
        serving: Arc<dyn Serving>,
        fresh: Duration,
        make: impl Fn(&BTreeMap<Place, Vec<Offer>>) -> T + Send + Sync + 'static,
    ) -> Self {
        Self {
            serving,
            make: Box::new(make),
            fresh,
            made: Mutex::new(None),
        }
    }

    /// What it is `now`; none before the store was read. One caller makes it
    /// while others wait.
    pub fn get(&self, now: Instant) -> Option<Arc<T>> {
        let mut made = self.made.lock();
        // Before what it stands for: a change meanwhile is seen the next time.
        let version = self.serving.version();
        if let Some(known) = made.as_ref()
            && (known.version == version || now.duration_since(known.at) < self.fresh)
        {
            return Some(Arc::clone(&known.value));
        }
        let value = Arc::new((self.make)(&self.serving.served()?));
        *made = Some(Made {
            version,
            at: now,
            value: Arc::clone(&value),
        });
        Some(value)
    }
}

#[cfg(test)]
pub(crate) mod testing;

#[cfg(test)]
mod tests {
    use super::testing::{Fixed, session};
    use super::*;

    const FRESH: Duration = Duration::from_secs(1);

    fn derived(fixed: &Arc<Fixed>) -> Derived<usize> {
        Derived::new(Arc::clone(fixed) as _, FRESH, BTreeMap::len)
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_made_once_for_each_change_and_no_sooner_than_it_may_be_old() {
        let fixed = Arc::new(Fixed::default());
        let derived = derived(&fixed);
        let now = Instant::now();
        assert_eq!(derived.get(now), None);
        assert_eq!(fixed.asked(), 1);

        fixed.set(vec![]);
        assert_eq!(derived.get(now).as_deref(), Some(&0));
        let later = now + 10 * FRESH;
        assert_eq!(derived.get(later).as_deref(), Some(&0));
        assert_eq!(fixed.asked(), 2);

        let route = session("api", 1, &["ROUTE|s|a.com|/|http://h"]);
        fixed.set(vec![route]);
        assert_eq!(derived.get(now + FRESH / 2).as_deref(), Some(&0));
        assert_eq!(derived.get(now + FRESH).as_deref(), Some(&1));
        assert_eq!(fixed.asked(), 3);
    }
}
