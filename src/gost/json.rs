//! The JSON of gost's HTTP plugin: reading a service, writing Get's answer.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::Arc;

use bytes::{BufMut as _, Bytes, BytesMut};
use serde::Deserialize;

use crate::gost::calls::Fields;
use crate::gost::denial::Denial;
use crate::record::name::NameBuffer;
use crate::record::{EndpointRecord, Name};

/// A body as gost sends it. What is missing is empty; what is unknown is
/// ignored, since a later gost may send more.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Service<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    node: Cow<'a, str>,
    #[serde(borrow)]
    network: Cow<'a, str>,
    #[serde(borrow)]
    address: Cow<'a, str>,
}

impl Service<'_> {
    pub(super) fn fields(&self) -> Fields<'_> {
        Fields {
            id: &self.id,
            name: &self.name,
            node: &self.node,
            network: &self.network,
            address: &self.address,
        }
    }
}

/// Reads a body and hands its fields on. gost's documentation prints bodies
/// with a backslash at each line's end; as that is not JSON, it is tried only
/// when ordinary parsing has failed.
pub(super) fn service(body: &[u8]) -> Result<Service<'_>, Denial> {
    match parse(body) {
        Ok(service) => Ok(service),
        Err(error) => unfolded(body)
            .and_then(|mended| parse(&mended).map(Service::into_owned).ok())
            .ok_or(error),
    }
}

impl Service<'_> {
    fn into_owned(self) -> Service<'static> {
        let own = |text: Cow<'_, str>| Cow::Owned(text.into_owned());
        Service {
            id: own(self.id),
            name: own(self.name),
            node: own(self.node),
            network: own(self.network),
            address: own(self.address),
        }
    }
}

fn parse(body: &[u8]) -> Result<Service<'_>, Denial> {
    // Serde would take an array for a struct.
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(malformed("it does not begin with {"));
    }
    serde_json::from_slice(body).map_err(|error| malformed(&error.to_string()))
}

fn malformed(why: &str) -> Denial {
    /// Enough for the library's own words; the rest is the sender's.
    const MAX_CHARS: usize = 160;
    let why: String = why
        .chars()
        .filter(|c| !c.is_control())
        .take(MAX_CHARS)
        .collect();
    Denial::Malformed(format!(
        r#"the body is not a JSON object of strings ({why}); send {{"id":…,"name":…,"node":…,"network":"tcp","address":"host:port"}}"#
    ))
}

/// The text with each backslash before a newline made a space, outside
/// strings; none if there is no such backslash.
fn unfolded(body: &[u8]) -> Option<Vec<u8>> {
    let mut mended = body.to_vec();
    let (mut in_string, mut changed, mut at) = (false, false, 0);
    while let Some(&byte) = mended.get(at) {
        match byte {
            b'"' => in_string = !in_string,
            // In a string the next character is escaped, a quote for example.
            b'\\' if in_string => at += 1,
            b'\\' if matches!(&mended[at + 1..], [b'\n', ..] | [b'\r', b'\n', ..]) => {
                mended[at] = b' ';
                changed = true;
            }
            _ => {}
        }
        at += 1;
    }
    changed.then_some(mended)
}

/// Get's answer.
pub(super) fn services(records: &[Arc<EndpointRecord>]) -> Bytes {
    /// What an entry of UUIDs and an IPv4 address needs.
    const ENTRY: usize = 224;
    let mut out = BytesMut::with_capacity(16 + records.len() * ENTRY);
    out.put_slice(br#"{"services":["#);
    for (at, record) in records.iter().enumerate() {
        let endpoint = &record.endpoint;
        out.put_slice(if at == 0 { br#"{"id":"# } else { br#",{"id":"# });
        string(&mut out, &endpoint.key.connector);
        out.put_slice(br#","name":"#);
        string(&mut out, &endpoint.key.tunnel);
        out.put_slice(br#","node":"#);
        string(&mut out, &endpoint.key.node);
        out.put_slice(br#","network":""#);
        out.put_slice(endpoint.network.as_str().as_bytes());
        // An address has no character that JSON escapes.
        // Writing into a buffer that grows cannot fail.
        let _ = write!(out, r#"","address":"{}"}}"#, endpoint.address);
    }
    out.put_slice(b"]}");
    out.freeze()
}

/// A name is printable ASCII, so only two characters are escaped.
fn string(out: &mut BytesMut, name: &Name) {
    let mut buffer = NameBuffer::default();
    let mut text = name.text(&mut buffer).as_bytes();
    out.put_u8(b'"');
    while let Some(at) = text.iter().position(|byte| matches!(byte, b'"' | b'\\')) {
        out.put_slice(&text[..at]);
        out.put_slice(&[b'\\', text[at]]);
        text = &text[at + 1..];
    }
    out.put_slice(text);
    out.put_u8(b'"');
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use jiff::Timestamp;
    use proptest::prelude::*;

    use super::*;
    use crate::lease::Lease;
    use crate::record::{Endpoint, EndpointKey, Network};

    const PLAIN: &str = r#"{"id":"i","name":"n","node":"o","network":"tcp","address":":80"}"#;

    fn plain() -> Service<'static> {
        Service {
            id: "i".into(),
            name: "n".into(),
            node: "o".into(),
            network: "tcp".into(),
            address: ":80".into(),
        }
    }

    #[test]
    fn the_documentation_can_be_pasted() {
        for newline in ["\n", "\r\n"] {
            let pasted = PLAIN.replace(',', &format!(", \\{newline}"));
            assert_eq!(service(pasted.as_bytes()).unwrap(), plain());
            let indented = PLAIN.replace(',', &format!(",\\{newline}    "));
            assert_eq!(service(indented.as_bytes()).unwrap(), plain());
        }
        assert_eq!(service(PLAIN.as_bytes()).unwrap(), plain());
    }

    #[test]
    fn strings_keep_their_backslashes() {
        let text = "{\"id\":\"a\\\"b\\\\\", \\\n\"name\":\"\\u0041\"}";
        let service = service(text.as_bytes()).unwrap();
        assert_eq!(service.id, "a\"b\\");
        assert_eq!(service.name, "A");
        // A line break in a string is never mended.
        assert!(super::service(b"{\"id\":\"a\\\nb\"}").is_err());
    }

    #[test]
    fn what_is_no_service_is_told() {
        for body in [
            "",
            "null",
            "[]",
            r#"["i","n","o"]"#,
            "{",
            r#"{"id":1}"#,
            r#"{"id":null}"#,
            r#"{"id":"a","id":"b"}"#,
            r#"{"id":"a"}x"#,
            r#"{"id":"a"} \"#,
            "{\"id\":\"a\nb\"}",
            "id=a",
            r#"{'id':'a'}"#,
            r#"{"id":"\ud800"}"#,
        ] {
            let error = service(body.as_bytes()).unwrap_err().to_string();
            assert!(error.contains("not a JSON object"), "{body}: {error}");
        }
        assert!(service(b"{\"id\":\"\xff\"}").is_err());
        let long = format!(r#"{{"id":{:?}:"#, "x".repeat(10_000));
        assert!(service(long.as_bytes()).unwrap_err().to_string().len() < 400);
    }

    fn record(connector: &str) -> Arc<EndpointRecord> {
        let name = |text| Name::parse(text).unwrap();
        Arc::new(EndpointRecord {
            endpoint: Endpoint {
                key: EndpointKey {
                    tunnel: name("tunnel"),
                    node: name("C9EF8F8C-D687-4DCA-BE7A-1467B6565404"),
                    connector: name(connector),
                },
                network: Network::Udp,
                address: "[fd00::1]:80".parse().unwrap(),
                origin: None,
                pod: None,
                attributes: BTreeMap::new(),
            },
            lease: Lease::held("me".into(), Timestamp::UNIX_EPOCH, Duration::from_secs(60)),
            is_static: false,
        })
    }

    #[test]
    fn an_answer_is_what_gost_reads() {
        assert_eq!(services(&[]), r#"{"services":[]}"#);
        assert_eq!(
            services(&[record("a"), record(r#"\"b"#)]),
            concat!(
                r#"{"services":[{"id":"a","name":"tunnel","node":"c9ef8f8c-d687-4dca-be7a-1467b6565404","network":"udp","address":"[fd00::1]:80"},"#,
                r#"{"id":"\\\"b","name":"tunnel","node":"c9ef8f8c-d687-4dca-be7a-1467b6565404","network":"udp","address":"[fd00::1]:80"}]}"#
            )
        );
    }

    proptest! {
        #[test]
        fn never_panics(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = service(&body);
        }

        #[test]
        fn never_panics_on_what_is_nearly_right(body in r#"[{}"\\\n\r,:a-d \[\]]{0,60}"#) {
            let _ = service(body.as_bytes());
        }

        #[test]
        fn a_paste_says_what_the_plain_text_says(
            id in "[ -~]{0,20}", gaps in proptest::collection::vec("( |\\\\\n|\\\\\r\n|\t){0,3}", 8),
        ) {
            let quoted = serde_json::to_string(&id).unwrap();
            let body = format!(
                "{}{{{}\"id\"{}:{}{quoted}{},{}\"name\":\"n\"{}}}{}",
                "", gaps[1], gaps[2], gaps[3], gaps[4], gaps[5], gaps[6], gaps[7],
            );
            prop_assert_eq!(&*service(body.as_bytes()).unwrap().id, &*id);
        }

        #[test]
        fn every_name_is_written_as_json(name in "[!-~]([ -~]{0,50}[!-~])?") {
            let answer: serde_json::Value = serde_json::from_slice(&services(&[record(&name)])).unwrap();
            let told = answer["services"][0]["id"].as_str().unwrap().to_owned();
            prop_assert_eq!(told, Name::parse(&name).unwrap().to_string());
        }
    }
}
