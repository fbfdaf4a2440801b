//! The objects, as the API server keeps them.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};
use tunnel_registry::resources::gateway::HttpRoute;

use super::super::product::Product;
use super::world::{World, is_so};
use crate::process::until;

/// The versions of all that was made, by kind and name.
async fn versions(world: &World) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let kinds = [
        world.made::<Service>().await,
        world.made::<EndpointSlice>().await,
        world.made::<HttpRoute>().await,
    ];
    for (kind, objects) in kinds.into_iter().enumerate() {
        for object in objects {
            let name = format!("{kind}/{}", object.metadata.name.unwrap());
            all.insert(name, object.metadata.resource_version.unwrap());
        }
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_becomes_objects_that_the_gateway_api_takes() {
    let Some(world) = World::start().await else {
        return;
    };
    let product = Product::new(&world.env);
    let controller = world.controller(&product, "--gateway edge/web/http").await;
    let session = world
        .session(
            "api",
            "api-service",
            json!({
                "routes": [{
                    "domains": ["api.example.com", "*.api.example.com"],
                    "path": "/v2", "backend": "http://10.0.0.5:9000/base",
                }],
                "headers": [{ "name": "X-API-Version", "value": "2.0" }],
                "options": { "timeout": "90s" },
            }),
        )
        .await;
    world.counts(1, 1, 1).await;
    let route = world.route_of("api").await.unwrap();
    let service = world.made::<Service>().await.remove(0);
    let slice = world.made::<EndpointSlice>().await.remove(0);
    let name = service.metadata.name.clone().unwrap();
    assert_eq!(
        route.data["spec"],
        json!({
            "parentRefs": [{
                "group": "gateway.networking.k8s.io", "kind": "Gateway",
                "namespace": "edge", "name": "web", "sectionName": "http",
            }],
            "hostnames": ["*.api.example.com", "api.example.com"],
            "rules": [{
                "matches": [{ "path": { "type": "PathPrefix", "value": "/v2" } }],
                "filters": [
                    { "type": "ResponseHeaderModifier", "responseHeaderModifier": {
                        "set": [{ "name": "X-API-Version", "value": "2.0" }] } },
                    { "type": "URLRewrite", "urlRewrite": { "path": {
                        "type": "ReplacePrefixMatch", "replacePrefixMatch": "/base/v2" } } },
                ],
                "backendRefs": [{ "group": "", "kind": "Service", "name": name, "port": 80, "weight": 1 }],
                "timeouts": { "request": "1m30s" },
            }],
        })
    );
    let spec = &service.data["spec"];
    assert_eq!(spec["clusterIP"], "None");
    assert_eq!(spec["selector"], Value::Null);
    assert_eq!(spec["ports"][0]["port"], 80);
    assert_eq!(slice.data["addressType"], "IPv4");
    assert_eq!(slice.data["endpoints"][0]["addresses"], json!(["10.0.0.5"]));
    assert_eq!(slice.data["endpoints"][0]["conditions"]["ready"], true);
    assert_eq!(slice.data["ports"][0]["port"], 9000);
    let labels = slice.metadata.labels.clone().unwrap();
    assert_eq!(labels["kubernetes.io/service-name"], name);
    for object in [&route, &service, &slice] {
        let owners = object.metadata.owner_references.clone().unwrap();
        assert_eq!(owners.len(), 1);
        assert_eq!(owners[0].kind, "ProxySession");
        assert_eq!(Some(&owners[0].uid), session.metadata.uid.as_ref());
        assert_eq!(owners[0].block_owner_deletion, None);
    }
    world.end("api").await;
    world.counts(0, 0, 0).await;
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_changed_is_written() {
    let Some(world) = World::start().await else {
        return;
    };
    let product = Product::new(&world.env);
    let controller = world.controller(&product, "--gateway web").await;
    world
        .serve("one", "api", "a.example.com", "http://10.0.0.1:9000")
        .await;
    world
        .serve("other", "web", "b.example.com", "http://10.0.0.9:9000")
        .await;
    world.counts(2, 2, 2).await;
    let before = versions(&world).await;
    // It joins: its slice and HTTPRoute are new, and the Service gets an owner.
    world
        .serve("two", "api", "a.example.com", "http://10.0.0.2:9001")
        .await;
    world.counts(2, 3, 3).await;
    until("the Service has both owners", async || {
        let services = world.made::<Service>().await;
        let owners =
            |it: &kube::core::DynamicObject| it.metadata.owner_references.clone().unwrap().len();
        services.iter().any(|it| owners(it) == 2).then_some(())
    })
    .await;
    let after = versions(&world).await;
    let changed: Vec<_> = before
        .iter()
        .filter(|(name, version)| after[*name] != **version)
        .collect();
    assert_eq!(changed.len(), 1, "{changed:?}");
    assert!(changed[0].0.starts_with("0/"), "{changed:?}");
    // What only its connection's keeper writes changes nothing.
    let annotations = json!({ "tunnelregistry.io/renew-time": "2026-07-01T12:00:00.000000Z" });
    let patch = Patch::Merge(json!({ "metadata": { "annotations": annotations } }));
    let params = PatchParams::default();
    world
        .sessions()
        .patch("one", &params, &patch)
        .await
        .unwrap();
    // It leaves; that is done after the renewal was met.
    world.end("two").await;
    world.counts(2, 2, 2).await;
    let last = versions(&world).await;
    let changed: Vec<_> = before
        .iter()
        .filter(|(name, version)| last[*name] != **version)
        .collect();
    assert_eq!(changed.len(), 1, "{changed:?}");
    // Nor does another controller write what is there.
    let setup = controller.stop().await;
    let controller = setup.start().await;
    until("it leads", async || {
        let leads = is_so(&controller, "tunnel_registry_controller_leader").await;
        leads.then_some(())
    })
    .await;
    world
        .serve("three", "new", "c.example.com", "http://10.0.0.3:9000")
        .await;
    world.counts(3, 3, 3).await;
    let now = versions(&world).await;
    assert!(
        last.iter().all(|(name, version)| now[name] == *version),
        "{last:?} {now:?}"
    );
    assert_eq!(
        controller
            .metric("tunnel_registry_gateway_objects_applied_total")
            .await,
        3
    );
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_changed_by_hand_is_mended() {
    let Some(world) = World::start().await else {
        return;
    };
    let product = Product::new(&world.env);
    let controller = world.controller(&product, "--gateway web").await;
    world
        .serve("one", "api", "a.example.com", "http://10.0.0.1:9000")
        .await;
    world.counts(1, 1, 1).await;
    let route = world.route_of("one").await.unwrap();
    let name = route.metadata.name.clone().unwrap();
    let routes: Api<HttpRoute> = world.env.api();
    let params = PatchParams::default();
    for change in [
        json!({ "spec": { "hostnames": ["evil.example.com"] } }),
        json!({ "spec": { "hostnames": ["a.example.com", "more.example.com"] } }),
        json!({ "spec": { "rules": [] } }),
        json!({ "metadata": { "ownerReferences": null } }),
        json!({ "metadata": { "labels": { "tunnelregistry.io/made-by": null } } }),
    ] {
        routes
            .patch(&name, &params, &Patch::Merge(&change))
            .await
            .unwrap();
        until(&format!("{change} is mended"), async || {
            let now = world.route_of("one").await.ok_or("it is gone")?;
            match now.data["spec"] == route.data["spec"] {
                true => Ok(()),
                false => Err(now.data["spec"].to_string()),
            }
        })
        .await;
    }
    let slice = world.made::<EndpointSlice>().await.remove(0);
    let slice = slice.metadata.name.unwrap();
    let slices: Api<EndpointSlice> = world.env.api();
    slices
        .delete(&slice, &DeleteParams::default())
        .await
        .unwrap();
    let services: Api<Service> = world.env.api();
    let service = world
        .made::<Service>()
        .await
        .remove(0)
        .metadata
        .name
        .unwrap();
    let ports = json!([{ "name": "http", "port": 80, "appProtocol": "https" }]);
    let ports = Patch::Merge(json!({ "spec": { "ports": ports } }));
    services.patch(&service, &params, &ports).await.unwrap();
    until("the Service is mended", async || {
        let service = services.get(&service).await.unwrap();
        let ports = service.spec.unwrap().ports.unwrap();
        (ports[0].app_protocol.as_deref() == Some("http")).then_some(())
    })
    .await;
    world.counts(1, 1, 1).await;
    // What others put beside ours stays.
    let label = Patch::Merge(json!({ "metadata": { "labels": { "team": "x" } } }));
    services.patch(&service, &params, &label).await.unwrap();
    world
        .serve("two", "api", "a.example.com", "http://10.0.0.2:9000")
        .await;
    world.counts(1, 2, 2).await;
    let labels = services
        .get(&service)
        .await
        .unwrap()
        .metadata
        .labels
        .unwrap();
    assert_eq!(labels["team"], "x");
    controller.stop().await;
}
