//! A sidecar writes endpoints of its own pod, and its own Lease: that is all that
//! the admission policies let it, and all that it needs.

use std::fs;

use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tunnel_registry::record::{EndpointRecord, ReplicaRecord};
use tunnel_registry::resources::tunnel_endpoint::{HOLDER, POD_UID, RELEASED};
use tunnel_registry::resources::{TunnelEndpoint, replica_lease};

use super::sidecars::{ACCOUNT, Sidecar, Sidecars};
use crate::kube::objects::{answer, record};
use crate::kube::product::Product;
use crate::kube::replicas::{is_told, service};
use crate::process::{Setup, until};
use crate::sd::{Protocol, Sd};

/// What a sidecar would write of a connector.
fn endpoint(sidecar: &Sidecar, connector: &str) -> EndpointRecord {
    let mut record = record("tunnel", "node", connector, "10.42.0.100:80");
    record.lease.holder = Some((*sidecar.identity()).into());
    record.endpoint.pod = Some(sidecar.uid);
    record
}

fn changed(mut record: EndpointRecord, change: impl FnOnce(&mut EndpointRecord)) -> TunnelEndpoint {
    change(&mut record);
    TunnelEndpoint::from_record(&record).unwrap()
}

/// What a sidecar would write of itself.
fn lease(identity: &str) -> Lease {
    lease_of(identity, false)
}

fn lease_of(identity: &str, stopped: bool) -> Lease {
    replica_lease::from_record(&ReplicaRecord {
        identity: identity.into(),
        renew_time: "2026-07-01T12:00:00Z".parse().unwrap(),
        duration_seconds: 40,
        stopped,
        suspects: Vec::new(),
    })
    .unwrap()
}

const DRY_RUN: PostParams = PostParams {
    dry_run: true,
    field_manager: None,
};

/// Waits until what the release grants is granted, and what its policies refuse
/// is refused: both take the API server a moment.
async fn in_force(sidecars: &Sidecars, sidecar: &Sidecar) {
    let client = sidecar.client().await;
    let namespace = &sidecars.env.namespace;
    let endpoints = Api::<TunnelEndpoint>::namespaced(client.clone(), namespace);
    let leases = Api::<Lease>::namespaced(client, namespace);
    let own = changed(endpoint(sidecar, "own"), |_| {});
    let others = changed(endpoint(sidecar, "others"), |it| {
        it.lease.holder = Some("other".into());
    });
    until("endpoints are guarded", async || {
        answer(endpoints.create(&DRY_RUN, &own).await)?;
        match answer(endpoints.create(&DRY_RUN, &others).await) {
            Ok(_) => Err("nothing is refused yet".to_owned()),
            Err(_) => Ok(()),
        }
    })
    .await;
    until("Leases are guarded", async || {
        answer(leases.create(&DRY_RUN, &lease(&sidecar.identity())).await)?;
        match answer(leases.create(&DRY_RUN, &lease("other")).await) {
            Ok(_) => Err("nothing is refused yet".to_owned()),
            Err(_) => Ok(()),
        }
    })
    .await;
}

/// Whether an answer is as expected: none refused, or refused with these words.
fn check<T>(what: &str, result: Result<T, kube::Error>, refused: Option<&str>) {
    match (answer(result), refused) {
        (Ok(_), None) => {}
        (Err(message), Some(words)) => assert!(message.contains(words), "{what}: {message}"),
        (Ok(_), Some(words)) => panic!("{what} was not refused with {words:?}"),
        (Err(message), None) => panic!("{what}: {message}"),
    }
}

const HOLDER_OF_OTHERS: &str = "a sidecar makes itself the holder of an endpoint";
const NOT_ITS_POD: &str = "a sidecar writes only endpoints of its own pod";
const OTHER_POD: &str = "a sidecar records only its own pod";
const OTHER_OWNER: &str = "a sidecar makes only its own pod the owner";
const BY_HAND: &str = "a sidecar does not write what is kept by hand";
const NO_POD: &str = "a sidecar's account writes only with the token of a pod";
const NOT_ITS_LEASE: &str = "a sidecar writes only its own Lease";
const NAMES_OTHERS: &str = "a sidecar names only itself in a Lease";
const NO_REPLICA: &str = "a sidecar makes no Lease but that of a replica";

#[tokio::test]
async fn a_sidecar_writes_endpoints_of_its_own_pod() {
    let sidecars = Sidecars::install().await;
    let (env, a, b) = (
        &sidecars.env,
        sidecars.pod("gost-0").await,
        sidecars.pod("gost-1").await,
    );
    in_force(&sidecars, &a).await;
    let api = Api::<TunnelEndpoint>::namespaced(a.client().await, &env.namespace);
    let create = PostParams::default();

    let owned = |uid: String| {
        let mut object = changed(endpoint(&a, "owned"), |_| {});
        let owner = json!([{ "apiVersion": "v1", "kind": "Pod", "name": "p", "uid": uid }]);
        object.metadata.owner_references = serde_json::from_value(owner).unwrap();
        object
    };
    type Change = fn(&mut EndpointRecord);
    let cases: [(&str, Change, Option<&str>); 5] = [
        ("its own", |_| {}, None),
        (
            "without a pod's uid",
            |it| it.endpoint.pod = None,
            Some(OTHER_POD),
        ),
        (
            "held by another",
            |it| it.lease.holder = Some("other".into()),
            Some(HOLDER_OF_OTHERS),
        ),
        (
            "of another pod",
            |it| it.endpoint.pod = Some(uuid::Uuid::from_u128(7)),
            Some(OTHER_POD),
        ),
        ("by hand", |it| it.is_static = true, Some(BY_HAND)),
    ];
    for (what, change, refused) in cases {
        let object = changed(endpoint(&a, "c"), change);
        check(what, api.create(&DRY_RUN, &object).await, refused);
    }
    for (uid, refused) in [(a.uid, None), (b.uid, Some(OTHER_OWNER))] {
        let object = owned(uid.to_string());
        check("an owner", api.create(&DRY_RUN, &object).await, refused);
    }

    // What there is: its own, and what others registered.
    let all = env.endpoints();
    let made = async |connector: &str, holder: Option<&str>, pod| {
        let object = changed(endpoint(&a, connector), |it| {
            it.lease.holder = holder.map(Into::into);
            it.endpoint.pod = pod;
        });
        let object = all.create(&create, &object).await.unwrap();
        object.metadata.name.unwrap()
    };
    let (own, other) = (a.identity(), b.identity());
    let own_held = made("own", Some(&own), Some(a.uid)).await;
    let own_elsewhere = made("elsewhere", Some("shared"), Some(a.uid)).await;
    let others_held = made("held", Some(&other), Some(b.uid)).await;
    let others_released = made("released", None, Some(b.uid)).await;
    let shared_held = made("shared", Some("shared"), None).await;
    let shared_released = made("shared-released", None, None).await;

    let params = PatchParams::default().dry_run();
    let delete = DeleteParams::default().dry_run();
    let set = |key: &str, value: Value| json!({ "metadata": { "annotations": { key: value } } });
    let moved = json!({ "spec": { "address": "10.42.0.9:80" } });
    let mine = set(HOLDER, own.clone().into());
    let nobodys = set(HOLDER, Value::Null);
    let given = set(HOLDER, other.clone().into());
    let owned_by_others = set(POD_UID, b.uid.to_string().into());
    for (name, patch, refused) in [
        (&own_held, &moved, None),
        (&own_held, &nobodys, None),
        (&own_held, &given, Some(HOLDER_OF_OTHERS)),
        (&own_held, &owned_by_others, Some(OTHER_POD)),
        (
            &own_held,
            &json!({ "spec": { "static": true } }),
            Some(BY_HAND),
        ),
        (&own_elsewhere, &mine, None),
        (&shared_released, &mine, None),
        (&shared_held, &mine, Some(NOT_ITS_POD)),
        (&others_held, &mine, Some(NOT_ITS_POD)),
        (&others_held, &moved, Some(NOT_ITS_POD)),
        (&others_released, &mine, Some(NOT_ITS_POD)),
    ] {
        let answer = api.patch(name, &params, &Patch::Merge(patch)).await;
        check(&format!("{patch} of {name}"), answer, refused);
    }
    for (name, refused) in [
        (&own_held, None),
        (&own_elsewhere, None),
        (&shared_released, None),
        (&shared_held, Some(NOT_ITS_POD)),
        (&others_held, Some(NOT_ITS_POD)),
        (&others_released, Some(NOT_ITS_POD)),
    ] {
        let answer = api.delete(name, &delete).await.map(drop);
        check(&format!("delete {name}"), answer, refused);
    }

    // The account without a pod is nobody's.
    let unbound = sidecars.token("unbound", None).await;
    let unbound = crate::kube::site::client(&unbound).await.unwrap();
    let unbound = Api::<TunnelEndpoint>::namespaced(unbound, &env.namespace);
    let object = changed(endpoint(&a, "c"), |_| {});
    check(
        "no pod",
        unbound.create(&DRY_RUN, &object).await,
        Some(NO_POD),
    );
    sidecars.uninstall().await;
}

#[tokio::test]
async fn a_sidecar_writes_its_own_lease() {
    let sidecars = Sidecars::install().await;
    let (env, a, b) = (
        &sidecars.env,
        sidecars.pod("gost-0").await,
        sidecars.pod("gost-1").await,
    );
    in_force(&sidecars, &a).await;
    let api = Api::<Lease>::namespaced(a.client().await, &env.namespace);
    let (own, other) = (lease(&a.identity()), lease(&b.identity()));
    let named = |name: &str| {
        let mut lease = own.clone();
        lease.metadata.name = Some(name.into());
        lease
    };
    let mut unlabelled = own.clone();
    unlabelled.metadata.labels = None;
    for (what, object, refused) in [
        ("its own", &own, None),
        ("another's", &other, Some(NAMES_OTHERS)),
        (
            "the leader's",
            &named("tunnel-registry-controller"),
            Some(NO_REPLICA),
        ),
        (
            "another program's",
            &named("other-leader"),
            Some(NO_REPLICA),
        ),
        ("no replica's", &unlabelled, Some(NO_REPLICA)),
    ] {
        check(what, api.create(&DRY_RUN, object).await, refused);
    }
    // What there is: its own, another's, the leader's, another program's, and one
    // of a replica that somebody took the identity from.
    let nameless = |name: &str| {
        let mut lease = named(name);
        lease.metadata.annotations = None;
        lease
    };
    let [leader, program, mangled] = [
        "tunnel-registry-controller",
        "other-leader",
        "tunnel-registry-x",
    ]
    .map(nameless);
    let all = env.api::<Lease>();
    for object in [&own, &other, &leader, &program, &mangled] {
        all.create(&PostParams::default(), object).await.unwrap();
    }
    let params = PatchParams::default().dry_run();
    let holder = |holder: &str| json!({ "spec": { "holderIdentity": holder } });
    let restored = |identity: &str| {
        let annotations = json!({ replica_lease::IDENTITY: identity });
        json!({ "metadata": { "annotations": annotations }, "spec": { "holderIdentity": identity } })
    };
    let (mine, others) = (a.identity(), b.identity());
    for (object, patch, refused) in [
        (&own, holder(""), None),
        (&own, holder(&others), Some(NAMES_OTHERS)),
        (&other, holder(""), Some(NOT_ITS_LEASE)),
        (&other, restored(&mine), Some(NOT_ITS_LEASE)),
        (&mangled, restored(&mine), None),
        (&mangled, restored(&others), Some(NAMES_OTHERS)),
        (&leader, restored(&mine), Some(NOT_ITS_LEASE)),
        (&program, restored(&mine), Some(NOT_ITS_LEASE)),
    ] {
        let name = object.metadata.name.as_deref().unwrap();
        let answer = api.patch(name, &params, &Patch::Merge(&patch)).await;
        check(&format!("{patch} of {name}"), answer, refused);
    }
    sidecars.uninstall().await;
}

/// What an account was refused in a namespace, by the audit log.
fn refusals(sidecars: &Sidecars) -> Vec<String> {
    let env = &sidecars.env;
    let user = format!("system:serviceaccount:{}:{ACCOUNT}", env.namespace);
    let log = fs::read_to_string(env.site.audit_log()).unwrap();
    let whole = log.rfind('\n').map_or("", |end| &log[..end]);
    let refused = whole.lines().filter(|line| line.contains(&user));
    refused
        .filter(|line| {
            let event: Value = serde_json::from_str(line).unwrap();
            let code = event["responseStatus"]["code"].as_u64();
            // Nothing but a test runs dry.
            let dry = event["requestURI"].as_str().unwrap().contains("dryRun");
            !dry && matches!(code, Some(401 | 403 | 422))
        })
        .map(Into::into)
        .collect()
}

/// How the product is started in a pod.
fn in_pod(product: &Product<'_>, n: u8, env: &crate::kube::env::Env, pod: &Sidecar) -> Setup {
    let mut setup = product.replica_with(n, pod.kubeconfig.clone());
    setup.environment.extend([
        ("TUNNEL_REGISTRY_POD_NAME", pod.name.clone().into()),
        (
            "TUNNEL_REGISTRY_POD_NAMESPACE",
            env.namespace.clone().into(),
        ),
        ("TUNNEL_REGISTRY_POD_UID", pod.uid.to_string().into()),
    ]);
    setup.flags("--replica-lease 4s --base-time 1s --released-for 60s --start-grace 0s")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_product_needs_no_more_than_the_policies_let_it() {
    let sidecars = Sidecars::install().await;
    let env = &sidecars.env;
    let (a, b) = (sidecars.pod("gost-0").await, sidecars.pod("gost-1").await);
    in_force(&sidecars, &a).await;
    let product = Product::new(env);
    let first = in_pod(&product, 1, env, &a).start().await;
    let second = in_pod(&product, 2, env, &b).start().await;
    let [sd, other] = [&first, &second].map(|it| Sd::new(Protocol::Grpc, it.setup.listen));
    let annotation = async |service: &tunnel_registry::gost::proto::Service, key: &str| {
        let list = env.endpoints().list(&Default::default()).await.unwrap();
        let mut all = list.items.into_iter();
        let object = all.find(|object| object.spec.connector == service.id)?;
        object.metadata.annotations?.remove(key)
    };

    // Registered, moved, released when it falls silent, and heard again.
    let mut own = service(1);
    sd.register(&own).await.unwrap();
    is_told(&other, &own, &[&own]).await;
    own.address = "10.42.9.9:80".into();
    sd.register(&own).await.unwrap();
    until("it is released", async || annotation(&own, RELEASED).await).await;
    until("it is held again", async || {
        sd.renew(&own).await.unwrap();
        let holder = annotation(&own, HOLDER).await;
        (holder? == a.identity()).then_some(())
    })
    .await;

    // What a shared replica registered for its pod, which has stopped since.
    let shared = service(2);
    let mut record = record(&shared.name, &shared.node, &shared.id, &shared.address);
    record.lease.holder = Some("gone".into());
    record.endpoint.pod = Some(a.uid);
    let object = TunnelEndpoint::from_record(&record).unwrap();
    let create = PostParams::default();
    let leases = env.api::<Lease>();
    leases
        .create(&create, &lease_of("gone", true))
        .await
        .unwrap();
    env.endpoints().create(&create, &object).await.unwrap();
    is_told(&sd, &shared, &[&shared]).await;
    until("it is taken over", async || {
        sd.renew(&shared).await.unwrap();
        let holder = annotation(&shared, HOLDER).await;
        (holder? == a.identity()).then_some(())
    })
    .await;

    // The container is killed, and starts anew in its pod.
    let first = first.kill().await.start().await;
    let sd = Sd::new(Protocol::Grpc, first.setup.listen);
    for service in [&own, &shared] {
        sd.renew(service).await.unwrap();
        sd.deregister(service).await.unwrap();
        is_told(&other, service, &[]).await;
    }
    first.stop().await;
    second.stop().await;
    assert_eq!(refusals(&sidecars), [""; 0]);

    // It is seen when there is one.
    let client = a.client().await;
    let endpoints = Api::<TunnelEndpoint>::namespaced(client, &env.namespace);
    let bad = changed(endpoint(&b, "c"), |_| {});
    answer(endpoints.create(&create, &bad).await).unwrap_err();
    until("the refusal is written down", async || {
        (refusals(&sidecars).len() == 1).then_some(())
    })
    .await;
    sidecars.uninstall().await;
}
