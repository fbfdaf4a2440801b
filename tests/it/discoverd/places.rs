//! Where services are kept: every behaviour is tried on every store.

use std::sync::Arc;

use futures::future::BoxFuture;
use tempfile::TempDir;
use tokio::time::timeout;
use tunnel_registry::backend::Backend;
use tunnel_registry::backend::file::File;
use tunnel_registry::backend::memory::Memory;
use tunnel_registry::registry::vouch::Sharing;

use crate::process::folder;
use crate::testenv::PATIENCE;

/// Makes a test of a function `async fn $name(place: Place)` on every store.
macro_rules! on_every_store {
    ($($name:ident)+) => {
        $crate::discoverd::places::on_every_store!(@ memory; $($name)+);
        $crate::discoverd::places::on_every_store!(lasting: $($name)+);
    };
    // Those that outlast the process.
    (lasting: $($name:ident)+) => {
        $crate::discoverd::places::on_every_store!(@ file; $($name)+);
    };
    (@ $store:ident; $($name:ident)+) => {
        mod $store {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    super::$name($crate::discoverd::places::Place::$store().await).await;
                }
            )+
        }
    };
}
pub(crate) use on_every_store;

/// Where a store is, empty when it is made.
pub struct Place {
    open: Box<dyn Fn() -> BoxFuture<'static, Arc<dyn Backend>> + Send + Sync>,
    sharing: Option<Sharing>,
}

impl Place {
    /// A store in memory. It is forgotten with whoever opened it.
    pub async fn memory() -> Self {
        Self {
            open: Box::new(|| Box::pin(async { Arc::new(Memory::new()) as _ })),
            sharing: None,
        }
    }

    /// A file.
    pub async fn file() -> Self {
        let folder = Arc::new(folder());
        Self {
            open: Box::new(move || Box::pin(file(Arc::clone(&folder)))),
            sharing: None,
        }
    }

    /// Opens the store.
    pub async fn open(&self) -> Arc<dyn Backend> {
        (self.open)().await
    }

    /// How it is shared with other replicas, if it is.
    pub fn sharing(&self) -> Option<Sharing> {
        self.sharing
    }
}

async fn file(folder: Arc<TempDir>) -> Arc<dyn Backend> {
    let path = folder.path().join("registry.redb");
    // What closes the former one may take a moment.
    let opened = async {
        loop {
            match File::open(&path) {
                Ok(file) => return file,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    };
    Arc::new(timeout(PATIENCE, opened).await.unwrap())
}
