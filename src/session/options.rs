//! Options of a session.

use std::time::Duration;

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

use crate::session::place::Path;
use crate::session::problem::Problem;

/// The longest time that an option may have.
pub const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
/// The shortest interval of health checks: more would be an attack.
pub const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);
/// The largest bound on a body that is taken for one: 1 TiB.
pub const LARGEST_BODY: u64 = 1 << 40;
/// The heaviest that a session may be among those of its service.
pub const HEAVIEST: u16 = 1_000;

/// What a session asks a proxy for; none where it did not say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Options {
    /// How long a request may take, in milliseconds; 0 is without end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// How often the backend's health is checked, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_check_interval_ms: Option<u64>,
    /// How long a check may take, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_check_timeout_ms: Option<u64>,
    /// What a check asks for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_check_path: Option<Path>,
    /// The most bytes of a request's body; 0 is without bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_body_size: Option<u64>,
    /// Whether websockets are let through.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub websocket: Option<bool>,
    /// Whether responses are compressed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compression: Option<bool>,
    /// Whether HTTP/2 is spoken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http2: Option<bool>,
    /// Whether HTTP/3 is spoken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http3: Option<bool>,
    /// Its share of the requests among the sessions of its service at one place,
    /// in relation to theirs: at most [`HEAVIEST`], [`Options::WEIGHT`] unless it
    /// says otherwise; with 0 it gets none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<u16>,
}

/// One option, as `OPTIONS` announces it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Setting {
    /// `timeout`: at most [`LONGEST`], in whole milliseconds, 0 for none.
    Timeout(Duration),
    /// `health_check_interval`: from [`SHORTEST_INTERVAL`] to [`LONGEST`].
    HealthCheckInterval(Duration),
    /// `health_check_timeout`: from a millisecond to [`LONGEST`].
    HealthCheckTimeout(Duration),
    /// `health_check_path`.
    HealthCheckPath(Path),
    /// `max_body_size`, in bytes: at most [`LARGEST_BODY`], 0 for none.
    MaxBodySize(u64),
    /// `websocket`.
    Websocket(bool),
    /// `compression`.
    Compression(bool),
    /// `http2`.
    Http2(bool),
    /// `http3`.
    Http3(bool),
    /// `weight`: at most [`HEAVIEST`].
    Weight(u16),
}

impl Setting {
    /// Parses the fields of `OPTIONS`.
    ///
    /// # Errors
    /// [`Problem::InvalidOption`], also for an option that there is not.
    pub fn parse(key: &str, value: &str) -> Result<Self, Problem> {
        const MILLISECOND: Duration = Duration::from_millis(1);
        let parsed = match key {
            "timeout" => time(value, Duration::ZERO).map(Self::Timeout),
            "health_check_interval" => {
                time(value, SHORTEST_INTERVAL).map(Self::HealthCheckInterval)
            }
            "health_check_timeout" => time(value, MILLISECOND).map(Self::HealthCheckTimeout),
            "health_check_path" => Path::parse(value)
                .map(Self::HealthCheckPath)
                .map_err(|error| error.to_string()),
            "max_body_size" => size(value).map(Self::MaxBodySize),
            "websocket" => truth(value).map(Self::Websocket),
            "compression" => truth(value).map(Self::Compression),
            "http2" => truth(value).map(Self::Http2),
            "http3" => truth(value).map(Self::Http3),
            "weight" => weight(value).map(Self::Weight),
            _ => {
                return Err(Problem::InvalidOption(
                    "there are timeout, health_check_interval, health_check_timeout, \
                     health_check_path, max_body_size, websocket, compression, http2, http3, weight"
                        .into(),
                ));
            }
        };
        parsed.map_err(|why| Problem::InvalidOption(format!("{key} {why}").into()))
    }
}

impl Options {
    /// The weight of a session that did not say.
    pub const WEIGHT: u16 = 1;
    /// How often the backend of a session is checked that did not say, in
    /// milliseconds: as Traefik does of itself.
    pub const CHECK_EVERY_MS: u64 = 30_000;

    /// Changes one.
    pub fn set(&mut self, setting: &Setting) {
        match setting {
            Setting::Timeout(time) => self.timeout_ms = Some(milliseconds(*time)),
            Setting::HealthCheckInterval(time) => {
                self.health_check_interval_ms = Some(milliseconds(*time));
            }
            Setting::HealthCheckTimeout(time) => {
                self.health_check_timeout_ms = Some(milliseconds(*time));
            }
            Setting::HealthCheckPath(path) => self.health_check_path = Some(path.clone()),
            Setting::MaxBodySize(bytes) => self.max_body_size = Some(*bytes),
            Setting::Websocket(on) => self.websocket = Some(*on),
            Setting::Compression(on) => self.compression = Some(*on),
            Setting::Http2(on) => self.http2 = Some(*on),
            Setting::Http3(on) => self.http3 = Some(*on),
            Setting::Weight(weight) => self.weight = Some(*weight),
        }
    }

    /// Whether the options fit together.
    ///
    /// # Errors
    /// [`Problem::InvalidOption`] with those that do not.
    pub fn check(&self) -> Result<(), Problem> {
        let interval = self
            .health_check_interval_ms
            .unwrap_or(Self::CHECK_EVERY_MS);
        if self.health_check_timeout_ms.is_some_and(|it| it > interval) {
            return Err(Problem::InvalidOption(
                "health_check_timeout is longer than health_check_interval (30s unless set)".into(),
            ));
        }
        Ok(())
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// A time in whole milliseconds, with a unit.
fn time(text: &str, least: Duration) -> Result<Duration, String> {
    let time: Option<SignedDuration> = text.parse().ok();
    time.and_then(|time| Duration::try_from(time).ok())
        .filter(|time| time.subsec_nanos() % 1_000_000 == 0)
        .filter(|time| (least..=LONGEST).contains(time))
        .ok_or_else(|| {
            format!(
                "must be a number and a unit, such as 60s, 500ms or 1m30s, from {least:?} to 24h"
            )
        })
}

/// `true` or `false`, as the languages of the clients write them.
fn truth(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "True" | "TRUE" => Ok(true),
        "0" | "f" | "F" | "false" | "False" | "FALSE" => Ok(false),
        _ => Err("must be true or false".into()),
    }
}

/// A number without sign or unit.
fn weight(text: &str) -> Result<u16, String> {
    let digits = Some(text).filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    digits
        .and_then(|digits| digits.parse().ok())
        .filter(|weight| *weight <= HEAVIEST)
        .ok_or_else(|| format!("must be a number from 0 to {HEAVIEST}"))
}

/// A number of bytes, perhaps with a unit of 1,024, as proxies count.
fn size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = text.get(digits.len()..).unwrap_or_default().trim_start();
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => Some(0),
        "k" | "kb" | "kib" => Some(10),
        "m" | "mb" | "mib" => Some(20),
        "g" | "gb" | "gib" => Some(30),
        _ => None,
    };
    let number: Option<u64> = digits.parse().ok().filter(|_| !digits.starts_with('+'));
    number
        .zip(shift)
        .and_then(|(number, shift)| number.checked_mul(1 << shift))
        .filter(|bytes| *bytes <= LARGEST_BODY)
        .ok_or_else(|| "must be a number of bytes, such as 1048576, 512k, 10MB or 1g".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(pairs: &[(&str, &str)]) -> Options {
        let mut options = Options::default();
        for (key, value) in pairs {
            options.set(&Setting::parse(key, value).unwrap());
        }
        options
    }

    #[test]
    fn every_option_is_kept() {
        let options = set(&[
            ("timeout", "60s"),
            ("health_check_interval", "1m30s"),
            ("health_check_timeout", "500ms"),
            ("health_check_path", "/healthz"),
            ("max_body_size", "10MB"),
            ("websocket", "True"),
            ("compression", "1"),
            ("http2", "false"),
            ("http3", "0"),
            ("weight", "10"),
        ]);
        let expected = Options {
            timeout_ms: Some(60_000),
            health_check_interval_ms: Some(90_000),
            health_check_timeout_ms: Some(500),
            health_check_path: Some(Path::parse("/healthz").unwrap()),
            max_body_size: Some(10 << 20),
            websocket: Some(true),
            compression: Some(true),
            http2: Some(false),
            http3: Some(false),
            weight: Some(10),
        };
        assert_eq!(options, expected);
        let json = serde_json::to_string(&options).unwrap();
        assert_eq!(serde_json::from_str::<Options>(&json).unwrap(), expected);
    }

    #[test]
    fn values_have_bounds() {
        for (key, value) in [
            ("timeout", "0s"),
            ("timeout", "24h"),
            ("timeout", "1.5s"),
            ("health_check_interval", "100ms"),
            ("health_check_timeout", "1ms"),
            ("max_body_size", "0"),
            ("max_body_size", "1024 GiB"),
            ("weight", "0"),
            ("weight", "1000"),
        ] {
            assert!(Setting::parse(key, value).is_ok(), "{key} {value}");
        }
        for (key, value) in [
            ("timeout", ""),
            ("timeout", "60"),
            ("timeout", "-1s"),
            ("timeout", "24h1s"),
            ("timeout", "1us"),
            ("timeout", "99999999999999999999h"),
            ("health_check_interval", "99ms"),
            ("health_check_timeout", "0s"),
            ("health_check_path", "healthz"),
            ("max_body_size", ""),
            ("max_body_size", "-1"),
            ("max_body_size", "+1"),
            ("max_body_size", "1.5m"),
            ("max_body_size", "1t"),
            ("max_body_size", "10 é"),
            ("max_body_size", "1025g"),
            ("max_body_size", "18446744073709551615k"),
            ("websocket", "yes"),
            ("websocket", ""),
            ("weight", ""),
            ("weight", "1001"),
            ("weight", "65536"),
            ("weight", "-1"),
            ("weight", "+1"),
            ("weight", "0.5"),
            ("weight", "50%"),
        ] {
            let text = Setting::parse(key, value).unwrap_err().to_string();
            assert!(
                text.starts_with(&format!("Invalid option: {key} ")),
                "{text}"
            );
        }
        let unknown = Setting::parse("Timeout", "60s").unwrap_err().to_string();
        assert!(
            unknown.starts_with("Invalid option: there are timeout, "),
            "{unknown}"
        );
    }

    #[test]
    fn a_check_must_end_before_the_next() {
        let fits = set(&[
            ("health_check_interval", "1s"),
            ("health_check_timeout", "1s"),
        ]);
        assert_eq!(fits.check(), Ok(()));
        let not = set(&[
            ("health_check_interval", "1s"),
            ("health_check_timeout", "2s"),
        ]);
        assert!(matches!(not.check(), Err(Problem::InvalidOption(_))));
        // Against the interval that holds when none was set.
        assert_eq!(set(&[("health_check_timeout", "30s")]).check(), Ok(()));
        let alone = set(&[("health_check_timeout", "31s")]).check();
        assert!(matches!(alone, Err(Problem::InvalidOption(_))));
        // Without a timeout of its own a check is cut to the interval.
        assert_eq!(set(&[("health_check_interval", "1s")]).check(), Ok(()));
    }
}
