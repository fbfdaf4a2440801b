//! Server-sent events, decoded within bounds.
//!
//! More than the standard asks for is forgiven: a comment may stand anywhere, as a
//! line of its own.

use std::collections::VecDeque;

/// The longest event, in bytes: several times what the registry sends.
pub(crate) const MAX_BYTES: usize = 1 << 20;

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Frame {
    /// Its name; none is the usual.
    pub event: Option<String>,
    /// Its lines of data, with line feeds between them.
    pub data: String,
}

/// An event is longer than [`MAX_BYTES`], or its text is not UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("an event has more than {MAX_BYTES} bytes")]
    TooLong,
    #[error("an event is not UTF-8")]
    Text,
}

/// Takes bytes as they come, and gives events.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    /// The line that has no end yet.
    line: Vec<u8>,
    /// Whether a line feed belongs to the line end before it.
    after_return: bool,
    frame: Frame,
    has_data: bool,
    ready: VecDeque<Frame>,
}

impl Decoder {
    /// Takes bytes, cut anywhere.
    ///
    /// # Errors
    /// When an event is out of bounds; nothing is to be decoded after that.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), FrameError> {
        for byte in bytes {
            let is_rest = std::mem::take(&mut self.after_return) && *byte == b'\n';
            match byte {
                b'\n' if is_rest => {}
                b'\n' => self.end_line()?,
                b'\r' => {
                    self.after_return = true;
                    self.end_line()?;
                }
                byte => {
                    if self.line.len() + self.frame.data.len() >= MAX_BYTES {
                        return Err(FrameError::TooLong);
                    }
                    self.line.push(*byte);
                }
            }
        }
        Ok(())
    }

    /// The next event that is complete.
    pub fn next(&mut self) -> Option<Frame> {
        self.ready.pop_front()
    }

    fn end_line(&mut self) -> Result<(), FrameError> {
        let line = std::mem::take(&mut self.line);
        let line = str::from_utf8(&line).map_err(|_| FrameError::Text)?;
        if line.is_empty() {
            let frame = std::mem::take(&mut self.frame);
            if std::mem::take(&mut self.has_data) {
                self.ready.push_back(frame);
            }
            return Ok(());
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "data" => {
                if std::mem::replace(&mut self.has_data, true) {
                    self.frame.data.push('\n');
                }
                self.frame.data.push_str(value);
            }
            "event" => self.frame.event = Some(value.to_owned()),
            // A comment, or a field that means nothing here.
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decoded(pieces: &[&[u8]]) -> Vec<Frame> {
        let mut decoder = Decoder::default();
        for piece in pieces {
            decoder.push(piece).unwrap();
        }
        std::iter::from_fn(|| decoder.next()).collect()
    }

    fn frame(event: Option<&str>, data: &str) -> Frame {
        Frame {
            event: event.map(Into::into),
            data: data.into(),
        }
    }

    const STREAM: &str = "data: {\"a\":1}\n\n:\n:\ndata:x\r\ndata: y\r\n\r\n: c\nid: 7\nevent: error\n\
        :\ndata: no\n\nevent: empty\n\nretry\ndata\n\ndata: cut off\n";

    fn expected() -> Vec<Frame> {
        vec![
            frame(None, "{\"a\":1}"),
            frame(None, "x\ny"),
            frame(Some("error"), "no"),
            frame(None, ""),
        ]
    }

    #[test]
    fn events_come_out_and_comments_do_not() {
        assert_eq!(decoded(&[STREAM.as_bytes()]), expected());
    }

    #[test]
    fn a_name_without_data_is_not_the_next_ones() {
        let stream = b"event: error\n\ndata: x\n\n";
        assert_eq!(decoded(&[stream]), [frame(None, "x")]);
    }

    #[test]
    fn events_are_bounded() {
        let of = |bytes: usize| format!("data: {}\n\n", "x".repeat(bytes));
        let mut decoder = Decoder::default();
        decoder.push(of(MAX_BYTES - 6).as_bytes()).unwrap();
        assert_eq!(decoder.next().unwrap().data.len(), MAX_BYTES - 6);
        let long = decoder.push(of(MAX_BYTES - 5).as_bytes());
        assert_eq!(long, Err(FrameError::TooLong));
        // In many lines, too; comments are no part of it.
        let mut decoder = Decoder::default();
        for _ in 0..2 * MAX_BYTES / 1_000 {
            decoder
                .push(format!(":{}\n", "x".repeat(1_000)).as_bytes())
                .unwrap();
        }
        let lines = (0..2 * MAX_BYTES).try_for_each(|_| decoder.push(b"data:x\n"));
        assert_eq!(lines, Err(FrameError::TooLong));
        let mut decoder = Decoder::default();
        assert_eq!(decoder.push(b"data: \xff\n"), Err(FrameError::Text));
    }

    proptest! {
        #[test]
        fn it_does_not_matter_where_the_bytes_are_cut(cuts in prop::collection::vec(0..STREAM.len(), 0..20)) {
            let mut cuts = cuts;
            cuts.extend([0, STREAM.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts
                .windows(2)
                .map(|cut| &STREAM.as_bytes()[cut[0]..cut[1]])
                .collect();
            prop_assert_eq!(decoded(&pieces), expected());
        }

        #[test]
        fn anything_may_be_sent(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut decoder = Decoder::default();
            let _either = decoder.push(&bytes);
        }
    }
}
