//! Commands: what a line asks for.

use crate::session::header::Header;
use crate::session::id::SessionKey;
use crate::session::options::Setting;
use crate::session::problem::Problem;
use crate::session::registration::Registration;
use crate::session::route::Route;

/// A command, with values that are valid by themselves. Ids are only their
/// hashes from here on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// `REGISTER`: opens a session.
    Register(Registration),
    /// `ROUTE`, `HEADER`, `OPTIONS`, `MAINT_ENTER`, `MAINT_EXIT`: changes one.
    Change(SessionKey, Change),
    /// `VALIDATE`: asks whether it is in order.
    Validate(SessionKey),
    /// `SHUTDOWN`: ends it.
    Shutdown(SessionKey),
    /// `RECONNECT`: takes it up again.
    Reconnect(SessionKey),
}

/// What changes in a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// `ROUTE`: domains and paths are served by a backend.
    Route(Route),
    /// `HEADER`: a header is added to responses.
    Header(Header),
    /// `OPTIONS`: an option has a value.
    Option(Setting),
    /// `MAINT_ENTER` (true) and `MAINT_EXIT` (false).
    Maintenance(bool),
}

/// All words that a command begins with.
const WORDS: [&str; 9] = [
    "REGISTER",
    "ROUTE",
    "HEADER",
    "OPTIONS",
    "VALIDATE",
    "MAINT_ENTER",
    "MAINT_EXIT",
    "SHUTDOWN",
    "RECONNECT",
];

/// The word that a line begins with, if that is a command's.
pub(super) fn word(line: &str) -> Option<&'static str> {
    let first = line.split('|').next().unwrap_or_default();
    WORDS.into_iter().find(|word| *word == first)
}

impl Command {
    /// Parses a line, without its end.
    ///
    /// # Errors
    /// What is answered to it.
    pub fn parse(line: &str) -> Result<Self, Problem> {
        // No command has more fields; of what is too much, none is let in.
        let mut fields = [""; 6];
        let mut count = 0;
        for field in line.split('|') {
            *fields.get_mut(count).ok_or(Problem::InvalidFormat)? = field;
            count += 1;
        }
        if !WORDS.contains(&fields[0]) {
            return Err(Problem::UnknownCommand);
        }
        let key = || SessionKey::of(fields[1]);
        Ok(match &fields[..count] {
            ["REGISTER", service, host, port, maintenance] => {
                Self::Register(Registration::parse(service, host, port, maintenance)?)
            }
            ["ROUTE", _, domains, path, backend] => {
                Self::Change(key(), Change::Route(Route::parse(domains, path, backend)?))
            }
            ["HEADER", _, name, value] => {
                Self::Change(key(), Change::Header(Header::parse(name, value)?))
            }
            ["OPTIONS", _, name, value] => {
                Self::Change(key(), Change::Option(Setting::parse(name, value)?))
            }
            ["VALIDATE", _] => Self::Validate(key()),
            ["MAINT_ENTER", _] => Self::Change(key(), Change::Maintenance(true)),
            ["MAINT_EXIT", _] => Self::Change(key(), Change::Maintenance(false)),
            ["SHUTDOWN", _] => Self::Shutdown(key()),
            ["RECONNECT", _] => Self::Reconnect(key()),
            _ => return Err(Problem::InvalidFormat),
        })
    }

    /// The session that it is about; none for `REGISTER`.
    #[must_use]
    pub fn session(&self) -> Option<SessionKey> {
        match self {
            Self::Register(_) => None,
            Self::Change(key, _)
            | Self::Validate(key)
            | Self::Shutdown(key)
            | Self::Reconnect(key) => Some(*key),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_understood() {
        let key = SessionKey::of("s");
        let is = |line: &str, command: Command| assert_eq!(Command::parse(line), Ok(command));
        is(
            "REGISTER|api|h|9000|0",
            Command::Register(Registration::parse("api", "h", "9000", "0").unwrap()),
        );
        let route = Route::parse("a.com,b.com", "/v2", "http://h:9000").unwrap();
        is(
            "ROUTE|s|a.com,b.com|/v2|http://h:9000",
            Command::Change(key, Change::Route(route)),
        );
        let header = Header::parse("X-A", "b=c").unwrap();
        is(
            "HEADER|s|X-A|b=c",
            Command::Change(key, Change::Header(header)),
        );
        let setting = Setting::parse("timeout", "60s").unwrap();
        is(
            "OPTIONS|s|timeout|60s",
            Command::Change(key, Change::Option(setting)),
        );
        is("VALIDATE|s", Command::Validate(key));
        is(
            "MAINT_ENTER|s",
            Command::Change(key, Change::Maintenance(true)),
        );
        is(
            "MAINT_EXIT|s",
            Command::Change(key, Change::Maintenance(false)),
        );
        is("SHUTDOWN|s", Command::Shutdown(key));
        is("RECONNECT|s", Command::Reconnect(key));
    }

    #[test]
    fn what_is_no_command_is_told_apart() {
        for line in [
            "",
            "register|a|h|1|0",
            "Register",
            "HELLO|s",
            "HELLO",
            " VALIDATE|s",
        ] {
            assert_eq!(
                Command::parse(line),
                Err(Problem::UnknownCommand),
                "{line:?}"
            );
        }
        for line in [
            "REGISTER",
            "REGISTER|a|h|1",
            "REGISTER|a|h|1|0|x",
            "ROUTE|s|a.com|/",
            "ROUTE|s|a.com|/|http://h|x",
            "HEADER|s|a",
            "HEADER|s|a|b|c",
            "OPTIONS|s|timeout",
            "VALIDATE",
            "VALIDATE|s|x",
            "SHUTDOWN",
            "RECONNECT|s|",
            "VALIDATE|1|2|3|4|5|6|7|8",
        ] {
            assert_eq!(
                Command::parse(line),
                Err(Problem::InvalidFormat),
                "{line:?}"
            );
        }
    }

    #[test]
    fn a_command_does_not_show_the_id() {
        let command = Command::parse("VALIDATE|h-1-2-0123456789abcdef").unwrap();
        assert!(!format!("{command:?}").contains("0123456789abcdef"));
    }
}
