//! What proxy sessions come to: commands, and the connections that carry them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::metrics::connections::Connections;
use crate::metrics::{BUCKETS, SessionClosed, labels};
use crate::session::command::Change;
use crate::session::engine::view::State;
use crate::session::{Command, Problem, Reply, Sessions};

labels! {
    /// A command.
    Asked {
        /// `REGISTER`
        Register = "register",
        /// `ROUTE`
        Route = "route",
        /// `HEADER`
        Header = "header",
        /// `OPTIONS`
        Options = "options",
        /// `VALIDATE`
        Validate = "validate",
        /// `MAINT_ENTER`
        MaintEnter = "maint_enter",
        /// `MAINT_EXIT`
        MaintExit = "maint_exit",
        /// `SHUTDOWN`
        Shutdown = "shutdown",
        /// `RECONNECT`
        Reconnect = "reconnect",
        /// A line that is no command, is too long, or was not ended in time.
        Other = "other",
    }
}

impl Asked {
    /// What a command is counted as.
    #[must_use]
    pub fn of(command: &Command) -> Self {
        match command {
            Command::Register(_) => Self::Register,
            Command::Change(_, Change::Route(_)) => Self::Route,
            Command::Change(_, Change::Header(_)) => Self::Header,
            Command::Change(_, Change::Option(_)) => Self::Options,
            Command::Change(_, Change::Maintenance(true)) => Self::MaintEnter,
            Command::Change(_, Change::Maintenance(false)) => Self::MaintExit,
            Command::Validate(_) => Self::Validate,
            Command::Shutdown(_) => Self::Shutdown,
            Command::Reconnect(_) => Self::Reconnect,
        }
    }

    /// What a line is counted as that was refused before it was a command, by the
    /// word that it began with.
    #[must_use]
    pub fn refused(word: Option<&str>) -> Self {
        let is = |asked: &Self| word.is_some_and(|word| asked.as_str().eq_ignore_ascii_case(word));
        Self::ALL.into_iter().find(is).unwrap_or(Self::Other)
    }

    /// How it is usually answered, when it is not carried out. Anything else is
    /// counted too, once it has happened.
    fn usual(self) -> &'static [Answered] {
        use Answered as A;
        match self {
            Self::Register => &[A::AlreadyRegistered, A::InvalidPort],
            Self::Route => &[A::InvalidSession, A::InvalidRoute, A::RouteConflict],
            Self::Header => &[A::InvalidSession, A::InvalidHeader],
            Self::Options => &[A::InvalidSession, A::InvalidOption],
            Self::Validate => &[
                A::InvalidSession,
                A::InvalidRoute,
                A::InvalidOption,
                A::RouteConflict,
            ],
            Self::MaintEnter | Self::MaintExit | Self::Shutdown => &[A::InvalidSession],
            Self::Reconnect => &[A::Reregister],
            Self::Other => &[
                A::InvalidFormat,
                A::UnknownCommand,
                A::LineTooLong,
                A::ReadTimeout,
            ],
        }
    }

    /// Whether this answer is counted from the start, at zero.
    fn expects(self, answer: Answered) -> bool {
        use Answered::{InvalidFormat, NotAllowed, Ok, Unavailable};
        let is_command = self != Self::Other;
        self.usual().contains(&answer)
            || is_command && matches!(answer, Ok | InvalidFormat | NotAllowed | Unavailable)
    }
}

labels! {
    /// How a command was answered.
    Answered {
        /// It was carried out.
        Ok = "ok",
        /// `REREGISTER`
        Reregister = "reregister",
        /// `ERROR|Invalid session`
        InvalidSession = "invalid_session",
        /// `ERROR|Invalid format`
        InvalidFormat = "invalid_format",
        /// `ERROR|Unknown command`
        UnknownCommand = "unknown_command",
        /// `ERROR|Already registered`
        AlreadyRegistered = "already_registered",
        /// `ERROR|Invalid port`
        InvalidPort = "invalid_port",
        /// `ERROR|Invalid route`
        InvalidRoute = "invalid_route",
        /// `ERROR|Invalid option`
        InvalidOption = "invalid_option",
        /// `ERROR|Invalid header`
        InvalidHeader = "invalid_header",
        /// `ERROR|Route conflict`
        RouteConflict = "route_conflict",
        /// The policy does not allow it, whatever the words.
        NotAllowed = "not_allowed",
        /// `ERROR|Line too long`
        LineTooLong = "line_too_long",
        /// `ERROR|Read timeout`
        ReadTimeout = "read_timeout",
        /// `ERROR|Unavailable`
        Unavailable = "unavailable",
    }
}

impl Answered {
    /// What a reply is counted as.
    #[must_use]
    pub fn of(reply: &Reply) -> Self {
        let problem = match reply {
            Reply::Error(problem) => problem,
            Reply::Reregister => return Self::Reregister,
            _ => return Self::Ok,
        };
        match problem {
            Problem::InvalidSession => Self::InvalidSession,
            Problem::InvalidFormat => Self::InvalidFormat,
            Problem::UnknownCommand => Self::UnknownCommand,
            Problem::AlreadyRegistered => Self::AlreadyRegistered,
            Problem::InvalidPort => Self::InvalidPort,
            Problem::InvalidRoute(_) => Self::InvalidRoute,
            Problem::InvalidOption(_) => Self::InvalidOption,
            Problem::InvalidHeader(_) => Self::InvalidHeader,
            Problem::RouteConflict(_) => Self::RouteConflict,
            Problem::NotAllowed(_) => Self::NotAllowed,
            Problem::LineTooLong => Self::LineTooLong,
            Problem::ReadTimeout => Self::ReadTimeout,
            Problem::Unavailable => Self::Unavailable,
        }
    }
}

/// The session listener, counted.
#[derive(Debug)]
pub struct SessionMetrics {
    /// Its connections.
    pub connections: Connections<SessionClosed>,
    /// Of those that are counted from the start.
    commands: [[Option<Counter>; Answered::ALL.len()]; Asked::ALL.len()],
    all: Family<[(&'static str, &'static str); 2], Counter>,
    latency: [Histogram; Asked::ALL.len()],
}

impl SessionMetrics {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let commands = Family::<[(&str, &str); 2], Counter>::default();
        let latency = Family::<[(&str, &str); 1], Histogram>::new_with_constructor(|| {
            Histogram::new(BUCKETS)
        });
        registry.register(
            "tunnel_registry_session_commands",
            "Commands of proxy sessions, by how they were answered",
            commands.clone(),
        );
        registry.register(
            "tunnel_registry_session_command_duration_seconds",
            "Time from a command's line to its answer",
            latency.clone(),
        );
        Self {
            connections: Connections::new(
                registry,
                [
                    "tunnel_registry_session_connections",
                    "tunnel_registry_session_connections_accepted",
                    "tunnel_registry_session_connections_refused",
                    "tunnel_registry_session_connections_closed",
                ],
                "Proxy sessions: ",
            ),
            commands: Asked::ALL.map(|command| {
                Answered::ALL.map(|outcome| {
                    let labels = labels(command, outcome);
                    let expected = command.expects(outcome);
                    expected.then(|| commands.get_or_create_owned(&labels))
                })
            }),
            all: commands,
            latency: Asked::ALL
                .map(|command| latency.get_or_create_owned(&[("command", command.as_str())])),
        }
    }

    /// A command was answered.
    pub fn answered(&self, command: Asked, outcome: Answered, took: Duration) {
        match &self.commands[command as usize][outcome as usize] {
            Some(counter) => counter.inc(),
            None => self.all.get_or_create(&labels(command, outcome)).inc(),
        };
        self.latency[command as usize].observe(took.as_secs_f64());
    }
}

fn labels(command: Asked, outcome: Answered) -> [(&'static str, &'static str); 2] {
    [("command", command.as_str()), ("outcome", outcome.as_str())]
}

fn whole(count: usize) -> ConstGauge<i64> {
    ConstGauge::new(i64::try_from(count).unwrap_or(i64::MAX))
}

/// Tells what sessions there are.
#[derive(Debug)]
pub struct SessionFigures(Arc<Sessions>);

impl SessionFigures {
    /// The figures of these sessions.
    #[must_use]
    pub fn new(sessions: Arc<Sessions>) -> Self {
        Self(sessions)
    }
}

impl Collector for SessionFigures {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let figures = self.0.figures();
        let mut states = encoder.encode_descriptor(
            "tunnel_registry_sessions",
            "Proxy sessions, by what keeps them alive",
            None,
            MetricType::Gauge,
        )?;
        for state in State::ALL {
            let count = figures.states.get(&state).copied().unwrap_or(0);
            whole(count).encode(states.encode_family(&[("state", state.as_str())])?)?;
        }
        let gauge = whole(figures.waiting_writes);
        gauge.encode(encoder.encode_descriptor(
            "tunnel_registry_session_write_queue_length",
            "Writes of proxy sessions that wait for the store or are under way",
            None,
            MetricType::Gauge,
        )?)?;
        for (name, help, value) in [
            (
                "tunnel_registry_session_commands_given_up",
                "Commands that the store did not take within 4 s, or that waited too long for others; they were answered Unavailable and undone",
                figures.given_up,
            ),
            (
                "tunnel_registry_session_events_unlogged",
                "Log lines of proxy sessions that were left out because there were too many at once",
                figures.unlogged,
            ),
        ] {
            ConstCounter::new(value).encode(encoder.encode_descriptor(
                name,
                help,
                None,
                MetricType::Counter,
            )?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    #[test]
    fn commands_are_counted_by_how_they_were_answered() {
        let metrics = Metrics::new();
        let command = Command::parse("MAINT_ENTER|s").unwrap();
        let reply = Reply::from(Problem::InvalidSession);
        let took = Duration::from_micros(60);
        let (asked, answered) = (Asked::of(&command), Answered::of(&reply));
        metrics.sessions.answered(asked, answered, took);
        let text = metrics.encode().unwrap();
        for line in [
            r#"tunnel_registry_session_commands_total{command="maint_enter",outcome="invalid_session"} 1"#,
            r#"tunnel_registry_session_commands_total{command="register",outcome="ok"} 0"#,
            r#"tunnel_registry_session_command_duration_seconds_bucket{le="0.0001",command="maint_enter"} 1"#,
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn what_was_refused_counts_for_its_command() {
        for (word, asked) in [
            (Some("REGISTER"), Asked::Register),
            (Some("MAINT_EXIT"), Asked::MaintExit),
            (Some("HELLO"), Asked::Other),
            (None, Asked::Other),
        ] {
            assert_eq!(Asked::refused(word), asked);
        }
    }

    #[test]
    fn what_cannot_be_is_not_there_until_it_is() {
        let metrics = Metrics::new();
        let line = r#"{command="register",outcome="invalid_route"}"#;
        let text = metrics.encode().unwrap();
        assert!(!text.contains(line));
        let series = text.lines().filter(|line| line.contains(",outcome=\""));
        let series = series.filter(|line| line.contains("session_commands_total"));
        assert_eq!(series.count(), 57);
        let (asked, answered) = (Asked::Register, Answered::InvalidRoute);
        metrics.sessions.answered(asked, answered, Duration::ZERO);
        let text = metrics.encode().unwrap();
        assert!(text.contains(&format!("{line} 1\n")));
    }
}
