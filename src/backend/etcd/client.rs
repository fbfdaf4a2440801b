//! Requests to etcd, each with an end, made to the member that answered last.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::time::{Instant, timeout};
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Request, Response, Status, Streaming};

use super::connect::{self, TlsFiles};
use super::failure::Failure;
use super::login::{Login, Token, User};
use super::proto::kv_client::KvClient;
use super::proto::watch_client::WatchClient;
use super::proto::{
    RangeRequest, RangeResponse, TxnRequest, TxnResponse, WatchRequest, WatchResponse,
};
use super::url::Url;

/// How long a request may take until it is answered.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// How long one member may take while there are others to ask.
const MEMBER_TIMEOUT: Duration = Duration::from_secs(2);
/// The longest answer that is taken, in bytes. A page of records has less.
const MAX_ANSWER: usize = 64 << 20;

/// etcd. Cheap to clone.
#[derive(Clone)]
pub(super) struct Client(Arc<Inner>);

struct Inner {
    members: Vec<Member>,
    /// The one that is asked.
    current: AtomicUsize,
    login: Option<Login>,
}

/// One member. A watch has a connection of its own: what it is told and nobody
/// reads would stand in the way of answers.
struct Member {
    calls: Channel,
    watches: Channel,
}

/// An answer on its way.
pub(super) type Sent<A> = BoxFuture<'static, Result<Response<A>, Status>>;

/// A watch that etcd answers, and the member that does.
pub(super) struct Watched {
    pub answers: Streaming<WatchResponse>,
    pub member: usize,
}

impl Client {
    /// A client of the members at these URLs. Connects to nobody yet; it belongs
    /// to the runtime in which it is made.
    pub fn new(
        urls: &[Url],
        tls: TlsFiles,
        user: Option<User>,
    ) -> Result<Self, tonic::transport::Error> {
        let tls = Arc::new(tls);
        let member = |url| {
            Ok(Member {
                calls: connect::channel(url, &tls)?,
                watches: connect::channel(url, &tls)?,
            })
        };
        let members = urls.iter().map(member).collect::<Result<Vec<_>, _>>()?;
        // Not all replicas ask the same member.
        let current = AtomicUsize::new(fastrand::usize(..members.len().max(1)));
        Ok(Self(Arc::new(Inner {
            members,
            current,
            login: user.map(Login::new),
        })))
    }

    /// Reads keys. Asks another member when one does not answer.
    pub async fn range(&self, request: RangeRequest) -> Result<RangeResponse, Failure> {
        self.call(request, true, |channel, request| {
            Box::pin(async move {
                let mut client = KvClient::new(channel).max_decoding_message_size(MAX_ANSWER);
                client.range(request).await
            })
        })
        .await
    }

    /// Writes under conditions. Another member is asked only if nobody heard the
    /// first: else whoever asked would not recognise what it had written itself.
    pub async fn txn(&self, request: TxnRequest) -> Result<TxnResponse, Failure> {
        self.call(request, false, |channel, request| {
            Box::pin(async move {
                let mut client = KvClient::new(channel).max_decoding_message_size(MAX_ANSWER);
                client.txn(request).await
            })
        })
        .await
    }

    /// Makes a request, which may be made twice if `is_harmless`.
    pub async fn call<M: Clone, A>(
        &self,
        message: M,
        is_harmless: bool,
        send: fn(Channel, Request<M>) -> Sent<A>,
    ) -> Result<A, Failure> {
        let end = Instant::now() + CALL_TIMEOUT;
        let mut others = self.0.members.len();
        loop {
            others = others.saturating_sub(1);
            let at = self.current();
            let left = end.saturating_duration_since(Instant::now());
            let limit = match others {
                0 => left,
                _ => left.min(MEMBER_TIMEOUT),
            };
            let answer = timeout(limit, self.ask(at, &message, limit, send)).await;
            let failure = match answer {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(failure)) => failure,
                Err(_) => Failure::late(limit),
            };
            if !failure.is_this_member() {
                return Err(failure);
            }
            self.leave(at);
            let may_ask_another = is_harmless || matches!(failure, Failure::Unconnected(_));
            if others == 0 || !may_ask_another {
                return Err(failure);
            }
        }
    }

    async fn ask<M: Clone, A>(
        &self,
        at: usize,
        message: &M,
        limit: Duration,
        send: fn(Channel, Request<M>) -> Sent<A>,
    ) -> Result<A, Failure> {
        let channel = self.member(at)?.calls.clone();
        let mut tries = 2;
        loop {
            tries -= 1;
            let token = self.token(&channel).await?;
            let mut request = request(message.clone(), token.as_ref());
            // etcd needs not go on when nobody waits any more.
            request.set_timeout(limit);
            let status = match send(channel.clone(), request).await {
                Ok(answer) => return Ok(answer.into_inner()),
                Err(status) => status,
            };
            let failure = Failure::of(&status);
            match (&failure, &self.0.login) {
                (Failure::Unauthenticated(_), Some(login)) if tries > 0 => {
                    login.refused(token.as_ref());
                }
                _ => return Err(failure),
            }
        }
    }

    /// Begins a watch with what `asks` says first.
    pub async fn watch(
        &self,
        asks: impl futures::Stream<Item = WatchRequest> + Send + 'static,
    ) -> Result<Watched, Failure> {
        let at = self.current();
        let member = self.member(at)?;
        let opened = async {
            let token = self.token(&member.calls).await?;
            let mut client =
                WatchClient::new(member.watches.clone()).max_decoding_message_size(MAX_ANSWER);
            let answer = client.watch(request(asks, token.as_ref())).await;
            answer.map_err(|status| Failure::of(&status))
        };
        let answer = timeout(CALL_TIMEOUT, opened).await;
        let answer = answer.unwrap_or_else(|_| Err(Failure::late(CALL_TIMEOUT)));
        match answer {
            Ok(answer) => Ok(Watched {
                answers: answer.into_inner(),
                member: at,
            }),
            Err(failure) => {
                self.broke(at, &failure);
                Err(failure)
            }
        }
    }

    /// Whether it can ask for another token.
    pub fn is_user(&self) -> bool {
        self.0.login.is_some()
    }

    /// A watch at a member broke.
    pub fn broke(&self, member: usize, failure: &Failure) {
        if failure.is_this_member() {
            self.leave(member);
        }
        if let (Failure::Unauthenticated(_), Some(login)) = (failure, &self.0.login) {
            login.forget();
        }
    }

    async fn token(&self, channel: &Channel) -> Result<Option<Token>, Failure> {
        match &self.0.login {
            Some(login) => login.token(channel).await,
            None => Ok(None),
        }
    }

    fn current(&self) -> usize {
        self.0.current.load(Ordering::Relaxed)
    }

    fn member(&self, at: usize) -> Result<&Member, Failure> {
        let member = self.0.members.get(at);
        member.ok_or_else(|| Failure::Refused("no member of etcd is known".into()))
    }

    /// Asks the next member from now on, unless somebody else has decided that.
    fn leave(&self, at: usize) {
        let next = (at + 1) % self.0.members.len().max(1);
        let order = Ordering::Relaxed;
        // Whoever was faster has left the same one.
        let _ = self.0.current.compare_exchange(at, next, order, order);
    }
}

/// A request that a member answers only while it belongs to a majority, so that
/// one that was cut off from the others ends its watches.
fn request<M>(message: M, token: Option<&Token>) -> Request<M> {
    let mut request = Request::new(message);
    let metadata = request.metadata_mut();
    metadata.insert("hasleader", MetadataValue::from_static("true"));
    if let Some(token) = token {
        metadata.insert("token", token.clone());
    }
    request
}
