//! The tables of a run, and what is promised about calls.

use std::collections::BTreeMap;

use super::cells::{Cell, Op};
use super::rounds::{Column, Figures};
use crate::common::report::{Bound, Promise, Table, Verdict, judge, median};
use crate::common::wire::Protocol;

/// Everything that was measured.
#[derive(Debug)]
pub struct Results {
    cells: BTreeMap<Cell, Rounds>,
    peer: bool,
}

/// The rounds of a cell; those with the same place were made one after the other.
#[derive(Debug, Default)]
struct Rounds {
    ours: Vec<Figures>,
    nothing: Vec<Figures>,
    peer: Vec<Figures>,
}

/// One of the figures.
type Pick = fn(&Figures) -> f64;

impl Rounds {
    /// The median of a server's rounds.
    fn of(&self, column: Column, pick: Pick) -> Option<f64> {
        let rounds = self.column(column);
        (!rounds.is_empty()).then(|| median(rounds.iter().map(pick)))
    }

    /// The median of the rounds' ratios: neighbours in time share what else
    /// the machine was doing.
    fn ratio(&self, to: Column, pick: Pick) -> Option<f64> {
        let pairs = self.ours.iter().zip(self.column(to));
        let ratios: Vec<f64> = pairs.map(|(own, other)| pick(own) / pick(other)).collect();
        (!ratios.is_empty()).then(|| median(ratios))
    }

    fn column(&self, column: Column) -> &[Figures] {
        match column {
            Column::Ours => &self.ours,
            Column::Nothing => &self.nothing,
            Column::Peer => &self.peer,
        }
    }
}

impl Results {
    /// Nothing measured yet; with columns for the peer or without.
    pub fn new(peer: bool) -> Self {
        Self {
            cells: BTreeMap::new(),
            peer,
        }
    }

    /// Adds a round.
    pub fn add(&mut self, cell: Cell, column: Column, figures: Figures) {
        let rounds = self.cells.entry(cell).or_default();
        match column {
            Column::Ours => rounds.ours.push(figures),
            Column::Nothing => rounds.nothing.push(figures),
            Column::Peer => rounds.peer.push(figures),
        }
    }

    /// Prints tables and promises.
    pub fn report(&self) -> Verdict {
        self.table("Server processor time a call, µs", |f| f.cpu, 1);
        self.table("Calls a second", |f| f.rate, 0);
        self.table("p50, µs", |f| f.p50, 0);
        self.table("p99, µs", |f| f.p99, 0);
        judge(&self.promises())
    }

    fn table(&self, title: &str, pick: Pick, digits: usize) {
        let mut columns = vec!["call", "ours", "nothing", "ours/nothing"];
        if self.peer {
            columns.extend(["peer", "ours/peer"]);
        }
        let mut table = Table::new(columns.iter().copied());
        for (cell, rounds) in &self.cells {
            let written = |figure: Option<f64>, digits: usize| {
                figure.map_or_else(|| "–".into(), |figure| format!("{figure:.digits$}"))
            };
            let mut row = vec![
                cell.to_string(),
                written(rounds.of(Column::Ours, pick), digits),
                written(rounds.of(Column::Nothing, pick), digits),
                written(rounds.ratio(Column::Nothing, pick), 2),
                written(rounds.of(Column::Peer, pick), digits),
                written(rounds.ratio(Column::Peer, pick), 2),
            ];
            row.truncate(columns.len());
            table.row(row);
        }
        println!("\n## {title}\n\n{table}");
    }

    /// What is promised of the cells that were measured.
    fn promises(&self) -> Vec<Promise> {
        let promised = |cell: &Cell| {
            let op = match cell.protocol {
                Protocol::Grpc => cell.op != Op::Reregister,
                Protocol::Http => cell.op == Op::Get,
            };
            op && cell.concurrency == 64
        };
        let measured = self.cells.iter().filter(|(cell, _)| promised(cell));
        measured
            .flat_map(|(cell, r)| cell_promises(cell, r))
            .collect()
    }
}

fn cell_promises(cell: &Cell, rounds: &Rounds) -> Vec<Promise> {
    let cpu: Pick = |figures| figures.cpu;
    let rate: Pick = |figures| figures.rate;
    let p99: Pick = |figures| figures.p99;
    [
        ("processor time", Column::Nothing, cpu, Bound::AtMost(1.2)),
        ("processor time", Column::Peer, cpu, Bound::AtMost(0.35)),
        ("throughput", Column::Nothing, rate, Bound::AtLeast(0.67)),
        ("p99", Column::Nothing, p99, Bound::AtMost(1.5)),
        ("throughput", Column::Peer, rate, Bound::AtLeast(1.8)),
    ]
    .into_iter()
    .filter_map(|(figure, to, pick, bound)| {
        let other = if to == Column::Peer {
            "peer"
        } else {
            "nothing"
        };
        Some(Promise {
            what: format!("{cell} {figure}, ours/{other}"),
            figure: rounds.ratio(to, pick)?,
            unit: "",
            bound,
        })
    })
    .collect()
}
