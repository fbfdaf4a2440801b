//! `service`: what is done to services themselves.

use std::process::ExitCode;

use tunnel_registry_client::{Client, ServiceMeta};

use crate::args::client::Service;
use crate::cli::output::Output;
use crate::cli::problem::Problem;

pub(super) async fn run(
    args: &Service,
    client: &Client,
    output: &Output,
) -> Result<ExitCode, Problem> {
    match args {
        Service::Create(args) => client.create(&args.service, args.leader).await?,
        Service::Delete(args) => client.remove(&args.service).await?,
        Service::Meta(args) => {
            let service = &args.service;
            let meta = match &args.set {
                None => client.meta(service).await?,
                Some(data) => {
                    let index = match args.index {
                        Some(index) => index,
                        None => client.meta(service).await?.map_or(0, |meta| meta.index),
                    };
                    let meta = ServiceMeta::new(data.clone(), index);
                    Some(client.set_meta(service, &meta).await?)
                }
            };
            let meta = meta.ok_or_else(|| {
                Problem::NotThere(format!(
                    "there is no meta data of {service}; `tunnel-registry service meta {service} --set JSON` writes some, if there is such a service (`tunnel-registry get` shows all)"
                ))
            })?;
            output.json(&meta)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
