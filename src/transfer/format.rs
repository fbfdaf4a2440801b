//! The file: JSON Lines, the first of which says what it is.
//!
//! ```text
//! {"format":"tunnel-registry-export","version":1,"program":"0.1.0","written":"…","records":2}
//! {"kind":"endpoint","record":{…}}
//! {"kind":"service","record":{…}}
//! ```
//!
//! A record is as a file store holds it. Reading is all or nothing: a file that was
//! cut off, or has one line that cannot be read, yields no record.

use std::io::{self, BufRead, Read as _, Write};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::map::Map;
use crate::record::{Key, Record};
use crate::transfer::{MAX_RECORDS, What};

/// What the first line calls the format.
pub const FORMAT: &str = "tunnel-registry-export";
/// The version that is written, and the only one that is read. To be raised when a
/// program that knows the former one would misread a file.
pub const VERSION: u64 = 1;
/// The longest line, in bytes: the largest record has a tenth.
pub const MAX_LINE_BYTES: usize = 1 << 20;

/// The first line.
#[derive(Debug, Serialize, Deserialize)]
struct Header {
    format: String,
    version: u64,
    /// The version of the program that wrote it.
    #[serde(default)]
    program: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    written: Option<Timestamp>,
    /// How many records follow. Who takes lines out on purpose takes this out, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    records: Option<usize>,
}

/// Why a file cannot be read. Lines count from 1.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The system refused.
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
    /// Something else, or nothing.
    #[error(
        "it is not what `tunnel-registry export` writes: its first line does not say {{\"format\":\"{FORMAT}\",…}}"
    )]
    Foreign,
    /// Of another version.
    #[error(
        "it has format version {0}, and this program reads only {VERSION}; use the version of the program that wrote it"
    )]
    Version(u64),
    /// A line that is no record.
    #[error("line {line} cannot be read, so nothing was: {why}")]
    Line {
        /// Which.
        line: usize,
        /// What is wrong with it.
        why: String,
    },
    /// Lines are missing, or too many.
    #[error(
        "it has {found} records where its first line says {expected}: it was cut off, or changed (then take \"records\" out of its first line)"
    )]
    Count {
        /// How many it should have.
        expected: usize,
        /// How many it has.
        found: usize,
    },
    /// More than are moved at once.
    #[error("it has more than {MAX_RECORDS} records; split it, each part with the first line")]
    TooMany,
}

/// Writes records.
///
/// # Errors
/// When they cannot be written.
pub fn write(out: &mut impl Write, records: &[Record], now: Timestamp) -> io::Result<()> {
    let header = Header {
        format: FORMAT.into(),
        version: VERSION,
        program: env!("CARGO_PKG_VERSION").into(),
        written: Some(now),
        records: Some(records.len()),
    };
    let mut line = |text: serde_json::Result<String>| {
        out.write_all(text?.as_bytes())?;
        out.write_all(b"\n")
    };
    line(serde_json::to_string(&header))?;
    for record in records {
        line(serde_json::to_string(record))?;
    }
    out.flush()
}

/// Reads everything that [`write()`] wrote.
///
/// # Errors
/// When any of it cannot be read.
pub fn read(input: &mut impl BufRead) -> Result<Vec<Record>, ReadError> {
    let mut buffer = Vec::new();
    // Of the first line even the length may be anything.
    let header = match next_line(input, &mut buffer) {
        Ok(true) => serde_json::from_slice::<Header>(&buffer).ok(),
        Ok(false) => None,
        Err(error) if error.kind() == io::ErrorKind::FileTooLarge => None,
        Err(error) => return Err(error.into()),
    };
    let header = header.filter(|header| header.format == FORMAT);
    let header = header.ok_or(ReadError::Foreign)?;
    if header.version != VERSION {
        return Err(ReadError::Version(header.version));
    }
    let (mut records, mut lines) = (Vec::new(), Map::<Key, usize>::default());
    for line in 2.. {
        let failed = |why: String| ReadError::Line { line, why };
        match next_line(input, &mut buffer) {
            Ok(true) => {}
            Ok(false) => break,
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
                return Err(failed(error.to_string()));
            }
            Err(error) => return Err(error.into()),
        }
        if buffer.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let record: Record =
            serde_json::from_slice(&buffer).map_err(|error| failed(error.to_string()))?;
        if What::of(record.kind()).is_none() {
            return Err(failed("a replica's own lease is not moved".into()));
        }
        let key = record.key();
        if let Some(before) = lines.get(&key) {
            return Err(failed(format!("{key} is on line {before} already")));
        }
        if records.len() >= MAX_RECORDS {
            return Err(ReadError::TooMany);
        }
        lines.insert(key, line);
        records.push(record);
    }
    match header.records {
        Some(expected) if expected != records.len() => Err(ReadError::Count {
            expected,
            found: records.len(),
        }),
        _ => Ok(records),
    }
}

/// Reads a line without its end; false when there is none.
fn next_line(input: &mut impl BufRead, buffer: &mut Vec<u8>) -> io::Result<bool> {
    buffer.clear();
    let limit = MAX_LINE_BYTES as u64 + 1;
    if input.take(limit).read_until(b'\n', buffer)? == 0 {
        return Ok(false);
    }
    if buffer.last() == Some(&b'\n') {
        buffer.pop();
    } else if buffer.len() > MAX_LINE_BYTES {
        let why = format!("it is longer than {MAX_LINE_BYTES} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transfer::plan::tests::{endpoint, instance, service, session};

    fn all() -> Vec<Record> {
        vec![
            endpoint("t", "c", "10.0.0.1:80"),
            session("h", "9000"),
            service("db", 7, 9),
            instance("db", "10.0.0.1:80", 7, 8),
        ]
    }

    fn text(records: &[Record]) -> String {
        let mut out = Vec::new();
        write(&mut out, records, Timestamp::UNIX_EPOCH).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn fails(text: &str) -> String {
        read(&mut text.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn what_was_written_is_read() {
        for records in [all(), Vec::new()] {
            let text = text(&records);
            assert!(text.starts_with(r#"{"format":"tunnel-registry-export","version":1,"#));
            assert_eq!(text.lines().count(), 1 + records.len());
            assert_eq!(read(&mut text.as_bytes()).unwrap(), records);
            // Without the last line feed, and with more of them.
            assert_eq!(read(&mut text.trim_end().as_bytes()).unwrap(), records);
            let spaced = text.replace('\n', "\r\n\n");
            assert_eq!(read(&mut spaced.as_bytes()).unwrap(), records);
        }
    }

    #[test]
    fn what_was_cut_off_yields_nothing() {
        let text = text(&all());
        for cut in 0..text.len() - 1 {
            assert!(read(&mut &text.as_bytes()[..cut]).is_err(), "{cut}");
        }
        let (first, rest) = text.split_once('\n').unwrap();
        let without = rest.split_inclusive('\n').skip(1).collect::<String>();
        let error = fails(&format!("{first}\n{without}"));
        assert!(
            error.contains("3 records") && error.contains("says 4"),
            "{error}"
        );
        let filtered = first.replace(r#","records":4"#, "");
        let read = read(&mut format!("{filtered}\n{without}").as_bytes());
        assert_eq!(read.unwrap(), all()[1..]);
    }

    #[test]
    fn each_fault_is_named_with_its_line() {
        let good = text(&all());
        let with = |line: &str| {
            let header = format!(r#"{{"format":"{FORMAT}","version":1}}"#);
            fails(&format!("{header}\n{line}\n"))
        };
        for (text, part) in [
            ("", "first line"),
            ("\n", "first line"),
            ("{}", "first line"),
            (r#"{"format":"else","version":1}"#, "first line"),
            (&"x".repeat(2 * MAX_LINE_BYTES), "first line"),
            (
                r#"{"format":"tunnel-registry-export","version":2}"#,
                "version 2",
            ),
        ] {
            let error = fails(text);
            assert!(error.contains(part), "{error}");
        }
        let address = good.replace("10.0.0.1:80", "10.0.0.1");
        assert!(fails(&address).contains("line 2 cannot be read"));
        for (line, part) in [
            ("{", "line 2 cannot be read"),
            (r#"{"kind":"pod","record":{}}"#, "unknown variant"),
            (r#"{"kind":"endpoint","record":{}}"#, "missing field"),
            (&" ".repeat(2 * MAX_LINE_BYTES), "longer than"),
            (
                r#"{"kind":"replica","record":{"identity":"r","renew_time":"2026-01-01T00:00:00Z","duration_seconds":40}}"#,
                "a replica's own lease",
            ),
        ] {
            let error = with(line);
            assert!(error.contains(part), "{error}");
        }
        let one = good.lines().nth(1).unwrap();
        assert!(with(&format!("{one}\n{one}")).contains("line 3 cannot be read"));
        let not_text = [good.as_bytes(), b"\xff\n"].concat();
        assert!(read(&mut &not_text[..]).is_err());
    }
}
