//! The calls that the registry answers.

use std::sync::Arc;

use bytes::Bytes;
use http::Method;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::transport::{Again, Call, Transport};
use crate::{
    BuildError, Builder, Error, Instance, LeaderType, Leaders, Register, Service, ServiceMeta,
    Watch,
};

/// The longest name of a service, in bytes.
const MAX_NAME: usize = 63;

/// A client of one registry, which may have several servers. Clones share their
/// connections. It lives in a tokio runtime with I/O and time.
#[derive(Clone, Debug)]
pub struct Client {
    transport: Arc<Transport>,
}

impl Client {
    /// A client of the servers at these URLs, with commas between them.
    ///
    /// # Errors
    /// When there is none, or one is no URL.
    pub fn new(urls: &str) -> Result<Self, BuildError> {
        Self::builder().server(urls).build()
    }

    /// The way to anything but the usual.
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(crate) fn of(transport: Transport) -> Self {
        Self {
            transport: Arc::new(transport),
        }
    }

    pub(crate) fn transport(&self) -> &Arc<Transport> {
        &self.transport
    }

    /// Whether a server answers.
    ///
    /// # Errors
    /// When none does.
    pub async fn ping(&self) -> Result<(), Error> {
        self.done(Method::GET, "/ping".into(), None, Again::Always)
            .await
    }

    /// All services, by name.
    ///
    /// # Errors
    /// When it was not answered. Registries older than this client, and discoverd
    /// itself, do not know the question.
    pub async fn services(&self) -> Result<Vec<Service>, Error> {
        self.get("/services".into()).await
    }

    /// Makes a service.
    ///
    /// # Errors
    /// [`Error::is_exists`] when there is one. When the answer was lost it may have
    /// been made: [`Client::ensure`] does not mind.
    pub async fn create(&self, service: &str, leader: LeaderType) -> Result<(), Error> {
        let body = json!({ "leader_type": leader });
        self.done(Method::PUT, path(service, "")?, Some(body), Again::Never)
            .await
    }

    /// Makes a service unless there is one, whose leader type stays as it is.
    ///
    /// # Errors
    /// When nobody knows whether there is one now.
    pub async fn ensure(&self, service: &str, leader: LeaderType) -> Result<(), Error> {
        let body = json!({ "leader_type": leader });
        let made = self
            .done(Method::PUT, path(service, "")?, Some(body), Again::Always)
            .await;
        match made {
            Err(error) if error.is_exists() => Ok(()),
            made => made,
        }
    }

    /// Removes a service with its instances.
    ///
    /// # Errors
    /// [`Error::is_not_found`] when there is none.
    pub async fn remove(&self, service: &str) -> Result<(), Error> {
        self.done(Method::DELETE, path(service, "")?, None, Again::Never)
            .await
    }

    /// The instances of a service, in the order in which they first registered.
    ///
    /// # Errors
    /// [`Error::is_not_found`] when there is no such service.
    pub async fn instances(&self, service: &str) -> Result<Vec<Instance>, Error> {
        self.get(path(service, "/instances")?).await
    }

    /// The instance that leads; none when nobody does, or there is no such service.
    ///
    /// # Errors
    /// When it was not answered.
    pub async fn leader(&self, service: &str) -> Result<Option<Instance>, Error> {
        found(self.get(path(service, "/leader")?).await)
    }

    /// Names the leader, there or not, by its id ([`crate::instance_id`]).
    ///
    /// # Errors
    /// When there is no such service, or its leaders are not named by hand.
    pub async fn set_leader(&self, service: &str, id: &str) -> Result<(), Error> {
        let body = json!({ "id": checked(id)? });
        let path = path(service, "/leader")?;
        self.done(Method::PUT, path, Some(body), Again::Always)
            .await
    }

    /// The meta data of a service; none when it has none, or there is no such
    /// service.
    ///
    /// # Errors
    /// When it was not answered.
    pub async fn meta(&self, service: &str) -> Result<Option<ServiceMeta>, Error> {
        found(self.get(path(service, "/meta")?).await)
    }

    /// Replaces the meta data that has the index of `meta` (0: there is none yet),
    /// and answers what there is now, with its new index.
    ///
    /// # Errors
    /// [`Error::is_conflict`] when it has another index: somebody else was faster.
    /// When the answer was lost it may have been replaced; read it again.
    pub async fn set_meta(&self, service: &str, meta: &ServiceMeta) -> Result<ServiceMeta, Error> {
        self.write_meta(service, json!(meta)).await
    }

    /// The same, naming the leader in the same write; for services whose leaders
    /// are named by hand.
    ///
    /// # Errors
    /// As [`Client::set_meta`] and [`Client::set_leader`].
    pub async fn set_meta_and_leader(
        &self,
        service: &str,
        meta: &ServiceMeta,
        id: &str,
    ) -> Result<ServiceMeta, Error> {
        let id = checked(id)?;
        let body = json!({ "data": meta.data, "index": meta.index, "leader_id": id });
        self.write_meta(service, body).await
    }

    async fn write_meta(&self, service: &str, body: Value) -> Result<ServiceMeta, Error> {
        let call = call(
            Method::PUT,
            path(service, "/meta")?,
            Some(body),
            Again::Never,
        );
        self.read(&call).await
    }

    /// Registers an instance once, which is also a heartbeat; after 10 s without one
    /// an instance goes. [`Client::register`] keeps it.
    ///
    /// # Errors
    /// [`Error::is_not_found`] when there is no such service.
    pub async fn register_once(&self, service: &str, instance: &Instance) -> Result<(), Error> {
        let path = path_of(service, &instance.id)?;
        self.done(Method::PUT, path, Some(json!(instance)), Again::Always)
            .await
    }

    /// The same, for which each server is asked once.
    pub(crate) async fn beat(&self, service: &str, instance: &Instance) -> Result<(), Error> {
        let path = path_of(service, &instance.id)?;
        let call = call(Method::PUT, path, Some(json!(instance)), Again::Always);
        self.transport.once(&call).await.map(|_| ())
    }

    /// Unregisters an instance by its id; one that is not there is no error.
    ///
    /// # Errors
    /// [`Error::is_not_found`] when there is no such service.
    pub async fn unregister(&self, service: &str, id: &str) -> Result<(), Error> {
        self.done(Method::DELETE, path_of(service, id)?, None, Again::Always)
            .await
    }

    /// Registers an instance and keeps it registered: see [`Register`].
    pub fn register(&self, service: &str, instance: Instance) -> Register {
        Register::new(self.clone(), service, instance)
    }

    /// Tells what happens to a service, which need not exist yet: see [`Watch`].
    pub fn watch(&self, service: &str) -> Watch {
        Watch::new(self.clone(), service)
    }

    /// Tells who leads a service, which need not exist yet: see [`Leaders`].
    pub fn follow_leader(&self, service: &str) -> Leaders {
        Leaders::new(self.watch(service))
    }

    async fn get<T: DeserializeOwned>(&self, path: String) -> Result<T, Error> {
        self.read(&call(Method::GET, path, None, Again::Always))
            .await
    }

    async fn read<T: DeserializeOwned>(&self, call: &Call) -> Result<T, Error> {
        let answer = self.transport.call(call).await?;
        serde_json::from_slice(&answer).map_err(|error| Error::of_body(&call.path, &error))
    }

    async fn done(
        &self,
        method: Method,
        path: String,
        body: Option<Value>,
        again: Again,
    ) -> Result<(), Error> {
        let call = call(method, path, body, again);
        self.transport.call(&call).await.map(|_| ())
    }
}

fn call(method: Method, path: String, body: Option<Value>, again: Again) -> Call {
    let body = body.map_or_else(Bytes::new, |body| body.to_string().into());
    Call {
        method,
        path,
        body,
        again,
    }
}

/// Nothing in place of "not found".
fn found<T>(answer: Result<T, Error>) -> Result<Option<T>, Error> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// The path of a service, and what is behind it.
pub(crate) fn path(service: &str, rest: &str) -> Result<String, Error> {
    let fits = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
    if (1..=MAX_NAME).contains(&service.len()) && service.bytes().all(fits) {
        Ok(format!("/services/{service}{rest}"))
    } else {
        Err(Error::Name(service.to_owned()))
    }
}

fn path_of(service: &str, id: &str) -> Result<String, Error> {
    path(service, &format!("/instances/{}", checked(id)?))
}

fn checked(id: &str) -> Result<&str, Error> {
    let fits = |byte: u8| matches!(byte, b'a'..=b'f' | b'0'..=b'9');
    if id.len() == 32 && id.bytes().all(fits) {
        Ok(id)
    } else {
        Err(Error::Id(id.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_ids_are_checked_before_anything_is_sent() {
        assert_eq!(path("a-1", "/meta").as_deref(), Ok("/services/a-1/meta"));
        let long = "a".repeat(64);
        for name in ["", "A", "a/b", "a.b", "a?b", "ä", &long] {
            assert_eq!(path(name, ""), Err(Error::Name(name.into())), "{name}");
        }
        let id = Instance::new("h:1").id;
        assert_eq!(path_of("a", &id), Ok(format!("/services/a/instances/{id}")));
        for id in ["", "..", "X", &id.to_uppercase(), &id[1..]] {
            assert_eq!(path_of("a", id), Err(Error::Id(id.into())), "{id}");
        }
    }
}
