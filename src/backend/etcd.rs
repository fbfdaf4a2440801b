//! The store in etcd: a key for each record, under a prefix.
//!
//! A record's revision is the `mod_revision` of its key, and conditions are those
//! of etcd's transactions. One watch tells of all kinds, so changes of different
//! kinds come in the order in which they were made, too.
//!
//! Every request goes to one member, and to the next when that does not answer;
//! one without a leader does not. Nothing that is registered is attached to a
//! lease of etcd's: `etcd/lease.rs` tells why.

mod client;
mod connect;
mod events;
mod failure;
mod keys;
mod lease;
mod login;
mod mirror;
mod proto;
mod shared;
mod url;
mod value;
mod writer;

use std::fmt;
use std::sync::Arc;

use futures::future::BoxFuture;
use futures::stream::BoxStream;

use crate::backend::problems::Problem;
use crate::backend::{Backend, Change, Revision, Stored, WatchError, Write, WriteError};
use crate::record::Kind;

use client::Client;
use keys::Keys;
use mirror::mirror;
use proto::RangeRequest;
use shared::Shared;
use writer::{WRITES_AT_ONCE, Writer};

pub use connect::{FileError, TlsFiles};
pub use login::{PasswordError, User};
pub use url::{Url, UrlError};

/// Where records are kept, and how etcd is spoken to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The members of one cluster, or some of them.
    pub urls: Vec<Url>,
    /// What all keys begin with. Ends in a slash.
    pub prefix: String,
    /// With what TLS is spoken to members whose URLs say so.
    pub tls: TlsFiles,
    /// Who this process is to etcd; none if that asks nobody, or asks for a
    /// certificate.
    pub user: Option<User>,
}

/// Why the store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A certificate or a key.
    #[error(transparent)]
    File(#[from] FileError),
    /// The password.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// A URL that names nobody.
    #[error("etcd cannot be reached at what --store names: {0}")]
    Url(#[from] tonic::transport::Error),
}

/// Keeps records as keys of etcd.
pub struct Etcd {
    prefix: String,
    client: Client,
    keys: Keys,
    writer: Arc<Writer>,
    shared: Shared,
}

impl Etcd {
    /// The store under a prefix. Reads its files, and asks nobody yet. It belongs
    /// to the runtime in which it is opened.
    ///
    /// # Errors
    /// When a file cannot be used, or a URL cannot.
    pub async fn open(settings: Settings) -> Result<Self, OpenError> {
        let Settings {
            urls,
            prefix,
            tls,
            user,
        } = settings;
        if urls.iter().any(Url::is_https) {
            tls.read().await?;
        }
        if let Some(user) = &user {
            user.password().await?;
        }
        let client = Client::new(&urls, tls, user)?;
        let keys = Keys::new(prefix.clone());
        let writer = Writer::new(client.clone(), keys.clone());
        Ok(Self {
            prefix,
            client,
            keys,
            writer: Arc::new(writer),
            shared: Shared::default(),
        })
    }

    /// The keys under the prefix that the last watch met and that are not served,
    /// at most [`MAX_PROBLEMS`](crate::backend::problems::MAX_PROBLEMS).
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        self.shared.problems()
    }
}

impl fmt::Debug for Etcd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Etcd({:?})", self.prefix)
    }
}

impl Backend for Etcd {
    fn write(&self, write: Write) -> BoxFuture<'static, Result<Revision, WriteError>> {
        let writer = Arc::clone(&self.writer);
        Box::pin(async move { writer.write(write).await })
    }

    fn writes_at_once(&self) -> usize {
        WRITES_AT_ONCE
    }

    fn watch(&self) -> BoxStream<'static, Result<Change, WatchError>> {
        mirror(self.client.clone(), self.keys.clone(), self.shared.clone())
    }

    fn list(&self, kind: Kind) -> BoxFuture<'static, Result<Vec<Stored>, WriteError>> {
        let (client, keys) = (self.client.clone(), self.keys.clone());
        Box::pin(async move { Ok(mirror::list(&client, &keys, kind).await?) })
    }

    fn trouble(&self) -> Option<String> {
        self.shared.any_trouble()
    }

    fn ping(&self) -> BoxFuture<'static, Result<(), WriteError>> {
        let (client, key) = (self.client.clone(), self.keys.nothing());
        Box::pin(async move {
            let request = RangeRequest {
                key,
                keys_only: true,
                ..RangeRequest::default()
            };
            client.range(request).await?;
            Ok(())
        })
    }
}
