//! Requests for objects of one namespace, each with an end.

use std::time::Duration;

use futures::join;
use http::Request as HttpRequest;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ListMeta;
use kube::Client;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::Request;
use kube::core::params::GetParams;
use kube::core::request::Error as RequestError;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::catalogue::Version;
use super::holders::Holders;
use super::object::{Object, Seen, revision};
use crate::backend::Revision;
use crate::kubernetes::reopen::{PAGE, PAGE_TIMEOUT};
use crate::kubernetes::{CALL_TIMEOUT, Failure, call};

/// Who wrote a field, as `managedFields` tells it.
const MANAGER: &str = "tunnel-registry-plugin";
/// The name of an object that is never made: it has no hash.
const NOBODY: &str = "nobody";

/// The API server, for the objects of one namespace.
#[derive(Clone)]
pub(super) struct Api {
    client: Client,
    namespace: String,
}

/// A page of a list.
#[derive(Deserialize)]
struct Page<'a> {
    metadata: ListMeta,
    #[serde(borrow)]
    items: Vec<&'a RawValue>,
}

/// An object of any kind, of which only the version matters.
#[derive(Deserialize)]
struct Versioned {
    metadata: VersionedMeta,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct VersionedMeta {
    resource_version: String,
}

impl Api {
    pub fn new(client: Client, namespace: String) -> Self {
        Self { client, namespace }
    }

    /// The client, for what is answered without end.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Requests for a kind.
    pub fn request<K: Object>(&self) -> Request {
        Request::new(K::url_path(&(), Some(&self.namespace)))
    }

    async fn call(
        &self,
        request: Result<HttpRequest<Vec<u8>>, RequestError>,
        limit: Duration,
    ) -> Result<String, Failure> {
        let request = request.map_err(|why| Failure::of(&kube::Error::BuildRequest(why)))?;
        call(&self.client, request, limit).await
    }

    /// Reads an object, past every cache.
    pub async fn get<K: Object>(&self, name: &str) -> Result<Seen, Failure> {
        let request = self.request::<K>().get(name, &GetParams::default());
        let answer = self.call(request, CALL_TIMEOUT).await?;
        Seen::read::<K>(&answer, &mut Holders::default())
    }

    /// Creates an object.
    pub async fn create<K: Object>(&self, body: Vec<u8>) -> Result<Revision, Failure> {
        let params = PostParams {
            field_manager: Some(MANAGER.into()),
            ..PostParams::default()
        };
        let request = self.request::<K>().create(&params, body);
        version_of(&self.call(request, CALL_TIMEOUT).await?)
    }

    /// Changes an object; returns its text.
    pub async fn patch<K: Object>(&self, name: &str, patch: Value) -> Result<String, Failure> {
        let params = PatchParams {
            field_manager: Some(MANAGER.into()),
            ..PatchParams::default()
        };
        let request = self
            .request::<K>()
            .patch(name, &params, &Patch::Merge(patch));
        self.call(request, CALL_TIMEOUT).await
    }

    /// Deletes an object that is at this version.
    pub async fn delete<K: Object>(&self, name: &str, version: Version) -> Result<(), Failure> {
        let params = DeleteParams::default().preconditions(Preconditions {
            resource_version: Some(version.revision.to_string()),
            uid: version.uid.map(|uid| uid.to_string()),
        });
        let request = self.request::<K>().delete(name, &params);
        self.call(request, CALL_TIMEOUT).await.map(drop)
    }

    /// Lists all objects of a kind, page by page, each object as soon as it is
    /// met; returns the version that the list is of.
    pub async fn list<K: Object>(&self, mut met: impl FnMut(Seen)) -> Result<Revision, Failure> {
        let mut params = ListParams {
            limit: Some(PAGE),
            label_selector: K::SELECTOR.map(Into::into),
            ..ListParams::default()
        };
        let mut holders = Holders::default();
        let mut answer = self.page::<K>(&params).await?;
        loop {
            let page: Page<'_> =
                serde_json::from_str(&answer).map_err(|why| Failure::unreadable(&why))?;
            let Page { metadata, items } = page;
            let read = async {
                items.into_iter().try_for_each(|object| {
                    Seen::read::<K>(object.get(), &mut holders).map(&mut met)
                })
            };
            params.continue_token = metadata.continue_.filter(|more| !more.is_empty());
            if params.continue_token.is_none() {
                read.await?;
                return revision(metadata.resource_version.as_deref());
            }
            // The API server makes the next page while this one is read.
            let (next, read) = join!(self.page::<K>(&params), read);
            read?;
            answer = next?;
        }
    }

    async fn page<K: Object>(&self, params: &ListParams) -> Result<String, Failure> {
        self.call(self.request::<K>().list(params), PAGE_TIMEOUT)
            .await
    }

    /// Lists the objects of a kind with a name that none has. The API server
    /// reads one key for it, with a quorum of etcd; the definition must be
    /// installed and the Role be given.
    pub async fn ping<K: Object>(&self) -> Result<(), Failure> {
        let params = ListParams::default().fields(&format!("metadata.name={NOBODY}"));
        let request = self.request::<K>().list(&params);
        self.call(request, CALL_TIMEOUT).await.map(drop)
    }
}

/// The version of the object with this text.
pub(super) fn version_of(text: &str) -> Result<Revision, Failure> {
    let object: Versioned = serde_json::from_str(text).map_err(|why| Failure::unreadable(&why))?;
    revision(Some(&object.metadata.resource_version))
}
