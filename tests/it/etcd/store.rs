//! The contract of stores.

use std::sync::Arc;

use super::server::common;
use crate::contract;

contract::suite!({ (Arc::new(common().await.open().await), ()) });
