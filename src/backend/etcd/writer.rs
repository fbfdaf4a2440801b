//! Conditional writes, as transactions of etcd: what the condition asks for and
//! what is there instead come from one moment.

use super::client::Client;
use super::failure::Failure;
use super::keys::Keys;
use super::lease::{self, Lease};
use super::proto::compare::{CompareResult, CompareTarget, TargetUnion};
use super::proto::request_op::Request;
use super::proto::response_op::Response;
use super::proto::{
    Compare, DeleteRangeRequest, KeyValue, PutRequest, RangeRequest, RequestOp, ResponseHeader,
    TxnRequest,
};
use super::value::{self, revision};
use crate::backend::{Revision, Write, WriteError};
use crate::record::{Key, Record};

/// How many writes are under way at once, on one connection.
pub(super) const WRITES_AT_ONCE: usize = 256;

/// Makes the writes.
pub(super) struct Writer {
    client: Client,
    keys: Keys,
    lease: Lease,
}

/// What a transaction came to.
enum Done {
    /// The condition held, and this is the revision that was made.
    Made(Revision),
    /// It did not: this is there instead, at a time when the store had this
    /// revision.
    Instead(Option<KeyValue>, Revision),
}

impl Writer {
    pub fn new(client: Client, keys: Keys) -> Self {
        Self {
            lease: Lease::new(client.clone()),
            client,
            keys,
        }
    }

    /// Makes one write.
    pub async fn write(&self, write: Write) -> Result<Revision, WriteError> {
        let key = write.key();
        let path = self.keys.of(&key);
        let done = match &write {
            Write::Create(record) => self.put(&path, record, vec![absent(&path)]).await?,
            Write::Put(record, revision) => self.put(&path, record, at(&path, *revision)?).await?,
            Write::Delete(_, revision) => {
                let delete = DeleteRangeRequest { key: path.clone() };
                let delete = Request::RequestDeleteRange(delete);
                // What is absent is at 0, and its removal succeeds.
                let is_there = vec![modified(&path, CompareResult::Equal, *revision)?];
                self.txn(&path, is_there, delete).await?
            }
        };
        let (pair, now) = match done {
            Done::Made(revision) => return Ok(revision),
            Done::Instead(Some(pair), now) => (pair, now),
            Done::Instead(None, now) => {
                return match write {
                    Write::Delete(..) => Ok(now),
                    Write::Create(_) | Write::Put(..) => Err(WriteError::Conflict(None)),
                };
            }
        };
        match (value::read(&self.keys, &pair), write) {
            (Ok(stored), _) => Err(WriteError::Conflict(Some(Box::new(stored)))),
            // What cannot be read is not served either.
            (Err(_), Write::Delete(..)) => Ok(now),
            (Err(why), Write::Create(record) | Write::Put(record, _)) => {
                self.instead_of(&key, &pair, &record, &why).await
            }
        }
    }

    /// What cannot be read is in the way of a record.
    async fn instead_of(
        &self,
        key: &Key,
        pair: &KeyValue,
        record: &Record,
        why: &str,
    ) -> Result<Revision, WriteError> {
        let name = String::from_utf8_lossy(&pair.key);
        // Its own lease a replica must be able to write.
        if let Key::Replica(_) = key {
            let at = at(&pair.key, revision(pair.mod_revision))?;
            return match self.put(&pair.key, record, at).await? {
                Done::Made(revision) => {
                    tracing::warn!("{name} had been changed by hand, and is restored");
                    Ok(revision)
                }
                Done::Instead(..) => Err(WriteError::Conflict(None)),
            };
        }
        Err(WriteError::Refused(format!(
            "{name} is in the way (etcdctl del '{name}' makes room): {why}"
        )))
    }

    /// Puts a record where `compare` holds. That of a replica is attached to the
    /// lease of this process.
    async fn put(
        &self,
        path: &[u8],
        record: &Record,
        compare: Vec<Compare>,
    ) -> Result<Done, WriteError> {
        let value = value::write(record)
            .map_err(|why| WriteError::Refused(format!("the record cannot be written: {why}")))?;
        let put = |lease| {
            Request::RequestPut(PutRequest {
                key: path.to_vec(),
                value: value.clone(),
                lease,
            })
        };
        let Record::Replica(replica) = record else {
            return Ok(self.txn(path, compare, put(lease::NONE)).await?);
        };
        let id = self.lease.keep(replica).await?;
        match self.txn(path, compare.clone(), put(id)).await {
            // It expired between the two: once more with another, or with none.
            Err(Failure::NoLease) => {
                self.lease.lost(id).await;
                let id = self.lease.keep(replica).await?;
                match self.txn(path, compare.clone(), put(id)).await {
                    Err(Failure::NoLease) => Ok(self.txn(path, compare, put(lease::NONE)).await?),
                    done => Ok(done?),
                }
            }
            done => Ok(done?),
        }
    }

    async fn txn(
        &self,
        path: &[u8],
        compare: Vec<Compare>,
        request: Request,
    ) -> Result<Done, Failure> {
        let op = |request| RequestOp {
            request: Some(request),
        };
        let read = RangeRequest {
            key: path.to_vec(),
            ..RangeRequest::default()
        };
        let request = TxnRequest {
            compare,
            success: vec![op(request)],
            failure: vec![op(Request::RequestRange(read))],
        };
        let answer = self.client.txn(request).await?;
        let now = made(answer.header);
        if answer.succeeded {
            return Ok(Done::Made(now));
        }
        let first = answer.responses.into_iter().next();
        let pair = match first.and_then(|op| op.response) {
            Some(Response::ResponseRange(range)) => range.kvs.into_iter().next(),
            _ => None,
        };
        Ok(Done::Instead(pair, now))
    }
}

fn made(header: Option<ResponseHeader>) -> Revision {
    revision(header.map_or(0, |header| header.revision))
}

fn absent(path: &[u8]) -> Compare {
    Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Create.into(),
        key: path.to_vec(),
        target_union: Some(TargetUnion::CreateRevision(0)),
    }
}

/// The key is there, at this revision: at 0 it is not there.
fn at(path: &[u8], revision: Revision) -> Result<Vec<Compare>, WriteError> {
    Ok(vec![
        modified(path, CompareResult::Greater, Revision(0))?,
        modified(path, CompareResult::Equal, revision)?,
    ])
}

fn modified(path: &[u8], result: CompareResult, revision: Revision) -> Result<Compare, WriteError> {
    let number = i64::try_from(revision.0)
        .map_err(|_| WriteError::Refused(format!("{revision} is no revision of etcd")))?;
    Ok(Compare {
        result: result.into(),
        target: CompareTarget::Mod.into(),
        key: path.to_vec(),
        target_union: Some(TargetUnion::ModRevision(number)),
    })
}
