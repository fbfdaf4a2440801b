//! Figures: percentiles, medians, Markdown tables, and what was promised.

use std::fmt;
use std::time::Duration;

/// The value below or at which `share` (0 to 1) of the values lie, exactly: the
/// nearest rank. Zero when there is none.
pub fn percentile(sorted: &[Duration], share: f64) -> Duration {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    let at = rank.saturating_sub(1);
    sorted
        .get(at)
        .or(sorted.last())
        .copied()
        .unwrap_or_default()
}

/// The middle value; the mean of the two middle ones when their number is even.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

/// A duration in microseconds.
pub fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

/// A size in MiB.
pub fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / (1_024.0 * 1_024.0)
}

/// A Markdown table; the first column holds text, the others figures.
#[derive(Debug)]
pub struct Table {
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table without rows.
    pub fn new(head: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            head: head.into_iter().map(Into::into).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = impl Into<String>>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = |cells: &[String]| format!("| {} |", cells.join(" | "));
        let figures = " ---: |".repeat(self.head.len().saturating_sub(1));
        writeln!(f, "{}", line(&self.head))?;
        write!(f, "| --- |{figures}")?;
        self.rows
            .iter()
            .try_for_each(|row| write!(f, "\n{}", line(row)))
    }
}

/// What a figure may be.
#[derive(Clone, Copy, Debug)]
pub enum Bound {
    /// No more than this.
    AtMost(f64),
    /// No less than this.
    AtLeast(f64),
}

/// Something that is promised, and what was measured.
#[derive(Debug)]
pub struct Promise {
    /// What the figure is of.
    pub what: String,
    /// What was measured.
    pub figure: f64,
    /// What it is counted in; empty for a ratio.
    pub unit: &'static str,
    /// What was promised.
    pub bound: Bound,
}

impl Promise {
    /// Whether the promise is kept; a figure that is no number keeps none.
    pub fn holds(&self) -> bool {
        match self.bound {
            Bound::AtMost(bound) => self.figure <= bound,
            Bound::AtLeast(bound) => self.figure >= bound,
        }
    }
}

impl fmt::Display for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sign, bound) = match self.bound {
            Bound::AtMost(bound) => ('≤', bound),
            Bound::AtLeast(bound) => ('≥', bound),
        };
        let verdict = if self.holds() {
            "holds"
        } else {
            "does not hold"
        };
        let (figure, unit) = (self.figure, self.unit);
        let space = if unit.is_empty() { "" } else { " " };
        let what = &self.what;
        write!(
            f,
            "{what}: {figure:.2}{space}{unit} (promised {sign} {bound}{space}{unit}): {verdict}"
        )
    }
}

/// Whether every promise of a run is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All of them are.
    Kept,
    /// At least one is not.
    Broken,
}

/// Prints the promises of a run and judges them.
pub fn judge(promises: &[Promise]) -> Verdict {
    println!("\nPromises:\n");
    for promise in promises {
        println!("- {promise}");
    }
    if promises.iter().all(Promise::holds) {
        Verdict::Kept
    } else {
        Verdict::Broken
    }
}
