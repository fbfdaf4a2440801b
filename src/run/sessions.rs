//! The session listener's part of `serve`.

use std::net::SocketAddr;
use std::sync::Arc;

use tracing::warn;

use crate::admin::sessions::Unlisted;
use crate::args::Serve;
use crate::backend::Backend;
use crate::metrics::Metrics;
use crate::run::StartError;
use crate::run::serve::endless;
use crate::run::supervisor::{Phase, Supervisor};
use crate::server::session::policy::PolicyFile;
use crate::server::session::{Config, SessionServer, exposure};
use crate::server::tls::{Tls, Use};
use crate::session::Sessions;
use crate::session::engine::Setup;
use crate::session::engine::view::Listed;

/// The sessions in a store, whether or not this process listens for more: it may
/// serve them, or see that they end.
pub(super) fn sessions(
    args: &Serve,
    identity: &Arc<str>,
    shared: bool,
    backend: &Arc<dyn Backend>,
) -> Arc<Sessions> {
    let setup = Setup {
        identity: Arc::clone(identity),
        shared,
        grace: args.session.session_grace,
        sessions: args.session.session_max_sessions,
        seed: fastrand::u64(..),
    };
    Arc::new(Sessions::new(setup, backend))
}

/// The sessions for the admin port. Where no listener is, there may be some all
/// the same: those of other replicas, or of an earlier start.
pub(super) fn list(sessions: &Sessions, is_listening: bool) -> Result<Vec<Listed>, Unlisted> {
    match sessions.list() {
        Some(listed) if !is_listening && listed.is_empty() => Err(Unlisted::Off),
        None if !is_listening => Err(Unlisted::Off),
        None => Err(Unlisted::NotRead),
        Some(listed) => Ok(listed),
    }
}

/// The listener, bound, with what it reads from files.
pub(super) struct Entry {
    server: SessionServer,
    policy: Option<Arc<PolicyFile>>,
    tls: Option<Arc<Tls>>,
    exposed: Option<String>,
}

impl Entry {
    /// Binds the listener and reads its files.
    pub(super) fn open(listen: SocketAddr, args: &Serve) -> Result<Self, StartError> {
        let files = args.session.tls();
        let client_ca = files.as_ref().is_some_and(|tls| tls.client_ca.is_some());
        let tls = files
            .map(|files| Tls::open(files, Use::Sessions))
            .transpose()?;
        let tls = tls.map(Arc::new);
        let policy = args.session.session_policy_file.clone();
        let policy = policy
            .map(|path| PolicyFile::open(path, client_ca))
            .transpose()?;
        let policy = policy.map(Arc::new);
        let server = SessionServer::bind(Config {
            listen,
            limits: args.session.limits(args.times.drain),
            policy: policy.clone(),
            tls: tls.clone(),
        })?;
        let listen = server.local_addr();
        Ok(Self {
            exposed: exposure(listen, policy.is_some(), tls.is_some(), client_ca),
            server,
            policy,
            tls,
        })
    }

    /// Where it listens.
    pub(super) fn local_addr(&self) -> SocketAddr {
        self.server.local_addr()
    }

    /// Begins its tasks: the listener in the first phase, the rest in the second.
    pub(super) fn spawn(
        self,
        supervisor: &mut Supervisor,
        (accepting, background): (Phase, Phase),
        sessions: Arc<Sessions>,
        metrics: &Arc<Metrics>,
    ) {
        let Self {
            server,
            policy,
            tls,
            exposed,
        } = self;
        supervisor.spawn(accepting, "session listener", {
            let metrics = Arc::clone(metrics);
            |stop| endless(server.run(sessions, metrics, stop))
        });
        supervisor.spawn(background, "session policy reload", {
            let metrics = Arc::clone(metrics);
            |stop| {
                endless(async move {
                    if let Some(policy) = policy {
                        policy.watch(&metrics, stop.clone()).await;
                    }
                    stop.cancelled().await;
                })
            }
        });
        supervisor.spawn(background, "session certificate reload", {
            let metrics = Arc::clone(metrics);
            |stop| {
                endless(async move {
                    if let Some(tls) = tls {
                        tls.watch(&metrics, stop.clone()).await;
                    }
                    stop.cancelled().await;
                })
            }
        });
        if let Some(exposed) = exposed {
            warn!("{exposed}");
        }
    }
}
