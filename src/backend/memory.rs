//! The store that lasts as long as the process.

#[cfg(test)]
pub(crate) mod suite;
mod view;

use std::fmt;
use std::sync::Arc;

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use parking_lot::Mutex;

use crate::backend::{Backend, Change, Revision, WatchError, Write, WriteError};

#[cfg(test)]
pub(crate) use view::WATCH_BOUND;
pub(crate) use view::{Edit, View, decide};

/// Keeps records in memory only. A write is made when its future is first
/// polled, and never waits.
#[derive(Clone, Default)]
pub struct Memory {
    view: Arc<Mutex<View>>,
}

impl Memory {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Memory")
    }
}

impl Backend for Memory {
    fn write(&self, write: Write) -> BoxFuture<'static, Result<Revision, WriteError>> {
        let view = self.view.clone();
        Box::pin(async move {
            let mut view = view.lock();
            let next = Revision(view.revision().0 + 1);
            if let Some(edit) = decide(view.get(&write.key()), write, next)? {
                view.apply(edit);
            }
            Ok(view.revision())
        })
    }

    fn is_immediate(&self) -> bool {
        true
    }

    fn watch(&self) -> BoxStream<'static, Result<Change, WatchError>> {
        self.view.lock().watch()
    }

    fn ping(&self) -> BoxFuture<'static, Result<(), WriteError>> {
        Box::pin(async { Ok(()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::contract;

    suite::suite!((Arc::new(Memory::new()), ()));

    #[test]
    fn a_write_never_waits() {
        use futures::FutureExt;
        let record = contract::record("t", "c", 1);
        let written = Memory::new().write(Write::Create(record)).now_or_never();
        assert_eq!(written, Some(Ok(Revision(1))));
    }
}
