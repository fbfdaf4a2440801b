//! `/endpoints`: what is registered, as a table for people or as JSON.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::{Stream, stream};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use serde::Deserialize;

use crate::admin::{Admin, JSON, TEXT, wants_json};
use crate::listing::{Filter, Health, Listing, Row};
use crate::record::EndpointKey;

/// Rows that are asked for at once; a lock is held no longer than that takes.
pub const PAGE: usize = 512;
/// Rows of a table when no limit is given.
pub const TABLE: usize = 1_000;
/// The most rows of a table, which is put together in memory.
pub const TABLE_MOST: usize = 10_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Format {
    Table,
    Json,
}

/// What is asked for.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    tunnel: Option<String>,
    node: Option<String>,
    limit: Option<usize>,
    format: Option<Format>,
}

impl Asked {
    fn filter(&self) -> Result<Filter, String> {
        let name = |field: &str, text: &Option<String>| match text {
            None => Ok(None),
            Some(text) => text
                .parse()
                .map(Some)
                .map_err(|error| format!("{field} {error}")),
        };
        Ok(Filter {
            tunnel: name("tunnel", &self.tunnel)?,
            node: name("node", &self.node)?,
        })
    }
}

/// Answers `/endpoints`.
pub async fn list(
    State(admin): State<Admin>,
    headers: HeaderMap,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Response {
    let asked = match asked {
        Ok(Query(asked)) => asked,
        Err(error) => return refused(&error.body_text()),
    };
    let filter = match asked.filter() {
        Ok(filter) => filter,
        Err(error) => return refused(&error),
    };
    let usual = if wants_json(&headers) {
        Format::Json
    } else {
        Format::Table
    };
    match asked.format.unwrap_or(usual) {
        Format::Json => {
            let limit = asked.limit.unwrap_or(usize::MAX);
            let body = Body::from_stream(json(Pages::new(admin.listing, &filter, limit)));
            ([(CONTENT_TYPE, JSON)], body).into_response()
        }
        Format::Table => {
            let limit = asked.limit.unwrap_or(TABLE);
            if limit > TABLE_MOST {
                return refused(&format!(
                    "limit must be at most {TABLE_MOST} for a table; ask for format=json"
                ));
            }
            let mut pages = Pages::new(admin.listing, &filter, limit);
            let rows: Vec<Row> = pages.by_ref().flatten().collect();
            ([(CONTENT_TYPE, TEXT)], table(&rows, pages.more)).into_response()
        }
    }
}

fn refused(why: &str) -> Response {
    let body = serde_json::json!({ "error": why }).to_string() + "\n";
    let json = [(CONTENT_TYPE, JSON)];
    (StatusCode::BAD_REQUEST, json, body).into_response()
}

/// The pages of a listing, up to a number of rows.
struct Pages {
    listing: Arc<dyn Listing>,
    keys: std::vec::IntoIter<EndpointKey>,
    /// Whether there is more than the limit.
    more: bool,
}

impl Pages {
    fn new(listing: Arc<dyn Listing>, filter: &Filter, limit: usize) -> Self {
        let mut keys = listing.keys(filter);
        let more = keys.len() > limit;
        keys.truncate(limit);
        Self {
            listing,
            keys: keys.into_iter(),
            more,
        }
    }
}

impl Iterator for Pages {
    type Item = Vec<Row>;

    fn next(&mut self) -> Option<Vec<Row>> {
        let page: Vec<_> = self.keys.by_ref().take(PAGE).collect();
        (!page.is_empty()).then(|| self.listing.rows(&page))
    }
}

/// The pages as one JSON object, one chunk a page.
fn json(pages: Pages) -> impl Stream<Item = serde_json::Result<Bytes>> {
    let mut first = true;
    let rows = pages.map(move |rows| {
        let mut chunk = Vec::new();
        for row in rows {
            chunk.extend_from_slice(if first { b"\n" } else { b",\n" });
            first = false;
            serde_json::to_writer(&mut chunk, &row)?;
        }
        Ok(chunk.into())
    });
    let whole = |text: &'static str| std::iter::once(Ok(Bytes::from_static(text.as_bytes())));
    stream::iter(whole("{\"endpoints\":[").chain(rows).chain(whole("]}\n")))
}

const COLUMNS: [&str; 11] = [
    "TUNNEL",
    "NODE",
    "CONNECTOR",
    "NETWORK",
    "ADDRESS",
    "ORIGIN",
    "HOLDER",
    "HEALTH",
    "HEARD",
    "LEASE",
    "STORED",
];

fn cells(row: &Row) -> [String; COLUMNS.len()] {
    let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".into());
    [
        row.tunnel.to_string(),
        row.node.to_string(),
        row.connector.to_string(),
        row.network.to_string(),
        row.address.to_string(),
        or_none(row.origin.map(|ip| ip.to_string())),
        or_none(row.holder.as_deref().map(printable)),
        match row.health {
            Health::Healthy => "healthy".into(),
            Health::Doubtful(why) => format!("doubtful ({why})"),
        },
        or_none(row.heard_ago.map(ago)),
        format!("{}s", row.lease_seconds),
        row.stored.into(),
    ]
}

/// A holder comes from a store, which others may write.
fn printable(text: &str) -> String {
    text.replace(char::is_control, "\u{fffd}")
}

/// In tenths of a second as long as those matter.
fn ago(age: Duration) -> String {
    if age < Duration::from_secs(10) {
        format!("{:.1}s ago", age.as_secs_f64())
    } else {
        format!("{}s ago", age.as_secs())
    }
}

/// The rows in aligned columns, and what to do when there are `more`.
fn table(rows: &[Row], more: bool) -> String {
    let lines: Vec<_> = rows.iter().map(cells).collect();
    let mut widths = COLUMNS.map(str::len);
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    let mut write = |cells: [&str; COLUMNS.len()]| {
        let mut line = String::new();
        for (cell, width) in cells.into_iter().zip(widths) {
            // Writing to a String cannot fail.
            let _ = write!(line, "{cell:width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    };
    write(COLUMNS);
    for line in &lines {
        write(line.each_ref().map(String::as_str));
    }
    if more {
        text.push_str("There are more: raise ?limit=, filter by ?tunnel= or ?node=, or ask for ?format=json.\n");
    }
    text
}

#[cfg(test)]
mod tests;
