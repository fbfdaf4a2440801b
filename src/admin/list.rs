//! What the lists of the admin port have in common: a table for people, or JSON.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::{Stream, stream};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};

use crate::admin::{JSON, wants_json};

/// Rows that are asked for at once; a lock is held no longer than that takes.
pub const PAGE: usize = 512;
/// Rows of a table when no limit is given.
pub const TABLE: usize = 1_000;
/// The most rows of a table, which is put together in memory.
pub const TABLE_MOST: usize = 10_000;

/// How a list is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Format {
    Table,
    Json,
}

impl Format {
    /// What a caller gets who does not say.
    pub(super) fn usual(headers: &HeaderMap) -> Self {
        if wants_json(headers) {
            Self::Json
        } else {
            Self::Table
        }
    }
}

/// How many rows a table has.
///
/// # Errors
/// When it would be too long; the text says what to do.
pub(super) fn table_limit(limit: Option<usize>) -> Result<usize, String> {
    match limit.unwrap_or(TABLE) {
        limit if limit > TABLE_MOST => Err(format!(
            "limit must be at most {TABLE_MOST} for a table; ask for format=json"
        )),
        limit => Ok(limit),
    }
}

/// The answer to what cannot be asked.
pub(super) fn refused(why: &str) -> Response {
    let body = serde_json::json!({ "error": why }).to_string() + "\n";
    let json = [(CONTENT_TYPE, JSON)];
    (StatusCode::BAD_REQUEST, json, body).into_response()
}

/// The pages as one JSON object with one field, one chunk a page.
pub(super) fn json<R: Serialize>(
    field: &str,
    pages: impl Iterator<Item = Vec<R>>,
) -> impl Stream<Item = serde_json::Result<Bytes>> {
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
    let whole = |text: String| std::iter::once(Ok(Bytes::from(text)));
    let begin = format!("{{\"{field}\":[");
    stream::iter(whole(begin).chain(rows).chain(whole("]}\n".to_owned())))
}

/// In tenths of a second as long as those matter.
pub(super) fn ago(age: Duration) -> String {
    if age < Duration::from_secs(10) {
        format!("{:.1}s ago", age.as_secs_f64())
    } else {
        format!("{}s ago", age.as_secs())
    }
}
