//! What the API server refuses of a `TunnelEndpoint`, and how it says so.

use kube::api::{ListParams, Patch, PatchParams};
use serde_json::{Value, json};
use tunnel_registry::resources::tunnel_endpoint::{MAX_ATTRIBUTES, MAX_CONDITIONS};

use super::env::Env;
use super::objects::{answer, create, raw, ready, spec, spec_with};

#[tokio::test]
async fn whatever_the_registry_accepts_the_api_server_does() {
    let env = Env::start().await;
    let api = raw(&env);
    for address in [
        "10.42.0.100:80",
        "223.255.255.255:65535",
        "[fd00::1]:1",
        "[2001:db8:1111:2222:3333:4444:5555:6666]:65535",
        "gost-0.gost.default.svc:80",
        "my_host:1",
        "_a:9999",
        "host.:10000",
        "h:60000",
        "h:65499",
        "h:65529",
        "h:65530",
    ] {
        let parsed: tunnel_registry::record::Address = address.parse().unwrap();
        assert_eq!(parsed.to_string(), address);
        create(&api, spec_with("address", address)).await.unwrap();
    }
    for name in [
        "x",
        "Office Printer",
        "!",
        "~a b~",
        &"x".repeat(253),
        "it's \"\\q\"",
    ] {
        assert!(name.parse::<tunnel_registry::record::Name>().is_ok());
        for field in ["tunnel", "node", "connector"] {
            create(&api, spec_with(field, name)).await.unwrap();
        }
    }
}

#[tokio::test]
async fn refusals_say_what_is_wrong() {
    let env = Env::start().await;
    let api = raw(&env);
    let many = |n: usize| -> Value {
        let all = (0..n).map(|n| (n.to_string(), json!("")));
        all.collect::<serde_json::Map<_, _>>().into()
    };
    let mut cases = vec![
        (
            spec_with("network", "sctp"),
            "spec.network: Unsupported value: \"sctp\": supported values: \"tcp\", \"udp\"",
        ),
        (spec_with("address", ""), "spec.address"),
        (
            spec_with("address", "10.42.0.100"),
            "spec.address: Invalid value: \"10.42.0.100\": must be host:port, such as",
        ),
        (spec_with("address", ":80"), "must be host:port, such as"),
        (
            spec_with("address", "http://h:80"),
            "must be host:port, such as",
        ),
        (
            spec_with("address", "fd00::1:80"),
            "must be host:port, such as",
        ),
        (spec_with("address", "h:0"), "must be host:port, such as"),
        (spec_with("address", "h:080"), "must be host:port, such as"),
        (
            spec_with("address", "h:65536"),
            "must be host:port, such as",
        ),
        (spec_with("address", "h:80\n"), "must be host:port, such as"),
        (
            spec_with("address", "0.0.0.0:80"),
            "has an unspecified host, which nobody can dial",
        ),
        (
            spec_with("address", "[::]:80"),
            "has an unspecified host, which nobody can dial",
        ),
        (
            spec_with("address", format!("{}:80", "h".repeat(258))),
            "may not be more than 260 bytes",
        ),
        (
            spec_with("attributes", many(MAX_ATTRIBUTES + 1)),
            "must have at most 16 items",
        ),
        (
            spec_with("attributes", json!({ "k": "v".repeat(254) })),
            "may not be more than 253 bytes",
        ),
        (
            spec_with("attributes", json!({ "": "v" })),
            "keys must have 1 to 63 characters",
        ),
        (
            spec_with("attributes", json!({ "k".repeat(64): "v" })),
            "keys must have 1 to 63 characters",
        ),
        (
            spec_with("attributes", json!({ "k": 1 })),
            "must be of type string",
        ),
        (spec_with("static", "yes"), "must be of type boolean"),
    ];
    for field in ["tunnel", "node", "connector"] {
        cases.extend([
            (spec_with(field, ""), "should be at least 1 chars long"),
            (
                spec_with(field, " x"),
                "must be printable ASCII without a space at either end",
            ),
            (
                spec_with(field, "x "),
                "must be printable ASCII without a space at either end",
            ),
            (
                spec_with(field, "x\n"),
                "must be printable ASCII without a space at either end",
            ),
            (
                spec_with(field, "é"),
                "must be printable ASCII without a space at either end",
            ),
            (
                spec_with(field, "x".repeat(254)),
                "may not be more than 253 bytes",
            ),
        ]);
    }
    for field in ["tunnel", "node", "connector", "address"] {
        let mut spec = spec();
        spec.as_object_mut().unwrap().remove(field);
        cases.push((spec, "Required value"));
    }
    for (spec, expected) in cases {
        let message = create(&api, spec.clone()).await.unwrap_err();
        assert!(message.contains(expected), "{spec}: {message}");
    }
    assert!(
        api.list(&ListParams::default())
            .await
            .unwrap()
            .items
            .is_empty()
    );
}

#[tokio::test]
async fn the_identity_cannot_change_and_the_rest_can() {
    let env = Env::start().await;
    let api = raw(&env);
    let name = create(&api, spec()).await.unwrap().metadata.name.unwrap();
    let patch = async |spec: Value| {
        let patch = Patch::Merge(json!({ "spec": spec }));
        answer(api.patch(&name, &PatchParams::default(), &patch).await)
    };
    for field in ["tunnel", "node", "connector"] {
        let message = patch(json!({ field: "other" })).await.unwrap_err();
        let expected = format!(
            "spec.{field}: Invalid value: \"other\": identifies the endpoint and cannot be changed; delete the object and make another"
        );
        assert!(message.contains(&expected), "{message}");
    }
    let moved = json!({ "address": "10.42.0.101:80", "network": "udp", "static": true });
    let object = patch(moved.clone()).await.unwrap();
    assert_eq!(object.metadata.generation, Some(2));
    for (field, value) in moved.as_object().unwrap() {
        assert_eq!(&object.data["spec"][field], value);
    }
}

#[tokio::test]
async fn conditions_are_bounded_and_one_of_a_type() {
    let env = Env::start().await;
    let api = raw(&env);
    let name = create(&api, spec()).await.unwrap().metadata.name.unwrap();
    let condition = |change: &dyn Fn(&mut Value)| {
        let mut condition = ready("True")["status"]["conditions"][0].take();
        change(&mut condition);
        condition
    };
    let set = async |conditions: Vec<Value>| {
        let patch = Patch::Merge(json!({ "status": { "conditions": conditions } }));
        answer(
            api.patch_status(&name, &PatchParams::default(), &patch)
                .await,
        )
    };
    let many = |n: usize| -> Vec<_> {
        let typed = |n| condition(&|c| c["type"] = format!("Type{n}").into());
        (0..n).map(typed).collect()
    };
    assert!(set(many(MAX_CONDITIONS)).await.is_ok());
    for (conditions, expected) in [
        (many(MAX_CONDITIONS + 1), "must have at most 8 items"),
        (
            vec![condition(&|_| {}), condition(&|_| {})],
            "Duplicate value",
        ),
        (
            vec![condition(&|c| c["status"] = "Yes".into())],
            "supported values: \"True\", \"False\", \"Unknown\"",
        ),
        (
            vec![condition(&|c| c["reason"] = "two words".into())],
            "reason",
        ),
        (
            vec![condition(&|c| c["message"] = "m".repeat(32_769).into())],
            "may not be more than 32768 bytes",
        ),
        (
            vec![condition(&|c| c["lastTransitionTime"] = "now".into())],
            "must be of type date-time",
        ),
    ] {
        let message = set(conditions).await.unwrap_err();
        assert!(message.contains(expected), "{message}");
    }
}
