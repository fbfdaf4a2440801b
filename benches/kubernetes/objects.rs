//! Endpoints as objects, made without a registry.

use std::cell::RefCell;
use std::time::Duration;

use futures::stream::{FuturesUnordered, TryStreamExt as _};
use kube::api::{Api, PostParams};
use tunnel_registry::lease::Lease;
use tunnel_registry::record::{Endpoint, EndpointKey, EndpointRecord};
use tunnel_registry::resources::TunnelEndpoint;
use tunnel_registry::time::Now;

use crate::common::Result;
use crate::common::wire;

/// The record that a replica makes of a registration.
pub fn record(endpoint: &wire::Endpoint, holder: &str, lease: Duration) -> Result<EndpointRecord> {
    Ok(EndpointRecord {
        endpoint: Endpoint {
            key: EndpointKey {
                tunnel: endpoint.name.parse()?,
                node: endpoint.node.parse()?,
                connector: endpoint.id.parse()?,
            },
            network: endpoint.network.parse()?,
            address: endpoint.address.parse()?,
            origin: Some([127, 0, 0, 1].into()),
            pod: None,
            attributes: [].into(),
        },
        lease: Lease::held(holder.into(), Now::read().wall, lease),
        is_static: false,
    })
}

/// Its object.
pub fn object(endpoint: &wire::Endpoint, holder: &str, lease: Duration) -> Result<TunnelEndpoint> {
    Ok(TunnelEndpoint::from_record(&record(
        endpoint, holder, lease,
    )?)?)
}

/// Creates each object, so many at a time.
pub async fn create_each(
    api: &Api<TunnelEndpoint>,
    at_once: usize,
    objects: impl IntoIterator<Item = Result<TunnelEndpoint>>,
) -> Result<()> {
    let objects = RefCell::new(objects.into_iter());
    let params = PostParams::default();
    let workers: FuturesUnordered<_> = (0..at_once)
        .map(|_| async {
            loop {
                let next = objects.borrow_mut().next();
                match next {
                    Some(object) => drop(api.create(&params, &object?).await?),
                    None => return Result::Ok(()),
                }
            }
        })
        .collect();
    workers.try_collect().await
}
