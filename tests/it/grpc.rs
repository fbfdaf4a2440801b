//! gost's gRPC plugin, health and reflection.

use std::convert::Infallible;

use bytes::Bytes;
use futures::channel::mpsc;
use futures::future::join_all;
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use prost::Message as _;
use tonic::transport::Channel;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus};
use tunnel_registry::gost::proto::sd_client::SdClient;
use tunnel_registry::gost::proto::{
    DeregisterRequest, GetServiceRequest, RegisterReply, RegisterRequest, RenewRequest, Service,
};

use crate::testenv::{CONNECTOR, Env, NODE, Sent, TUNNEL, framed, whole};

fn service(network: &str, address: &str) -> Service {
    Service {
        id: CONNECTOR.into(),
        name: TUNNEL.into(),
        node: NODE.into(),
        network: network.into(),
        address: address.into(),
    }
}

fn channel(env: &Env) -> Channel {
    let uri = format!("http://{}", env.address);
    Channel::from_shared(uri).unwrap().connect_lazy()
}

/// A body whose pieces are sent by hand.
fn pieces() -> (
    mpsc::UnboundedSender<Result<Frame<Bytes>, Infallible>>,
    Sent,
) {
    let (sender, receiver) = mpsc::unbounded();
    (sender, StreamBody::new(receiver).boxed_unsync())
}

fn piece(bytes: &[u8]) -> Result<Frame<Bytes>, Infallible> {
    Ok(Frame::data(Bytes::copy_from_slice(bytes)))
}

#[tokio::test]
async fn the_four_calls_of_a_real_client() {
    let env = Env::start().await;
    let mut client = SdClient::new(channel(&env));
    let name = TUNNEL.to_owned();
    let get = || GetServiceRequest { name: name.clone() };
    assert_eq!(client.get(get()).await.unwrap().into_inner().services, []);

    let register = RegisterRequest {
        service: Some(service("tcp", "10.42.0.100:80")),
    };
    let reply = client.register(register).await.unwrap();
    assert!(reply.get_ref().ok);
    assert!(reply.metadata().get("tunnel-registry-pending").is_none());
    let renew = RenewRequest {
        service: Some(service("", "")),
    };
    assert!(client.renew(renew).await.unwrap().into_inner().ok);
    let found = client.get(get()).await.unwrap().into_inner().services;
    assert_eq!(found, [service("tcp", "10.42.0.100:80")]);

    let deregister = DeregisterRequest {
        service: Some(service("", "")),
    };
    assert!(client.deregister(deregister).await.unwrap().into_inner().ok);
    assert_eq!(client.get(get()).await.unwrap().into_inner().services, []);
    assert_eq!(env.count(&Env::calls("get", "grpc", "ok")), 3);
    assert_eq!(env.count("tunnel_registry_connections_accepted_total"), 1);
}

#[tokio::test]
async fn many_calls_share_one_connection() {
    let env = Env::start().await;
    let client = env.grpc().await;
    let replies = join_all((0..64).map(|_| {
        let mut client = client.clone();
        async move {
            let request = RenewRequest {
                service: Some(service("", "")),
            };
            client.unary("Renew", &request).await
        }
    }))
    .await;
    for reply in replies {
        assert_eq!(reply.code, 0, "{}", reply.error);
        assert_eq!(
            reply.body,
            framed(&RegisterReply { ok: true }.encode_to_vec())
        );
        assert_eq!(reply.headers["content-type"], "application/grpc");
    }
    assert_eq!(env.count(&Env::calls("renew", "grpc", "ok")), 64);
    assert_eq!(env.count("tunnel_registry_connections_accepted_total"), 1);
}

#[tokio::test]
async fn a_call_whose_body_is_late_holds_up_no_other() {
    let env = Env::start().await;
    let client = env.grpc().await;
    let whole_body = framed(
        &RenewRequest {
            service: Some(service("", "")),
        }
        .encode_to_vec(),
    );
    let (sender, body) = pieces();
    let mut late = client.clone();
    let late = async move { late.call("/proto.SD/Renew", &[], body).await };
    let others = async {
        for (at, part) in whole_body.chunks(20).enumerate() {
            sender.unbounded_send(piece(part)).unwrap();
            // An answer to a later call means that the earlier one was begun.
            let get = GetServiceRequest {
                name: TUNNEL.into(),
            };
            assert_eq!(client.clone().unary("Get", &get).await.code, 0);
            assert_eq!(env.count(&Env::calls("get", "grpc", "ok")), at as u64 + 1);
            assert_eq!(env.count(&Env::calls("renew", "grpc", "ok")), 0);
        }
        drop(sender);
    };
    let (reply, ()) = tokio::join!(late, others);
    assert_eq!(reply.code, 0, "{}", reply.error);
    assert_eq!(env.count(&Env::calls("renew", "grpc", "ok")), 1);
}

#[tokio::test]
async fn a_call_that_the_client_drops_leaves_the_connection_alone() {
    let env = Env::start().await;
    let mut client = env.grpc().await;
    for _ in 0..10 {
        let (sender, body) = pieces();
        sender.unbounded_send(piece(&[0, 0])).unwrap();
        let mut dropped = client.clone();
        let call = dropped.call("/proto.SD/Renew", &[], body);
        let get = GetServiceRequest {
            name: TUNNEL.into(),
        };
        let mut other = client.clone();
        tokio::select! {
            biased;
            _ = call => panic!("it has no message yet"),
            reply = other.unary("Get", &get) => assert_eq!(reply.code, 0),
        }
        drop(sender);
    }
    let renew = RenewRequest {
        service: Some(service("", "")),
    };
    assert_eq!(client.unary("Renew", &renew).await.code, 0);
    assert_eq!(env.count("tunnel_registry_connections_accepted_total"), 1);
}

#[tokio::test]
async fn health_is_what_the_server_was_told() {
    let env = Env::start().await;
    let mut client = HealthClient::new(channel(&env));
    for (serving, status) in [
        (None, ServingStatus::NotServing),
        (Some(true), ServingStatus::Serving),
        (Some(false), ServingStatus::NotServing),
    ] {
        if let Some(serving) = serving {
            env.health.set(serving).await;
        }
        for service in ["", "proto.SD"] {
            let request = HealthCheckRequest {
                service: service.into(),
            };
            let reply = client.check(request).await.unwrap().into_inner();
            assert_eq!(reply.status(), status, "{service:?}");
        }
    }
    let request = HealthCheckRequest {
        service: "proto.Other".into(),
    };
    let error = client.check(request).await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::NotFound);

    let request = HealthCheckRequest {
        service: "proto.SD".into(),
    };
    let mut watch = client.watch(request).await.unwrap().into_inner();
    let mut next = async || watch.message().await.unwrap().unwrap().status();
    assert_eq!(next().await, ServingStatus::NotServing);
    env.health.set(true).await;
    assert_eq!(next().await, ServingStatus::Serving);
}

#[tokio::test]
async fn the_protocol_can_be_asked_for() {
    let env = Env::start().await;
    let mut client = env.grpc().await;
    // ServerReflectionRequest: list_services (7), file_containing_symbol (4).
    let symbol = [&[0x22, 8], &b"proto.SD"[..]].concat();
    for version in ["v1", "v1alpha"] {
        let path = format!("/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo");
        for (request, told) in [
            (
                &[0x3a, 1, b'*'][..],
                &["proto.SD", "grpc.health.v1.Health"][..],
            ),
            (&symbol, &["GetServiceRequest", "Deregister"]),
        ] {
            let reply = client.call(&path, &[], whole(&framed(request))).await;
            assert_eq!(reply.code, 0, "{}", reply.error);
            let text = String::from_utf8_lossy(&reply.body).into_owned();
            for name in told {
                assert!(text.contains(name), "{name} is not in {text}");
            }
        }
    }
}
