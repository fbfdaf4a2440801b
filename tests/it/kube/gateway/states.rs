//! What statuses say, and what goes on while sessions come and go.

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;
use tunnel_registry::resources::gateway::HttpRoute;

use super::super::product::Product;
use super::world::{World, is_so};
use crate::process::until;

const REFUSED: &str = "tunnel_registry_gateway_sessions_refused";

/// What a Gateway's controller would say of a session's HTTPRoute.
async fn answer(world: &World, session: &str, accepted: &str, resolved: &str, reason: &str) {
    let route = world.route_of(session).await.unwrap();
    let condition = |type_: &str, status: &str| {
        json!({
            "type": type_, "status": status, "message": "",
            "reason": if status == "True" { type_ } else { reason },
            "observedGeneration": route.metadata.generation,
            "lastTransitionTime": "2026-07-01T12:00:00Z",
        })
    };
    let parents = json!([{
        "controllerName": "example.com/gateway",
        "parentRef": route.data["spec"]["parentRefs"][0],
        "conditions": [condition("Accepted", accepted), condition("ResolvedRefs", resolved)],
    }]);
    let patch = Patch::Merge(json!({ "status": { "parents": parents } }));
    let routes: Api<HttpRoute> = world.env.api();
    let name = route.metadata.name.unwrap();
    let params = PatchParams::default();
    // The typed answer has what is ours only.
    routes.patch_status(&name, &params, &patch).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn statuses_tell_what_gateways_say() {
    let Some(world) = World::start().await else {
        return;
    };
    let product = Product::new(&world.env);
    let controller = world.controller(&product, "--gateway web").await;
    world
        .serve("one", "api", "a.example.com", "http://10.0.0.1:9000")
        .await;
    world.says("one", "RoutesAccepted", "Unknown/Pending").await;
    world.says("one", "Ready", "False/Pending").await;
    answer(&world, "one", "True", "True", "").await;
    world.says("one", "RoutesAccepted", "True/Accepted").await;
    world.says("one", "Ready", "True/Static").await;
    answer(&world, "one", "False", "True", "NotAllowedByListeners").await;
    world
        .says("one", "RoutesAccepted", "False/NotAllowedByListeners")
        .await;
    world
        .says("one", "Ready", "False/NotAllowedByListeners")
        .await;
    until("it is counted", async || {
        is_so(&controller, REFUSED).await.then_some(())
    })
    .await;
    answer(&world, "one", "True", "False", "BackendNotFound").await;
    world
        .says("one", "RoutesAccepted", "False/BackendNotFound")
        .await;
    answer(&world, "one", "True", "True", "").await;
    world.says("one", "Ready", "True/Static").await;
    until("it is counted no more", async || {
        (!is_so(&controller, REFUSED).await).then_some(())
    })
    .await;
    // Nothing changes, nothing is written: the version stays while others change.
    let version = async || {
        let session = world.sessions().get("one").await.unwrap();
        session.metadata.resource_version
    };
    let before = version().await;
    let options = json!({ "compression": true, "http3": true, "healthCheckPath": "/ok" });
    let routes =
        json!([{ "domains": ["b.example.com"], "path": "/", "backend": "http://nowhere.invalid" }]);
    let spec = json!({ "routes": routes, "options": options });
    world.session("two", "web", spec).await;
    let text = world
        .says("two", "UnsupportedOptions", "True/NotInGatewayApi")
        .await;
    assert!(text.contains("compression, health_check, http3"), "{text}");
    let text = world.says("two", "Ready", "False/BackendUnresolved").await;
    assert!(text.contains("nowhere.invalid"), "{text}");
    world
        .serve("three", "other", "a.example.com", "http://10.0.0.3")
        .await;
    let text = world.says("three", "Ready", "False/RouteConflict").await;
    assert!(text.contains("a.example.com/ is served by api"), "{text}");
    world
        .serve("four", "local", "d.example.com", "http://127.0.0.1:80")
        .await;
    world
        .says("four", "Ready", "False/BackendUnreachable")
        .await;
    assert_eq!(version().await, before);
    // It is told as an event, too.
    until("the conflict is an event", async || {
        let events = world.env.api::<k8s_openapi::api::events::v1::Event>();
        let events = events
            .list(&kube::api::ListParams::default())
            .await
            .unwrap();
        let mut ours = events
            .items
            .into_iter()
            .filter(|it| it.reason.as_deref() == Some("RouteConflict"));
        let about = ours.next()?.regarding?;
        (about.name.as_deref() == Some("three") && about.kind.as_deref() == Some("ProxySession"))
            .then_some(())
    })
    .await;
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_maintenance_requests_go_to_the_responder() {
    let Some(world) = World::start().await else {
        return;
    };
    let product = Product::new(&world.env);
    let flags = "--gateway web --maintenance-service page:8080";
    let controller = world.controller(&product, flags).await;
    for (name, ip) in [("one", 1), ("two", 2)] {
        world
            .serve(
                name,
                "api",
                "a.example.com",
                &format!("http://10.0.0.{ip}:9000"),
            )
            .await;
    }
    world.counts(1, 2, 2).await;
    let backend = async || {
        let route = world.route_of("one").await.unwrap();
        let refs = &route.data["spec"]["rules"][0]["backendRefs"];
        assert_eq!(refs.as_array().unwrap().len(), 1);
        refs[0]["name"].as_str().unwrap().to_owned()
    };
    let pool = backend().await;
    let ready = async || {
        let slices = world.made::<EndpointSlice>().await;
        let ready = |it: &&kube::core::DynamicObject| {
            it.data["endpoints"][0]["conditions"]["ready"] == true
        };
        slices.iter().filter(ready).count()
    };
    let becomes = async |ready_now: usize, to: &str| {
        until("requests go where they should", async || {
            let now = (ready().await, backend().await);
            match now == (ready_now, to.to_owned()) {
                true => Ok(()),
                false => Err(format!("{now:?}")),
            }
        })
        .await;
    };
    becomes(2, &pool).await;
    world.change("one", json!({ "maintenance": true })).await;
    becomes(1, &pool).await;
    world.change("two", json!({ "maintenance": true })).await;
    becomes(0, "page").await;
    world.change("one", json!({ "maintenance": null })).await;
    becomes(1, &pool).await;
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_route_ever_sends_to_a_service_that_is_not_there() {
    let Some(world) = World::start().await else {
        return;
    };
    let product = Product::new(&world.env);
    let controller = world.controller(&product, "--gateway web").await;
    let look = async {
        let routes: Api<HttpRoute> = world.env.api();
        let services: Api<Service> = world.env.api();
        loop {
            for route in world.made::<HttpRoute>().await {
                let name = route.metadata.name.unwrap();
                let rules = route.data["spec"]["rules"]
                    .as_array()
                    .cloned()
                    .unwrap_or_default();
                for backend in rules
                    .iter()
                    .flat_map(|rule| rule["backendRefs"].as_array().cloned().unwrap())
                {
                    let service = backend["name"].as_str().unwrap().to_owned();
                    if services.get_opt(&service).await.unwrap().is_none() {
                        // Unless the route was told otherwise in between.
                        let now = routes.get_opt(&name).await.unwrap();
                        let refs = now.iter().flat_map(|it| &it.spec.rules);
                        let mut refs = refs.flat_map(|rule| &rule.backend_refs);
                        assert!(
                            !refs.any(|it| it.name == service),
                            "{name} sends to {service}"
                        );
                    }
                }
            }
            tokio::task::yield_now().await;
        }
    };
    let change = async {
        let weights = [1, 2, 1, 3];
        for round in 0..6_usize {
            for (n, weight) in weights.iter().enumerate() {
                let domains = match (round + n) % 3 {
                    0 => json!(["a.example.com"]),
                    1 => json!(["a.example.com", "b.example.com"]),
                    _ => json!(["b.example.com"]),
                };
                let name = format!("s{n}");
                // Two share an address.
                let backend = format!("http://10.0.0.{}:{}", 1 + n / 2, 9000 + n);
                let routes = json!([{ "domains": domains, "path": "/", "backend": backend }]);
                let options = json!({ "weight": (weight + round) % 4 });
                world
                    .session(
                        &name,
                        "api",
                        json!({ "routes": routes, "options": options }),
                    )
                    .await;
                if (round + n) % 4 == 3 {
                    world.end(&name).await;
                }
            }
        }
        // The last state is reached.
        for n in 0..weights.len() {
            let _ = world
                .sessions()
                .delete(&format!("s{n}"), &kube::api::DeleteParams::default())
                .await;
        }
        world.counts(0, 0, 0).await;
    };
    tokio::select! {
        () = look => {}
        () = change => {}
    }
    controller.stop().await;
}
