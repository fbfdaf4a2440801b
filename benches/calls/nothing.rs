//! The yardstick: a server on the registry's stack that looks nothing up and
//! replies the same each time, as generated code and a bare handler would.

use std::convert::Infallible;
use std::env;
use std::future::{Ready, ready};
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Router;
use axum::routing::get;
use bytes::Bytes;
use futures::future::BoxFuture;
use http::header::CONTENT_TYPE;
use rustix::process::{Signal, set_parent_process_death_signal};
use tonic::body::Body;
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic_prost::ProstCodec;

use crate::common::Result;
use crate::common::endpoints::Endpoints;
use crate::common::process::Process;
use crate::common::servers::{accepting, free_port};
use crate::common::wire::{GetReply, GetRequest, Protocol, WriteReply, WriteRequest};

/// Starts this program again as the do-nothing server: in a process of its own
/// its processor time can be told from the load's.
pub async fn start(protocol: Protocol) -> Result<(Process, SocketAddr)> {
    let at = free_port()?;
    let mut command = Command::new(env::current_exe()?);
    command.args(["nothing", protocol.name(), &at.to_string()]);
    let process = accepting("the do-nothing server", &mut command, at).await?;
    Ok((process, at))
}

/// Serves until the process is killed, or its parent dies.
pub fn serve(protocol: Protocol, listen: SocketAddr) -> Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let reply = GetReply {
        services: Endpoints::new(0, 2).tunnels(1),
    };
    tokio::runtime::Runtime::new()?.block_on(async {
        match protocol {
            Protocol::Grpc => {
                let service = Nothing(Arc::new(reply));
                let mut server = tonic::transport::Server::builder();
                server.add_service(service).serve(listen).await?;
            }
            Protocol::Http => {
                let reply = Bytes::from(serde_json::to_vec(&reply)?);
                let listed = get(async || ([(CONTENT_TYPE, "application/json")], reply));
                let routes = listed
                    .post(async || {})
                    .put(async || {})
                    .delete(async || {});
                let listener = tokio::net::TcpListener::bind(listen).await?;
                axum::serve(listener, Router::new().route("/sd", routes)).await?;
            }
        }
        Ok(())
    })
}

/// What tonic's generated code would be around a handler that clones a message.
#[derive(Clone, Debug)]
struct Nothing(Arc<GetReply>);

impl NamedService for Nothing {
    const NAME: &'static str = "proto.SD";
}

impl tower_service::Service<http::Request<Body>> for Nothing {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, std::result::Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<std::result::Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        match request.uri().path() {
            "/proto.SD/Get" => {
                let handler = Get(Arc::clone(&self.0));
                Box::pin(async move {
                    let mut grpc = Grpc::new(ProstCodec::default());
                    Ok(grpc.unary(handler, request).await)
                })
            }
            "/proto.SD/Register" | "/proto.SD/Renew" | "/proto.SD/Deregister" => {
                Box::pin(async move {
                    let mut grpc = Grpc::new(ProstCodec::default());
                    Ok(grpc.unary(Write, request).await)
                })
            }
            _ => Box::pin(async {
                let mut response = http::Response::new(Body::default());
                let status = (tonic::Code::Unimplemented as i32).into();
                response.headers_mut().insert("grpc-status", status);
                Ok(response)
            }),
        }
    }
}

type Handled<T> = Ready<std::result::Result<tonic::Response<T>, tonic::Status>>;

struct Get(Arc<GetReply>);

impl UnaryService<GetRequest> for Get {
    type Response = GetReply;
    type Future = Handled<GetReply>;

    fn call(&mut self, _: tonic::Request<GetRequest>) -> Self::Future {
        ready(Ok(tonic::Response::new(GetReply::clone(&self.0))))
    }
}

struct Write;

impl UnaryService<WriteRequest> for Write {
    type Response = WriteReply;
    type Future = Handled<WriteReply>;

    fn call(&mut self, _: tonic::Request<WriteRequest>) -> Self::Future {
        ready(Ok(tonic::Response::new(WriteReply { ok: true })))
    }
}
