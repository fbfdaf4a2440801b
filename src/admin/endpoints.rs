//! `/endpoints`: what is registered, as a table for people or as JSON.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use serde::Deserialize;

use crate::admin::list::{Format, PAGE, ago, json, refused, table_limit};
use crate::admin::{Admin, JSON, TEXT};
use crate::listing::{Filter, Health, Listing, Row};
use crate::record::EndpointKey;
use crate::table::{or_none, printable, table};

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
    match asked.format.unwrap_or_else(|| Format::usual(&headers)) {
        Format::Json => {
            let limit = asked.limit.unwrap_or(usize::MAX);
            let pages = Pages::new(admin.listing, &filter, limit);
            let body = Body::from_stream(json("endpoints", pages));
            ([(CONTENT_TYPE, JSON)], body).into_response()
        }
        Format::Table => {
            let limit = match table_limit(asked.limit) {
                Ok(limit) => limit,
                Err(error) => return refused(&error),
            };
            let mut pages = Pages::new(admin.listing, &filter, limit);
            let rows: Vec<_> = pages.by_ref().flatten().map(|row| cells(&row)).collect();
            let mut text = table(COLUMNS, &rows);
            if pages.more {
                text.push_str("There are more: raise ?limit=, filter by ?tunnel= or ?node=, or ask for ?format=json.\n");
            }
            ([(CONTENT_TYPE, TEXT)], text).into_response()
        }
    }
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

#[cfg(test)]
mod tests;
