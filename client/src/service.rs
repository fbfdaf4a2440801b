//! What is known of a service beside its instances.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Instance;

/// Who leads a service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeaderType {
    /// The instance that registered first of those that are there.
    #[default]
    Oldest,
    /// The one that was named, while it is there.
    Manual,
}

impl fmt::Display for LeaderType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Oldest => "oldest",
            Self::Manual => "manual",
        })
    }
}

impl FromStr for LeaderType {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "oldest" => Ok(Self::Oldest),
            "manual" => Ok(Self::Manual),
            _ => Err("must be oldest or manual"),
        }
    }
}

/// The meta data of a service: any JSON, replaced as a whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ServiceMeta {
    /// What was stored, at most 64 KiB.
    pub data: Value,
    /// Another one with each change; [`Client::set_meta`](crate::Client::set_meta)
    /// takes it to replace exactly this.
    pub index: u64,
}

impl ServiceMeta {
    /// Meta data with its index; 0 is that of a service which has none yet.
    #[must_use]
    pub fn new(data: Value, index: u64) -> Self {
        Self { data, index }
    }
}

/// A service in the list of all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Service {
    /// Its name.
    #[serde(rename = "service")]
    pub name: String,
    /// Who leads it.
    pub leader_type: LeaderType,
    /// How many instances it has.
    pub instances: usize,
    /// The one that leads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<Instance>,
}
