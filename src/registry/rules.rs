//! The promises to gost, each as a story, told over every store.

use std::sync::Arc;
use std::time::Duration;

use crate::backend::file::File;
use crate::backend::memory::Memory;
use crate::record::EndpointRecord;
use crate::record::Kind;
use crate::registry::core::Registered;
use crate::registry::testing::setup;
use crate::registry::world::{Gost, World, gost};
use crate::registry::{Limits, Refusal};
use crate::time::Now;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
/// gost's default renewal interval.
const TTL: Duration = Duration::from_secs(15);

/// Runs each of these stories over each store.
macro_rules! over_every_store {
    ($($story:ident),* $(,)?) => {
        mod memory {
            $(#[tokio::test]
            async fn $story() {
                super::$story(super::World::new(super::Arc::new(super::Memory::new())).await).await;
            })*
        }
        mod file {
            $(#[tokio::test]
            async fn $story() {
                let folder = tempfile::tempdir().unwrap();
                let store = super::File::open(folder.path().join("store")).unwrap();
                super::$story(super::World::new(super::Arc::new(store)).await).await;
            })*
        }
    };
}

mod brake;
mod calls;
mod liveness;
mod lives;
mod restoring;
mod sharing;

#[tokio::test]
async fn before_the_store_was_read_get_refuses() {
    let mut core = crate::registry::core::Core::new(setup(), Now::read());
    let a = gost(1, "a");
    let tunnel = a.key.tunnel.clone();
    assert_eq!(
        core.get(Now::read(), &a.caller, &tunnel).unwrap_err(),
        Refusal::NotReady
    );
}
