//! What the outages came to.

use std::time::Duration;

use super::herd::Count;
use super::{PASSING, TUNNELS};
use crate::common::report::{Bound, Promise, Table};
use crate::common::wire::CONNECTORS;
use crate::millis;

/// What an outage came to.
pub struct Row {
    /// What happened.
    pub what: &'static str,
    /// Until the API server was ready again.
    pub away: Duration,
    /// Gets of what is there throughout.
    pub gets: Count,
    /// Renewals of all that is there.
    pub renewals: Count,
    /// Visits through real gosts.
    pub visits: Count,
    /// The longest Register or Deregister in it.
    pub call: Duration,
    /// From when the API server was ready until everything was right.
    pub right_after: Duration,
    /// What was not as it should be in the end.
    pub wrong: usize,
    /// Live endpoints that were deleted, and perhaps made again.
    pub lost: usize,
}

/// Prints the figures and returns what was promised of them.
pub fn report(rows: &[Row], not_real: Option<&str>) -> Vec<Promise> {
    let mut table = Table::new([
        "outage",
        "away, s",
        "Gets, failed",
        "longest, ms",
        "Renews, failed",
        "longest, ms",
        "visits, failed",
        "longest Register, ms",
        "right after, s",
        "lost",
        "wrong",
    ]);
    let of = |count: &Count| format!("{}, {}", count.made, count.failed);
    let longest = |count: &Count| format!("{:.0}", millis(count.longest));
    for row in rows {
        table.row([
            row.what.into(),
            format!("{:.0}", row.away.as_secs_f64()),
            of(&row.gets),
            longest(&row.gets),
            of(&row.renewals),
            longest(&row.renewals),
            of(&row.visits),
            format!("{:.0}", millis(row.call)),
            format!("{:.1}", row.right_after.as_secs_f64()),
            row.lost.to_string(),
            row.wrong.to_string(),
        ]);
    }
    let endpoints = TUNNELS * CONNECTORS;
    println!("\n## Outages, {endpoints} endpoints, two replicas, a controller\n\n{table}");
    match not_real {
        None => println!("\nVisitors go through a pair of real gosts with a replica each."),
        Some(why) => println!("\nNo real gosts, so no visits: {why}."),
    }
    println!(
        "The endpoints are simulated gosts'. Away: until the API server was ready again. Right: \
         all objects are there, of {PASSING} tunnels that came in the outage too and none of as \
         many that left; no write waits, and both replicas answer so."
    );
    let mut promises = vec![
        none("Gets that failed", rows, |row| row.gets.failed),
        none("Renews that failed", rows, |row| row.renewals.failed),
        none("live endpoints that were deleted", rows, |row| row.lost),
        none("endpoints not as they should be afterwards", rows, |row| {
            row.wrong
        }),
    ];
    if not_real.is_none() {
        let visits = none("visits through real gosts that failed", rows, |row| {
            row.visits.failed
        });
        promises.push(visits);
    }
    promises
}

fn none(what: &str, rows: &[Row], count: fn(&Row) -> usize) -> Promise {
    Promise {
        what: what.into(),
        figure: rows.iter().map(count).sum::<usize>() as f64,
        unit: "",
        bound: Bound::AtMost(0.0),
    }
}
