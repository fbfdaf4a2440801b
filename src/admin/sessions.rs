//! `/sessions`: the proxy sessions, as a table for people or as JSON.

use std::num::NonZeroU16;
use std::time::Duration;

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use serde::{Deserialize, Serialize, Serializer};

use crate::admin::list::{Format, PAGE, ago, json, refused, table_limit};
use crate::admin::{Admin, JSON, TEXT};
use crate::session::SessionKey;
use crate::session::engine::view::{Listed, State as Life};
use crate::session::header::Header;
use crate::session::options::Options;
use crate::session::record::Routes;
use crate::session::served::age;
use crate::table::{or_none, printable, table};

/// Why no sessions can be listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unlisted {
    /// This process takes none, and knows of none.
    Off,
    /// The store was not read yet.
    NotRead,
}

impl IntoResponse for Unlisted {
    fn into_response(self) -> Response {
        match self {
            Self::Off => (
                StatusCode::NOT_FOUND,
                "proxy sessions are off here: start with --session-listen IP:PORT to take some\n",
            ),
            Self::NotRead => (
                StatusCode::SERVICE_UNAVAILABLE,
                "the sessions have not been read from the store yet; ask again in a moment\n",
            ),
        }
        .into_response()
    }
}

/// What is asked for.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    service: Option<String>,
    state: Option<String>,
    limit: Option<usize>,
    format: Option<Format>,
}

/// Answers `/sessions`.
pub async fn list(
    State(admin): State<Admin>,
    headers: HeaderMap,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Response {
    let asked = match asked {
        Ok(Query(asked)) => asked,
        Err(error) => return refused(&error.body_text()),
    };
    let state = match asked.state.as_deref().map(str::parse::<Life>).transpose() {
        Ok(state) => state,
        Err(error) => return refused(&format!("state {error}")),
    };
    let mut listed = match (admin.sessions)() {
        Ok(listed) => listed,
        Err(why) => return why.into_response(),
    };
    listed.retain(|session| {
        let instance = &session.record.registration.instance;
        let service = asked.service.as_deref();
        service.is_none_or(|service| service == instance.service.as_str())
            && state.is_none_or(|state| state == session.state)
    });
    // By what they are; of one instance the oldest first.
    listed.sort_unstable_by(|a, b| {
        let key = |listed: &Listed| age(&listed.record);
        let (one, other) = (&a.record.registration, &b.record.registration);
        let by_instance = one.instance.cmp(&other.instance);
        by_instance.then_with(|| key(a).cmp(&key(b)))
    });
    match asked.format.unwrap_or_else(|| Format::usual(&headers)) {
        Format::Json => {
            listed.truncate(asked.limit.unwrap_or(usize::MAX));
            let body = Body::from_stream(json("sessions", Pages(listed.into_iter())));
            ([(CONTENT_TYPE, JSON)], body).into_response()
        }
        Format::Table => {
            let limit = match table_limit(asked.limit) {
                Ok(limit) => limit,
                Err(error) => return refused(&error),
            };
            let lines: Vec<_> = listed.iter().take(limit).map(cells).collect();
            let mut text = table(COLUMNS, &lines);
            if listed.len() > limit {
                text.push_str("There are more: raise ?limit=, filter by ?service= or ?state=, or ask for ?format=json.\n");
            }
            ([(CONTENT_TYPE, TEXT)], text).into_response()
        }
    }
}

/// The rows of [`PAGE`] sessions at a time, made as they are read.
struct Pages(std::vec::IntoIter<Listed>);

impl Iterator for Pages {
    type Item = Vec<Row>;

    fn next(&mut self) -> Option<Vec<Row>> {
        let page: Vec<_> = self.0.by_ref().take(PAGE).map(|it| Row::of(&it)).collect();
        (!page.is_empty()).then_some(page)
    }
}

/// A session in JSON. Its id is in none of it.
#[derive(Debug, Serialize)]
struct Row {
    service: String,
    hostname: String,
    port: NonZeroU16,
    #[serde(skip_serializing_if = "Option::is_none")]
    maintenance_port: Option<NonZeroU16>,
    /// What of its id may be shown.
    session: String,
    /// The hash of its id.
    key: SessionKey,
    state: Life,
    #[serde(
        rename = "silent_seconds",
        skip_serializing_if = "Option::is_none",
        serialize_with = "seconds"
    )]
    silent: Option<Duration>,
    registered: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    holder: Option<String>,
    maintenance: bool,
    routes: Routes,
    headers: Vec<Header>,
    options: Options,
}

impl Row {
    fn of(
        Listed {
            record,
            state,
            silent,
        }: &Listed,
    ) -> Self {
        let instance = &record.registration.instance;
        Self {
            service: instance.service.as_str().to_owned(),
            hostname: instance.host.as_str().to_owned(),
            port: instance.port,
            maintenance_port: record.registration.maintenance_port,
            session: record.front.to_string(),
            key: record.key,
            state: *state,
            silent: *silent,
            registered: record.registered,
            holder: record.lease.holder.as_deref().map(str::to_owned),
            maintenance: record.maintenance,
            routes: record.routes.clone(),
            headers: record.headers.clone(),
            options: record.options.clone(),
        }
    }
}

/// Tenths are precise enough: silence is looked at every second.
fn seconds<S: Serializer>(time: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    time.map(|time| (time.as_secs_f64() * 10.0).round() / 10.0)
        .serialize(serializer)
}

const COLUMNS: [&str; 9] = [
    "SERVICE",
    "INSTANCE",
    "STATE",
    "SILENT",
    "MAINTENANCE",
    "ROUTES",
    "HOLDER",
    "REGISTERED",
    "SESSION",
];

fn cells(
    Listed {
        record,
        state,
        silent,
    }: &Listed,
) -> [String; COLUMNS.len()] {
    let instance = &record.registration.instance;
    let seconds = record.registered.as_second();
    let registered = Timestamp::from_second(seconds).unwrap_or(record.registered);
    [
        instance.service.to_string(),
        instance.host.with_port(instance.port.get()),
        state.to_string(),
        or_none(silent.map(ago)),
        if record.maintenance { "yes" } else { "no" }.into(),
        record.routes.0.len().to_string(),
        or_none(record.lease.holder.as_deref().map(printable)),
        registered.to_string(),
        printable(&record.front),
    ]
}

#[cfg(test)]
mod tests;
