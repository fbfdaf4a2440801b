//! Replies: one line each.

use crate::session::id::SessionId;
use crate::session::problem::Problem;

/// The most bytes of a reply, its line feed among them.
pub const MAX_REPLY: usize = 1_024;

/// What a command is answered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// A session was opened.
    Ack(SessionId),
    /// A route is served.
    RouteOk,
    /// A header is added.
    HeaderOk,
    /// An option has its value.
    OptionsOk,
    /// The session is in order, or was taken up again.
    Ok,
    /// Maintenance was entered or left.
    MaintOk,
    /// The session has ended; the connection is to be closed.
    Goodbye,
    /// The session cannot be taken up again: register anew.
    Reregister,
    /// The command was not carried out.
    Error(Problem),
}

impl Reply {
    /// The line, with its end: at most [`MAX_REPLY`] bytes. It may hold a
    /// session's id: send it, and do not log it.
    #[must_use]
    pub fn line(&self) -> String {
        let mut line = match self {
            Self::Ack(id) => format!("ACK|{}", id.secret()),
            Self::RouteOk => "ROUTE_OK".into(),
            Self::HeaderOk => "HEADER_OK".into(),
            Self::OptionsOk => "OPTIONS_OK".into(),
            Self::Ok => "OK".into(),
            Self::MaintOk => "MAINT_OK".into(),
            Self::Goodbye => "GOODBYE".into(),
            Self::Reregister => "REREGISTER".into(),
            Self::Error(problem) => format!("ERROR|{problem}"),
        };
        let end = line.floor_char_boundary(MAX_REPLY - 1);
        line.truncate(end);
        line.push('\n');
        line
    }
}

impl From<Problem> for Reply {
    fn from(problem: Problem) -> Self {
        Self::Error(problem)
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::session::host::HostName;
    use crate::session::registration::Registration;

    #[test]
    fn a_reply_is_one_short_line() {
        for (reply, line) in [
            (Reply::RouteOk, "ROUTE_OK\n"),
            (Reply::Reregister, "REREGISTER\n"),
            (Problem::InvalidSession.into(), "ERROR|Invalid session\n"),
            (
                Problem::RouteConflict("a.com/ is served by web".into()).into(),
                "ERROR|Route conflict: a.com/ is served by web\n",
            ),
        ] {
            assert_eq!(reply.line(), line);
        }
        let long: Reply = Problem::RouteConflict("é".repeat(2_000)).into();
        assert!((MAX_REPLY - 1..=MAX_REPLY).contains(&long.line().len()));
        assert!(long.line().ends_with("é\n"));
    }

    #[test]
    fn the_longest_id_fits() {
        let host = vec!["x".repeat(63); 3].join(".") + "." + &"y".repeat(61);
        assert_eq!(host.len(), HostName::MAX_BYTES);
        let registration = Registration::parse("a", &host, "65535", "0").unwrap();
        let id = SessionId::new(&registration.instance, Timestamp::MIN, [0xff; 16]);
        assert_eq!(
            Reply::Ack(id.clone()).line(),
            format!("ACK|{}\n", id.secret())
        );
    }
}
