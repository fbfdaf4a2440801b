//! What a failed request means for whoever made it. Pure.

use std::time::Duration;

use tonic::{Code, Status};

use crate::backend::WriteError;
use crate::causes::chain;

/// What a failed request means.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Failure {
    /// Nobody could connect: the request was certainly not made.
    #[error("etcd cannot be reached: {0}")]
    Unconnected(String),
    /// This member could not answer, or did not in time. Another one may, and
    /// nobody knows whether this one has done what it was asked.
    #[error("etcd cannot be reached: {0}")]
    Unreachable(String),
    /// The request may be answered once somebody has done what the text says.
    #[error("{0}")]
    Unavailable(String),
    /// The request will not be answered as it is; the text says why.
    #[error("{0}")]
    Refused(String),
    /// The token is not, or no longer, accepted.
    #[error("{0}")]
    Unauthenticated(String),
    /// What was asked for is too long ago.
    #[error("etcd does not have that revision any more")]
    Compacted,
    /// etcd is not at the revision any more that it once was at.
    #[error(
        "etcd's revision went back, as after a restore from a backup; restart all replicas of the registry, and next time restore with etcdutl snapshot restore --bump-revision --mark-compacted"
    )]
    WentBack,
    /// The answer is longer than what is taken; ask for less at once.
    #[error("an answer of etcd is too long: {0}")]
    TooLong(String),
    /// There is no lease of that number.
    #[error("the lease has expired")]
    NoLease,
}

/// What etcd puts before what it says.
const SAID: &str = "etcdserver: ";

impl Failure {
    /// Not answered in time.
    pub fn late(limit: Duration) -> Self {
        Self::Unreachable(format!("no answer within {limit:?}"))
    }

    /// What the client met, or etcd said.
    pub fn of(status: &Status) -> Self {
        let message = status.message();
        match message.strip_prefix(SAID) {
            Some(said) => Self::said(status.code(), said),
            None if has_no_connection(status) => Self::Unconnected(told(status)),
            None => match status.code() {
                // Ours, about an answer.
                Code::OutOfRange if message.contains("length too large") => {
                    Self::TooLong(message.into())
                }
                // gRPC's in etcd, about a request.
                Code::ResourceExhausted => Self::too_large(message),
                _ => Self::Unreachable(told(status)),
            },
        }
    }

    /// Why etcd ended a watch, in the words that it gives.
    pub fn of_reason(reason: &str) -> Self {
        // As gRPC prints an error in Go: `rpc error: code = X desc = etcdserver: …`.
        let said = reason.rsplit_once(SAID).map_or(reason, |(_, said)| said);
        let code = match reason.contains("code = Unavailable") {
            true => Code::Unavailable,
            false => Code::Unknown,
        };
        Self::said(code, said)
    }

    /// What etcd said. Its errors are `api/v3rpc/rpctypes/error.go`.
    fn said(code: Code, said: &str) -> Self {
        let answered = || format!("etcd answered: {said}");
        match said {
            "invalid auth token" | "revision of auth store is old" | "user name is empty" => {
                Self::Unauthenticated(format!(
                    "etcd wants to know who asks ({said}); give --etcd-user and --etcd-password-file"
                ))
            }
            "authentication failed, invalid user ID or password" => Self::Unavailable(
                "etcd does not accept the user and the password; correct --etcd-user or the file of --etcd-password-file".into(),
            ),
            "permission denied" => Self::Unavailable(
                "etcd does not permit that to this user; grant it a role with readwrite on the keys under --etcd-prefix (etcdctl role grant-permission ROLE readwrite --prefix=true PREFIX)".into(),
            ),
            "mvcc: database space exceeded" => Self::Unavailable(
                "etcd's database is full and takes no writes; compact and defragment it, or raise --quota-backend-bytes, then etcdctl alarm disarm".into(),
            ),
            "mvcc: required revision has been compacted" => Self::Compacted,
            "requested lease not found" => Self::NoLease,
            "request is too large" => Self::too_large(said),
            // No leader, a new one, a learner, one that stops, too slow a disk.
            _ if code == Code::Unavailable => Self::Unreachable(answered()),
            _ if matches!(code, Code::InvalidArgument | Code::OutOfRange) => {
                Self::Refused(answered())
            }
            _ => Self::Unavailable(answered()),
        }
    }

    fn too_large(said: &str) -> Self {
        Self::Refused(format!(
            "the record is larger than etcd takes ({said}); raise --max-request-bytes of etcd"
        ))
    }

    /// Whether another member may answer.
    pub fn is_this_member(&self) -> bool {
        matches!(self, Self::Unconnected(_) | Self::Unreachable(_))
    }
}

impl From<Failure> for WriteError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(why) => Self::Refused(why),
            Failure::Unavailable(why) | Failure::Unauthenticated(why) => Self::Unavailable(why),
            other => Self::Unavailable(other.to_string()),
        }
    }
}

/// Whether there was no connection over which to ask.
fn has_no_connection(status: &Status) -> bool {
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// A status in a line: its own text has its metadata in it.
fn told(status: &Status) -> String {
    let mut text = status.message().to_owned();
    if let Some(cause) = std::error::Error::source(status) {
        let cause = chain(cause);
        if !cause.contains(&text) {
            text = format!("{text}: {cause}");
        } else {
            text = cause;
        }
    }
    match text.as_str() {
        "" => status.code().to_string(),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(code: Code, message: &str) -> Failure {
        Failure::of(&Status::new(code, message))
    }

    #[test]
    fn what_somebody_must_mend_is_told_with_what_to_do() {
        for (code, message, mend) in [
            (
                Code::PermissionDenied,
                "etcdserver: permission denied",
                "role grant-permission",
            ),
            (
                Code::ResourceExhausted,
                "etcdserver: mvcc: database space exceeded",
                "alarm disarm",
            ),
            (
                Code::InvalidArgument,
                "etcdserver: authentication failed, invalid user ID or password",
                "--etcd-password-file",
            ),
        ] {
            let Failure::Unavailable(text) = of(code, message) else {
                panic!("{message}")
            };
            assert!(text.contains(mend), "{text}");
        }
        let Failure::Unauthenticated(text) =
            of(Code::InvalidArgument, "etcdserver: user name is empty")
        else {
            panic!()
        };
        assert!(text.contains("--etcd-user"), "{text}");
    }

    #[test]
    fn another_member_may_do_what_this_one_cannot() {
        for (code, message) in [
            (Code::Unavailable, "etcdserver: no leader"),
            (Code::Unavailable, "etcdserver: leader changed"),
            (
                Code::Unavailable,
                "etcdserver: rpc not supported for learner",
            ),
            (Code::Unavailable, "tcp connect error"),
            (Code::Unknown, "transport error"),
            (Code::DeadlineExceeded, "context deadline exceeded"),
            (Code::Cancelled, ""),
        ] {
            assert!(of(code, message).is_this_member(), "{message}");
        }
        assert!(!of(Code::PermissionDenied, "etcdserver: permission denied").is_this_member());
    }

    #[test]
    fn what_is_wrong_with_a_record_is_a_refusal() {
        for (code, message) in [
            (Code::InvalidArgument, "etcdserver: request is too large"),
            (
                Code::ResourceExhausted,
                "grpc: received message larger than max (3 vs. 2)",
            ),
        ] {
            let WriteError::Refused(text) = of(code, message).into() else {
                panic!("{message}")
            };
            assert!(text.contains("--max-request-bytes"), "{text}");
        }
    }

    #[test]
    fn why_a_watch_was_ended() {
        for (reason, failure) in [
            (
                "rpc error: code = OutOfRange desc = etcdserver: mvcc: required revision has been compacted",
                Failure::Compacted,
            ),
            (
                "rpc error: code = Unavailable desc = etcdserver: no leader",
                Failure::Unreachable("etcd answered: no leader".into()),
            ),
            ("", Failure::Unavailable("etcd answered: ".into())),
        ] {
            assert_eq!(Failure::of_reason(reason), failure);
        }
        assert_eq!(
            of(
                Code::OutOfRange,
                "Error, decoded message length too large: found 5 bytes, the limit is: 4 bytes"
            ),
            Failure::TooLong(
                "Error, decoded message length too large: found 5 bytes, the limit is: 4 bytes"
                    .into()
            )
        );
        assert_eq!(
            of(Code::NotFound, "etcdserver: requested lease not found"),
            Failure::NoLease
        );
    }
}
