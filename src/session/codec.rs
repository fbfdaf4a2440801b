//! Bytes to commands, whatever pieces they come in.

use crate::session::command::{Command, word};
use crate::session::problem::Problem;

/// The most bytes of a command, without the end of its line (LF, or CR and LF).
pub const MAX_COMMAND: usize = 8_192;

/// Cuts a stream of bytes into lines, and reads each as a command. It keeps at
/// most one unfinished line, and nothing while there is none: connections are
/// many, and mostly silent.
#[derive(Debug, Default)]
pub struct Decoder {
    /// What has come of a line that is not ended.
    begun: Vec<u8>,
    /// Whether the line is too long, and the rest of it is passed over.
    too_long: bool,
    /// The word that the last line began with.
    word: Option<&'static str>,
}

impl Decoder {
    /// The next command in what was received, or what is answered instead;
    /// `received` is left with what follows. None when no line is complete: then
    /// all was taken. Blank lines are passed over.
    ///
    /// What is left at the end of a stream without the end of its line is not run.
    ///
    /// # Errors
    /// For a line that is no command.
    pub fn next(&mut self, received: &mut &[u8]) -> Option<Result<Command, Problem>> {
        loop {
            let Some(end) = received.iter().position(|byte| *byte == b'\n') else {
                self.keep(received);
                *received = &[];
                return None;
            };
            let (last, rest) = received.split_at(end);
            *received = rest.get(1..).unwrap_or_default();
            let (word, result) = if self.begun.is_empty() && !self.too_long {
                read(last)
            } else {
                self.keep(last);
                // Given back: not every connection needs room for a line.
                let line = std::mem::take(&mut self.begun);
                match std::mem::take(&mut self.too_long) {
                    true => (None, Some(Err(Problem::LineTooLong))),
                    false => read(&line),
                }
            };
            if result.is_some() {
                self.word = word;
                return result;
            }
        }
    }

    /// The word of a command that the last line of [`Decoder::next`] began with,
    /// whatever else was wrong with it.
    #[must_use]
    pub fn word(&self) -> Option<&'static str> {
        self.word
    }

    /// Whether a line was begun and is not ended: the time for it runs.
    #[must_use]
    pub fn is_within_a_line(&self) -> bool {
        self.too_long || !self.begun.is_empty()
    }

    fn keep(&mut self, bytes: &[u8]) {
        // One more may be the CR of a line's end.
        if self.too_long || self.begun.len() + bytes.len() > MAX_COMMAND + 1 {
            self.too_long = true;
            self.begun = Vec::new();
        } else {
            self.begun.extend_from_slice(bytes);
        }
    }
}

/// A command or what is wrong with it, and the word that it begins with.
type Read = (Option<&'static str>, Option<Result<Command, Problem>>);

/// Reads a line without its LF; a blank one is nothing.
fn read(line: &[u8]) -> Read {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.len() > MAX_COMMAND {
        return (None, Some(Err(Problem::LineTooLong)));
    }
    if line.iter().all(|byte| matches!(byte, b' ' | b'\t')) {
        return (None, None);
    }
    match std::str::from_utf8(line) {
        Ok(line) if !line.contains(['\0', '\r']) => (word(line), Some(Command::parse(line))),
        Ok(_) | Err(_) => (None, Some(Err(Problem::InvalidFormat))),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::session::id::SessionKey;

    type Lines = Vec<Result<Command, Problem>>;

    /// What comes of these pieces, and whether a line is left.
    fn decode<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Lines, bool) {
        let mut decoder = Decoder::default();
        let mut lines = Vec::new();
        for mut piece in pieces {
            while let Some(line) = decoder.next(&mut piece) {
                lines.push(line);
            }
            assert!(piece.is_empty());
            assert!(decoder.begun.len() <= MAX_COMMAND + 1);
        }
        (lines, decoder.is_within_a_line())
    }

    fn validate(id: &str) -> Result<Command, Problem> {
        Ok(Command::Validate(SessionKey::of(id)))
    }

    #[test]
    fn the_word_of_a_line_is_known_though_the_rest_is_wrong() {
        let mut decoder = Decoder::default();
        for (line, word) in [
            ("VALIDATE|a\n", Some("VALIDATE")),
            ("ROUTE|a\n", Some("ROUTE")),
            ("MAINT_EXIT\r\n", Some("MAINT_EXIT")),
            ("route|a\n", None),
            ("ROUTES|a\n", None),
        ] {
            assert!(decoder.next(&mut line.as_bytes()).is_some());
            assert_eq!(decoder.word(), word, "{line}");
        }
    }

    #[test]
    fn decision_12_one_cr_is_stripped_and_blank_lines_are_ignored() {
        let (lines, left) = decode([&b"\r\n\n  \nVALIDATE|a\r\n\nVALIDATE|b\n"[..]]);
        assert_eq!(lines, [validate("a"), validate("b")]);
        assert!(!left);
        for line in [
            &b"VALIDATE|a\r\r\n"[..],
            b"VALIDATE|a\rb\n",
            b"VALIDATE|a\0\n",
            b"VALIDATE|\xff\n",
            b"HEADER|s|a|b\0\n",
            b"\0\n",
        ] {
            assert_eq!(decode([line]).0, [Err(Problem::InvalidFormat)], "{line:?}");
        }
        assert_eq!(
            decode([&b"validate|a\n"[..]]).0,
            [Err(Problem::UnknownCommand)]
        );
    }

    #[test]
    fn decision_13_an_over_long_line_is_discarded_and_the_next_is_read() {
        let id = "x".repeat(MAX_COMMAND - "VALIDATE|".len());
        for end in ["\n", "\r\n"] {
            let line = format!("VALIDATE|{id}{end}");
            assert_eq!(decode([line.as_bytes()]).0, [validate(&id)]);
            let line = format!("VALIDATE|{id}x{end}VALIDATE|a\n");
            let expected = [Err(Problem::LineTooLong), validate("a")];
            assert_eq!(decode([line.as_bytes()]).0, expected);
            assert_eq!(decode(line.as_bytes().chunks(1_000)).0, expected);
        }
        let flood = vec![b'x'; 10 * MAX_COMMAND];
        let (lines, left) = decode(flood.chunks(100).chain([&b"x\nVALIDATE|a\n"[..]]));
        assert_eq!(lines, [Err(Problem::LineTooLong), validate("a")]);
        assert!(!left);
        assert_eq!(
            decode([&flood[..]]),
            (vec![], true),
            "nothing before its end"
        );
    }

    #[test]
    fn decision_14_pipelined_commands_come_in_order() {
        let (lines, _) = decode([&b"VALIDATE|1\nVALIDATE|2\nX\nVALIDATE|3\n"[..]]);
        let unknown = Err(Problem::UnknownCommand);
        assert_eq!(
            lines,
            [validate("1"), validate("2"), unknown, validate("3")]
        );
    }

    #[test]
    fn decision_16_an_unterminated_last_line_is_not_run() {
        let (lines, left) = decode([&b"VALIDATE|a\nSHUTDOWN|a"[..]]);
        assert_eq!(lines, [validate("a")]);
        assert!(left);
    }

    #[test]
    fn a_silent_connection_keeps_nothing() {
        let mut decoder = Decoder::default();
        for mut piece in [&b"VALIDATE|"[..], b"a\n"] {
            decoder.next(&mut piece);
        }
        assert_eq!(decoder.begun.capacity(), 0);
    }

    /// Bytes that come close to being commands.
    fn stream() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..20),
            proptest::sample::select(vec![
                &b"REGISTER|a|h|1|0"[..],
                b"ROUTE|s|a.com,*.b.com|/x%20|http://[::1]:80/",
                b"HEADER|s|X-A|b",
                b"OPTIONS|s|max_body_size|10MB",
                b"OPTIONS|s|timeout|1m30s",
                b"VALIDATE|s",
                b"SHUTDOWN|",
                b"RECONNECT|",
                b"|",
                b"\r\n",
                b"\n",
                b"\n",
                b"\r",
                b"\0",
                "é".as_bytes(),
            ])
            .prop_map(<[u8]>::to_vec),
            (MAX_COMMAND - 3..MAX_COMMAND + 3).prop_map(|length| vec![b'x'; length]),
        ];
        proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn pieces_never_matter(
            bytes in stream(),
            cuts in proptest::collection::vec(1_usize..3_000, 1..20),
        ) {
            let whole = decode([&bytes[..]]);
            let mut pieces = Vec::new();
            let (mut rest, mut cuts) = (&bytes[..], cuts.iter().cycle());
            while let (false, Some(cut)) = (rest.is_empty(), cuts.next()) {
                let (piece, after) = rest.split_at((*cut).min(rest.len()));
                pieces.push(piece);
                rest = after;
            }
            prop_assert_eq!(&decode(pieces), &whole);
            if bytes.len() < 2_000 {
                prop_assert_eq!(&decode(bytes.chunks(1)), &whole);
            }
        }

        #[test]
        fn only_printable_text_is_let_in(text in "\\PC{0,40}|[ -~]{0,60}|.{0,20}") {
            // What is stripped or trimmed need not be printable.
            let inner = text.strip_suffix('\r').unwrap_or(&text);
            let inner = inner.trim_matches([' ', '\t']);
            let printable = inner.bytes().all(|byte| (b' '..=b'~').contains(&byte));
            for line in [
                format!("REGISTER|{text}|h|1|0"),
                format!("REGISTER|a|{text}|1|0"),
                format!("HEADER|s|{text}|v"),
                format!("HEADER|s|X-A|{text}"),
                format!("ROUTE|s|{text}|/|http://h"),
                format!("ROUTE|s|a.com|/{text}|http://h"),
                format!("ROUTE|s|a.com|/|http://h/{text}"),
                format!("OPTIONS|s|health_check_path|/{text}"),
            ] {
                let (lines, _) = decode([line.as_bytes(), b"\n"]);
                let let_in = lines.iter().any(Result::is_ok);
                prop_assert!(printable || !let_in, "{line:?}");
            }
        }
    }
}
