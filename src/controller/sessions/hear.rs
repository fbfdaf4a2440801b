//! What is heard of sessions, and of the objects that were made for them.

use std::sync::Arc;

use futures::StreamExt as _;
use kube::api::Api;
use kube::core::{ApiResource, DynamicObject};
use serde::Deserialize as _;
use tokio_util::sync::CancellationToken;

use super::{Object, Sessions, State};
use crate::causes::Causes;
use crate::controller::notices::{About, Notice};
use crate::controller::plan::routes::objects::{MADE_BY, MADE_BY_US};
use crate::controller::plan::routes::words::Api as GatewayApi;
use crate::controller::plan::routes::{Kind, Session};
use crate::kubernetes::watch::{Broken, Told, watch, watch_labelled};
use crate::resources::{ProxySession, ProxySessionSpec, ProxySessionStatus};
use crate::time::Now;

/// The most objects that cannot be read and are kept: further ones are not told.
const MAX_MALFORMED: usize = 256;

impl Sessions {
    /// Hears of sessions, until `stop`.
    pub async fn hear_sessions(self: Arc<Self>, stop: CancellationToken) {
        let resource = ApiResource::erase::<ProxySession>(&());
        let api = Api::namespaced_with(self.client.clone(), &self.setup.namespace, &resource);
        let mut told = watch::<DynamicObject>(api);
        let mut causes = Causes::new();
        while let Some(Some(told)) = stop.run_until_cancelled(told.next()).await {
            match told {
                Ok(told) => {
                    causes.mended();
                    self.heard(told);
                }
                Err(broken) => {
                    if causes.is_news(&broken.to_string(), Now::read().mono) {
                        tracing::warn!(again_in = ?broken.again_in, "the watch of ProxySessions broke: {broken}");
                    }
                    let why = format!("the ProxySessions cannot be listed: {broken}");
                    self.state.lock().unread = Some(why);
                }
            }
        }
        stop.cancelled().await;
    }

    fn heard(&self, told: Told<DynamicObject>) {
        let mut state = self.state.lock();
        let is_news = match told {
            Told::Begin => {
                state.epoch = state.epoch.wrapping_add(1);
                state.malformed.clear();
                false
            }
            Told::Put(object) if object.metadata.deletion_timestamp.is_some() => {
                state.forget(object.metadata.name.as_deref().unwrap_or_default())
            }
            Told::Put(object) => match state.put(&object) {
                Ok(is_news) => is_news,
                Err(problem) => {
                    drop(state);
                    self.tell_malformed(&object, problem);
                    return self.look_again();
                }
            },
            Told::Gone(object) => state.forget(object.metadata.name.as_deref().unwrap_or_default()),
            Told::Listed => {
                let epoch = state.epoch;
                state.objects.retain(|_, object| object.epoch == epoch);
                state.is_listed = true;
                true
            }
            Told::Sign => false,
        };
        drop(state);
        if is_news {
            self.look_again();
        }
    }

    fn tell_malformed(&self, object: &DynamicObject, problem: String) {
        let name = object.metadata.name.clone().unwrap_or_default();
        {
            let mut state = self.state.lock();
            if state.malformed.get(&name) == Some(&problem)
                || state.malformed.len() >= MAX_MALFORMED
            {
                return;
            }
            state.malformed.insert(name.clone(), problem.clone());
        }
        tracing::warn!(object = name, "a ProxySession is not served: {problem}");
        let uid = object.metadata.uid.as_deref();
        self.tell(Notice {
            about: About::Session(name, uid.and_then(|uid| uid.parse().ok())),
            reason: "Malformed",
            action: "Serve",
            is_warning: true,
            note: problem,
        });
    }

    /// Hears of the objects of a kind that were made for sessions, until `stop`.
    pub async fn hear_made(self: Arc<Self>, kind: Kind, stop: CancellationToken) {
        let labels = format!("{MADE_BY}={MADE_BY_US}");
        let mut told = watch_labelled::<DynamicObject>(self.objects(kind), Some(labels));
        let mut causes = Causes::new();
        while let Some(Some(told)) = stop.run_until_cancelled(told.next()).await {
            match told {
                Ok(told) => {
                    causes.mended();
                    self.heard_made(kind, told);
                }
                Err(broken) => {
                    self.broke(kind, &broken);
                    if causes.is_news(&broken.to_string(), Now::read().mono) {
                        tell_broken(kind, &broken);
                    }
                }
            }
        }
        stop.cancelled().await;
    }

    fn heard_made(&self, kind: Kind, told: Told<DynamicObject>) {
        let mut state = self.state.lock();
        let State {
            made,
            routes,
            is_said,
            ..
        } = &mut *state;
        if kind == Kind::Route && std::mem::replace(routes, GatewayApi::Ready) != GatewayApi::Ready
        {
            *is_said = true;
        }
        let is_news = match told {
            Told::Begin => {
                made.begin(kind);
                false
            }
            Told::Put(object) => {
                let is_news = made.put(kind, object);
                *is_said |= is_news && kind == Kind::Route;
                is_news
            }
            Told::Gone(object) => {
                let name = object.metadata.name.as_deref().unwrap_or_default();
                made.gone(kind, name, object.metadata.uid.as_deref())
            }
            Told::Listed => {
                made.listed(kind);
                true
            }
            Told::Sign => false,
        };
        drop(state);
        if is_news {
            self.changed.notify_one();
        }
    }

    fn broke(&self, kind: Kind, broken: &Broken) {
        let mut state = self.state.lock();
        let before = (state.routes, state.forbidden);
        if broken.is_unknown && kind == Kind::Route {
            state.made.none(kind);
            state.routes = GatewayApi::Missing;
        } else if broken.is_forbidden && kind == Kind::Route {
            state.routes = GatewayApi::Forbidden;
        } else if broken.is_forbidden {
            state.forbidden = Some(kind);
        }
        if (state.routes, state.forbidden) != before {
            state.is_said = true;
            drop(state);
            self.changed.notify_one();
        }
    }
}

fn tell_broken(kind: Kind, broken: &Broken) {
    let kind = kind.as_str();
    match broken.is_unknown {
        true => tracing::warn!(
            "the API server does not know {kind}; install the Gateway API (gateway.networking.k8s.io/v1), and sessions are served without a restart"
        ),
        false => {
            tracing::warn!(again_in = ?broken.again_in, "the watch of {kind}s broke: {broken}")
        }
    }
}

impl State {
    /// A session's object as it is. Returns whether objects may follow from it;
    /// an error says why it cannot be read.
    fn put(&mut self, object: &DynamicObject) -> Result<bool, String> {
        let metadata = &object.metadata;
        let name = metadata.name.clone().unwrap_or_default();
        let spec = ProxySessionSpec::deserialize(&object.data["spec"])
            .map_err(|why| format!("spec cannot be read: {why}"));
        let status = ProxySessionStatus::deserialize(&object.data["status"]).ok();
        let record = spec.and_then(|spec| {
            let session = ProxySession {
                metadata: metadata.clone(),
                spec,
                status: None,
            };
            session.to_record().map_err(|why| why.to_string())
        });
        let record = match record {
            Ok(record) => record,
            Err(why) => {
                self.objects.remove(&name);
                return Err(why);
            }
        };
        let epoch = self.epoch;
        self.malformed.remove(&name);
        self.is_said = true;
        let uid = metadata.uid.clone().unwrap_or_default();
        let generation = metadata.generation.unwrap_or_default();
        let conditions = status.map(|status| status.conditions).unwrap_or_default();
        let known = self.objects.get_mut(&name);
        if let Some(known) = known
            && known.session.uid == uid
            && known.session.record.is_like(&record)
        {
            known.generation = generation;
            known.conditions = conditions;
            known.epoch = epoch;
            return Ok(false);
        }
        let session = Session {
            record: record.into(),
            name: name.clone(),
            uid,
        };
        let object = Object {
            session,
            generation,
            conditions,
            differs: None,
            epoch,
        };
        self.objects.insert(name, object);
        Ok(true)
    }

    fn forget(&mut self, name: &str) -> bool {
        self.malformed.remove(name);
        self.objects.remove(name).is_some()
    }
}
