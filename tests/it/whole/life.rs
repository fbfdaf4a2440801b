//! An installation's life: gosts in pods find each other's tunnels, pods come and
//! go, the release is upgraded, rolled back and uninstalled.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use kube::ResourceExt as _;
use serde_json::{Value, json};
use tokio::time::sleep;
use tunnel_registry::time::Now;

use crate::kube::tools::say;
use crate::process::fetch;
use crate::tunnels::web::visit;
use crate::whole::gosts::{client, host, tunnel};
use crate::whole::images::{self, Image};
use crate::whole::install::{Installed, NAME, RELEASE, awaited};
use crate::whole::site::Site;

/// Tunnels, so that each of two gosts has about a thousand.
const TUNNELS: usize = 2_000;
/// The clients that hold them.
const CLIENTS: usize = 2;
/// The tunnels that visitors come for.
const VISITED: usize = 20;
/// What a gone pod had is not offered any more after so long,
const NOT_OFFERED_WITHIN: Duration = Duration::from_secs(1);
/// and its objects go so many a second.
const GONE_A_SECOND: f64 = 50.0;
/// How long a caller rests between two answers.
const PACE: Duration = Duration::from_millis(10);

/// What the release is installed with: one gost image, TCP between gosts and their
/// clients, and the shared replicas without a token.
fn values(images: &images::Images) -> Value {
    let rules: Vec<_> = (0..VISITED)
        .map(|n| json!({"hostname": host(n), "endpoint": tunnel(n)}))
        .collect();
    json!({
        "image": images.registry.values(),
        "plugin": {"auth": {"enabled": false}},
        "gost": {
            "enabled": true,
            "image": images.gost.values(),
            "tunnel": {"listener": {"type": "tcp"}},
            "ingress": rules,
        },
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn gosts_in_pods_share_their_tunnels() {
    let Some(site) = Site::find().await else {
        return;
    };
    let images = images::load(&site).await;
    Installed::new(site, values(&images))
        .await
        .while_it_lasts(async |installed| story(installed, &images.gost).await)
        .await;
}

async fn story(installed: &mut Installed, gost: &Image) {
    start_clients(installed, &gost.name()).await;
    everything_is_registered(installed).await;
    a_visitor_arrives_through_the_other_gost(installed).await;
    kubectl_shows_them(installed).await;
    let tested = installed.helm(&["test", RELEASE]).await;
    assert!(tested.contains("Succeeded"), "{tested}");

    a_deleted_pod_is_not_offered(installed).await;
    everything_is_registered(installed).await;
    a_visitor_arrives_through_the_other_gost(installed).await;

    let gosts = format!("deployment/{NAME}-gost");
    installed.kubectl(&["rollout", "restart", &gosts]).await;
    installed
        .kubectl(&["rollout", "status", &gosts, "--timeout=170s"])
        .await;
    everything_is_registered(installed).await;
    a_visitor_arrives_through_the_other_gost(installed).await;

    an_upgrade_loses_nothing(installed).await;
    installed
        .helm(&["rollback", RELEASE, "1", "--wait", "--timeout", "170s"])
        .await;
    everything_is_registered(installed).await;
    a_visitor_arrives_through_the_other_gost(installed).await;
}

async fn start_clients(installed: &Installed, image: &str) {
    let server = installed
        .service(&format!("{NAME}-gost-tunnel"))
        .await
        .to_string();
    for n in 0..CLIENTS {
        let share = TUNNELS / CLIENTS;
        let tunnels = n * share..(n + 1) * share;
        let name = format!("client-{n}");
        let kube = &installed.site.client;
        client(
            kube,
            &installed.namespace,
            image,
            &name,
            &server,
            tunnels,
            "here",
        )
        .await;
    }
}

/// Waits until each tunnel is registered once, at a gost that lives.
async fn everything_is_registered(installed: &Installed) {
    let begun = Now::read().mono;
    awaited(
        "every tunnel is registered once, at a living gost",
        async || {
            let gosts = installed.pods("gost").await;
            let addresses = installed.addresses().await;
            let right = |at: &&Vec<SocketAddr>| at.len() == 1 && gosts.contains_key(&at[0].ip());
            let count = addresses.values().filter(right).count();
            match count == TUNNELS && addresses.len() == TUNNELS {
                true => Ok(()),
                false => Err(format!("{count} of {} are", addresses.len())),
            }
        },
    )
    .await;
    say(&format!(
        "{TUNNELS} tunnels are registered after {:?}",
        Now::read().mono - begun
    ));
}

async fn a_visitor_arrives_through_the_other_gost(installed: &Installed) {
    let gosts = installed.pods("gost").await;
    assert_eq!(gosts.len(), 2, "{gosts:?}");
    let addresses = installed.addresses().await;
    for n in 0..VISITED {
        let holder = addresses[&tunnel(n)][0];
        let other = gosts.keys().find(|ip| **ip != holder.ip()).unwrap();
        let entrypoint = SocketAddr::new(*other, holder.port());
        // A replica may hear of a new gost a moment later.
        let page = awaited("the visitor arrives", async || {
            visit(entrypoint, &host(n)).await
        })
        .await;
        assert_eq!(page, "here");
    }
}

async fn kubectl_shows_them(installed: &Installed) {
    let table = installed.kubectl(&["get", "tunnelendpoints"]).await;
    assert_eq!(table.lines().count(), TUNNELS + 1);
    assert!(table.lines().next().unwrap().starts_with("NAME"), "{table}");
    say(&table.lines().take(3).collect::<Vec<_>>().join("\n    "));
}

/// Whether the shared replicas offer a tunnel at a host.
async fn is_offered(plugin: SocketAddr, tunnel: &str, at: IpAddr) -> bool {
    let (status, body) = fetch(plugin, &format!("/sd?name={tunnel}")).await.unwrap();
    assert_eq!(status, 200, "{body}");
    let listed: Value = serde_json::from_str(&body).unwrap();
    let services = listed["services"].as_array().unwrap();
    services.iter().any(|service| {
        let address: SocketAddr = service["address"].as_str().unwrap().parse().unwrap();
        address.ip() == at
    })
}

async fn a_deleted_pod_is_not_offered(installed: &Installed) {
    let plugin = installed.service(&format!("{NAME}-plugin")).await;
    let (at, pod) = installed.pods("gost").await.into_iter().next().unwrap();
    let theirs: BTreeMap<_, _> = installed
        .endpoints()
        .await
        .into_iter()
        .filter(|endpoint| endpoint.spec.address.parse::<SocketAddr>().unwrap().ip() == at)
        .map(|endpoint| (endpoint.uid().unwrap(), endpoint.spec.tunnel))
        .collect();
    assert!(theirs.len() > TUNNELS / 4, "{} are at {pod}", theirs.len());

    installed.delete_pod(&pod).await;
    awaited("the pod is gone", async || {
        (!installed.has_pod(&pod).await).then_some(())
    })
    .await;
    let gone = Now::read().mono;
    awaited("none of its tunnels is offered there", async || {
        for tunnel in theirs.values().step_by(theirs.len() / VISITED) {
            if is_offered(plugin, tunnel, at).await {
                return Err(format!("{tunnel} is"));
            }
        }
        Ok(())
    })
    .await;
    let not_offered = Now::read().mono - gone;
    let left = async || {
        let endpoints = installed.endpoints().await.into_iter();
        let uids: BTreeSet<_> = endpoints.filter_map(|endpoint| endpoint.uid()).collect();
        theirs.keys().filter(|uid| uids.contains(*uid)).count()
    };
    let at_first = left().await;
    awaited("its objects are gone", async || match left().await {
        0 => Ok(()),
        left => Err(format!("{left} are left")),
    })
    .await;
    let removed = Now::read().mono - gone;
    let rate = theirs.len() as f64 / removed.as_secs_f64();
    say(&format!(
        "a pod with {} tunnels is gone: none offered after {not_offered:?}; {at_first} objects were left then, none after {removed:?}",
        theirs.len()
    ));
    assert!(not_offered < NOT_OFFERED_WITHIN, "{not_offered:?}");
    assert!(rate > GONE_A_SECOND, "{rate} a second");
}

/// Another setting of controller and shared replicas: gosts stay, and so do their
/// registrations; who asks the replicas meanwhile is answered.
async fn an_upgrade_loses_nothing(installed: &mut Installed) {
    let plugin = installed.service(&format!("{NAME}-plugin")).await;
    let uids = async |installed: &Installed| -> BTreeSet<_> {
        let endpoints = installed.endpoints().await.into_iter();
        endpoints.filter_map(|endpoint| endpoint.uid()).collect()
    };
    let before = uids(installed).await;
    let (asked, failed) = (Cell::new(0), RefCell::new(Vec::new()));
    let asking = async {
        loop {
            asked.set(asked.get() + 1);
            let path = format!("/sd?name={}", tunnel(asked.get() % TUNNELS));
            match fetch(plugin, &path).await {
                Ok((status, body)) if status == 200 && body.contains("address") => {}
                other => failed.borrow_mut().push(format!("{other:?}")),
            }
            sleep(PACE).await;
        }
    };
    let change = |values: &mut Value| {
        for component in ["controller", "plugin"] {
            values[component]["podAnnotations"] = json!({"example.com/upgraded": "yes"});
        }
    };
    tokio::select! {
        () = installed.upgrade(change) => {}
        () = asking => {}
    }
    let (asked, failed) = (asked.get(), failed.into_inner());
    say(&format!(
        "{} of {asked} calls failed during an upgrade",
        failed.len()
    ));
    assert!(failed.len() <= 1, "{failed:?}");
    assert_eq!(
        uids(installed).await,
        before,
        "registrations are what they were"
    );
}
