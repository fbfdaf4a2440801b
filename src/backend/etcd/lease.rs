//! The one etcd lease of this process: etcd removes what is attached to it when
//! nobody has kept it alive for its time.
//!
//! Only the record of the replica itself is attached to it. That record vouches
//! for all that the replica holds, so one keep-alive keeps as many keys as there
//! are; and what the replica holds outlives it, because others may hear of it.
//!
//! It is kept alive with each write of that record, four times in the validity
//! that others judge the replica by, and not by a task of its own: a process whose
//! task goes on although it does not write its record any more would look alive
//! to etcd alone.

use futures::stream;
use tokio::sync::Mutex;
use tonic::Status;

use super::client::Client;
use super::failure::Failure;
use super::proto::lease_client::LeaseClient;
use super::proto::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse,
};
use crate::causes::Causes;
use crate::record::ReplicaRecord;
use crate::time::Now;

/// The lease of this process.
pub(super) struct Lease {
    client: Client,
    state: Mutex<State>,
}

struct State {
    granted: Option<Granted>,
    causes: Causes,
}

#[derive(Clone, Copy, Debug)]
struct Granted {
    id: i64,
    /// For how long it was asked for, in seconds.
    time: i64,
}

/// No lease of etcd's has this number: a key with it has none.
pub(super) const NONE: i64 = 0;

impl Lease {
    pub fn new(client: Client) -> Self {
        let state = State {
            granted: None,
            causes: Causes::new(),
        };
        Self {
            client,
            state: Mutex::new(state),
        }
    }

    /// A lease that has just begun or was just kept alive, for a record that is
    /// about to be written. [`NONE`] when etcd gives none: then nothing removes
    /// the record, and others judge by its age alone.
    ///
    /// # Errors
    /// When etcd does not answer. Writing would not succeed either.
    pub async fn keep(&self, record: &ReplicaRecord) -> Result<i64, Failure> {
        let time = time(record);
        let mut state = self.state.lock().await;
        if let Some(granted) = state.granted
            && granted.time == time
        {
            let kept = self.keep_alive(granted.id).await;
            if let Some(id) = state.settle(kept)? {
                return Ok(id);
            }
        }
        let id = self.grant(time).await;
        let id = state.settle(id.map(Some))?;
        state.granted = id.map(|id| Granted { id, time });
        Ok(id.unwrap_or(NONE))
    }

    /// It was not there when something was to be attached to it.
    pub async fn lost(&self, id: i64) {
        let mut state = self.state.lock().await;
        state.granted = state.granted.filter(|granted| granted.id != id);
    }

    async fn grant(&self, time: i64) -> Result<i64, Failure> {
        let request = LeaseGrantRequest { ttl: time };
        let answer: LeaseGrantResponse = self
            .client
            .call(request, true, |channel, request| {
                Box::pin(async move { LeaseClient::new(channel).lease_grant(request).await })
            })
            .await?;
        match answer.error.as_str() {
            "" => Ok(answer.id),
            why => Err(Failure::Unavailable(format!("etcd answered: {why}"))),
        }
    }

    /// None when it has expired.
    async fn keep_alive(&self, id: i64) -> Result<Option<i64>, Failure> {
        let request = LeaseKeepAliveRequest { id };
        let answer: LeaseKeepAliveResponse = self
            .client
            .call(request, true, |channel, request| {
                Box::pin(async move {
                    let request = request.map(|one| stream::iter([one]));
                    let answers = LeaseClient::new(channel).lease_keep_alive(request).await?;
                    let (metadata, mut answers, extensions) = answers.into_parts();
                    let answer = answers.message().await?;
                    let answer = answer.ok_or_else(|| Status::unavailable("no answer"))?;
                    Ok(tonic::Response::from_parts(metadata, answer, extensions))
                })
            })
            .await?;
        Ok((answer.ttl > 0).then_some(id))
    }
}

impl State {
    /// That there is no lease is no reason not to write.
    fn settle(&mut self, answer: Result<Option<i64>, Failure>) -> Result<Option<i64>, Failure> {
        match answer {
            Ok(id) => {
                self.causes.mended();
                Ok(id)
            }
            Err(failure) if failure.is_this_member() => Err(failure),
            Err(failure) => {
                if self.causes.is_news(&failure.to_string(), Now::read().mono) {
                    tracing::warn!(
                        "etcd gives no lease, so it does not remove this replica's record when the replica dies; others notice it all the same: {failure}"
                    );
                }
                Ok(None)
            }
        }
    }
}

/// How long a lease for a record lasts, in seconds: half as long again as others
/// wait until they judge that the replica has died. So the record has said all
/// that it has to say before it goes.
fn time(record: &ReplicaRecord) -> i64 {
    let valid = i64::from(record.duration_seconds);
    valid + (valid + 1) / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_outlasts_what_others_judge_by() {
        for (valid, lasts) in [(40, 60), (4, 6), (5, 8), (1, 2)] {
            let record = ReplicaRecord {
                identity: "r".into(),
                renew_time: Now::read().wall,
                duration_seconds: valid,
                stopped: false,
                suspects: Vec::new(),
            };
            assert_eq!(time(&record), lasts);
        }
    }
}
