//! Tables for people.

use std::fmt::Write as _;

/// Rows in aligned columns.
#[must_use]
pub fn table<const N: usize>(columns: [&str; N], lines: &[[String; N]]) -> String {
    let mut widths = columns.map(str::len);
    for line in lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    let mut write = |cells: [&str; N]| {
        let mut line = String::new();
        for (cell, width) in cells.into_iter().zip(widths) {
            // Writing to a String cannot fail.
            let _ = write!(line, "{cell:width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    };
    write(columns);
    for line in lines {
        write(line.each_ref().map(String::as_str));
    }
    text
}

/// A cell, which may be empty.
#[must_use]
pub fn or_none(text: Option<String>) -> String {
    text.unwrap_or_else(|| "-".into())
}

/// What comes from a store, which others may write.
#[must_use]
pub fn printable(text: &str) -> String {
    text.replace(char::is_control, "\u{fffd}")
}
