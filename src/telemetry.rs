//! Logs: structured, to standard error.

use std::fmt;
use std::io::{self, IsTerminal as _};
use std::str::FromStr;

use clap::ValueEnum;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};
use tracing_subscriber::{EnvFilter, Layer as _};

/// How to log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Text on a terminal, JSON otherwise.
    Auto,
    /// A line of text for people.
    Text,
    /// An object a line for machines.
    Json,
}

/// What to log: directives of `tracing`, known to be valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFilter(String);

/// Why a text is no log filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogFilterError {
    /// A single word that is no level. `tracing` would take it for a part of
    /// the program and log nothing else.
    #[error(
        "{0:?} is no level; use off, error, warn, info, debug or trace, or name a part and its level, as in info,tunnel_registry::registry=debug"
    )]
    NoLevel(String),
    /// Anything else that `tracing` refuses.
    #[error("is no log filter: {0}")]
    Invalid(String),
}

impl FromStr for LogFilter {
    type Err = LogFilterError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        for word in text.split(',').map(str::trim) {
            // An empty word parses as a level.
            let level = !word.is_empty() && word.parse::<LevelFilter>().is_ok();
            if !level && !word.contains(['=', '[']) {
                return Err(LogFilterError::NoLevel(word.to_owned()));
            }
        }
        EnvFilter::builder()
            .parse(text)
            .map_err(|error| LogFilterError::Invalid(error.to_string()))?;
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for LogFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Format {
    /// Whether lines are JSON, where standard error is a terminal or not.
    fn is_json(self, terminal: bool) -> bool {
        match self {
            Self::Auto => !terminal,
            Self::Text => false,
            Self::Json => true,
        }
    }
}

/// Begins to log to standard error, for the whole process.
///
/// # Errors
/// When something else already logs in this process.
pub fn start(filter: &LogFilter, format: Format) -> Result<(), TryInitError> {
    let terminal = io::stderr().is_terminal();
    let layer = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    let layer = if format.is_json(terminal) {
        layer
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .boxed()
    } else {
        layer.with_ansi(terminal).boxed()
    };
    tracing_subscriber::registry()
        .with(EnvFilter::new(&filter.0))
        .with(layer)
        .try_init()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_directives_are_filters() {
        for text in [
            "off",
            "info",
            "WARN",
            "debug",
            "info,tunnel_registry::registry=debug",
            "tunnel_registry[{tunnel}]=trace",
        ] {
            assert!(text.parse::<LogFilter>().is_ok(), "{text:?}");
        }
    }

    #[test]
    fn a_mistyped_level_is_refused() {
        for text in [
            "",
            "inof",
            "verbose",
            "info,",
            "info, debgu",
            "tunnel_registry=loud",
        ] {
            assert!(text.parse::<LogFilter>().is_err(), "{text:?}");
        }
        let error = "inof".parse::<LogFilter>().unwrap_err().to_string();
        assert!(error.contains("use off, error, warn"), "{error}");
    }

    #[test]
    fn auto_is_text_on_a_terminal_only() {
        assert!(!Format::Auto.is_json(true));
        assert!(Format::Auto.is_json(false));
        assert!(!Format::Text.is_json(false));
        assert!(Format::Json.is_json(true));
    }
}
