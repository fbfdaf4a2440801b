//! Where services are kept: every behaviour is tried on every store.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use tempfile::TempDir;
use tokio::time::timeout;
use tunnel_registry::backend::Backend;
use tunnel_registry::backend::etcd::Etcd;
use tunnel_registry::backend::file::File;
use tunnel_registry::backend::memory::Memory;
use tunnel_registry::registry::vouch::Sharing;

use crate::etcd::server as etcd;
use crate::kube::env::Env as Namespace;
use crate::kube::store::store;
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
        $crate::discoverd::places::on_every_store!(@ kubernetes; $($name)+);
        $crate::discoverd::places::on_every_store!(@ etcd; $($name)+);
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

/// How replicas share a store.
const SHARING: Sharing = Sharing {
    validity: Duration::from_secs(40),
};

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

    /// A namespace of a real API server.
    pub async fn kubernetes() -> Self {
        let namespace = Arc::new(Namespace::start().await);
        let open = move || {
            let namespace = Arc::clone(&namespace);
            let opened = async move { Arc::new(store(&namespace).await) as Arc<dyn Backend> };
            Box::pin(opened) as BoxFuture<'static, _>
        };
        Self {
            open: Box::new(open),
            sharing: Some(SHARING),
        }
    }

    /// A prefix of a real etcd.
    pub async fn etcd() -> Self {
        let settings = etcd::common().await.settings();
        let open = move || {
            let settings = settings.clone();
            let opened =
                async { Arc::new(Etcd::open(settings).await.unwrap()) as Arc<dyn Backend> };
            Box::pin(opened) as BoxFuture<'static, _>
        };
        Self {
            open: Box::new(open),
            sharing: Some(SHARING),
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
