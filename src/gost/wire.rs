//! gRPC frames and the protobuf of the replies, written straight from the
//! records.

use std::fmt::{self, Write as _};
use std::sync::Arc;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

use crate::gost::MAX_BODY_BYTES;
use crate::gost::denial::Denial;
use crate::record::EndpointRecord;
use crate::record::name::NameBuffer;

/// Before each message: one byte that says whether it is compressed, four that
/// give its length.
pub(super) const FRAME_BYTES: usize = 5;

/// The reply of a write that was accepted: field 1, `ok`, is true.
pub(super) const OK: &[u8] = &[0, 0, 0, 0, 2, 0x08, 1];

/// Takes the one message out of a unary call's body.
pub(super) fn message(mut body: Bytes) -> Result<Bytes, Denial> {
    if body.len() < FRAME_BYTES {
        return Err(Denial::Malformed(
            "the call has no message; send exactly one".into(),
        ));
    }
    match body.get_u8() {
        0 => {}
        1 => return Err(Denial::Compressed),
        flag => {
            return Err(Denial::Malformed(format!(
                "the message's frame begins with {flag}; it must be 0"
            )));
        }
    }
    let length = body.get_u32() as usize;
    if length > MAX_BODY_BYTES {
        return Err(Denial::TooLarge);
    }
    if length != body.len() {
        return Err(Denial::Malformed(format!(
            "the message's frame says {length} bytes, but {} follow; send exactly one message",
            body.len()
        )));
    }
    Ok(body)
}

/// Get's reply, with its frame.
pub(super) fn services(records: &[Arc<EndpointRecord>]) -> Bytes {
    /// What an entry of UUIDs and an IPv4 address needs.
    const ENTRY: usize = 160;
    let mut out = BytesMut::with_capacity(FRAME_BYTES + records.len() * ENTRY);
    out.put_bytes(0, FRAME_BYTES);
    for record in records {
        service(&mut out, record);
    }
    // An answer has at most 64 entries of at most 1.1 KiB.
    let length = u32::try_from(out.len() - FRAME_BYTES).unwrap_or(u32::MAX);
    out[1..FRAME_BYTES].copy_from_slice(&length.to_be_bytes());
    out.freeze()
}

/// One `Service`, as field 1 of the reply.
fn service(out: &mut BytesMut, record: &EndpointRecord) {
    let endpoint = &record.endpoint;
    let mut buffers: [NameBuffer; 3] = Default::default();
    let [id, name, node] = &mut buffers;
    let mut address = Text::default();
    // The longest address fits.
    let _ = write!(address, "{}", endpoint.address);
    let fields = [
        endpoint.key.connector.text(id).as_bytes(),
        endpoint.key.tunnel.text(name).as_bytes(),
        endpoint.key.node.text(node).as_bytes(),
        endpoint.network.as_str().as_bytes(),
        address.as_bytes(),
    ];
    let length = fields
        .iter()
        .map(|field| 1 + varint_bytes(field.len()) + field.len())
        .sum();
    out.put_u8(tag(1));
    varint(out, length);
    for (number, field) in (1..).zip(fields) {
        out.put_u8(tag(number));
        varint(out, field.len());
        out.put_slice(field);
    }
}

/// A field's number with wire type 2, length-delimited.
fn tag(number: u8) -> u8 {
    number << 3 | 2
}

fn varint(out: &mut BytesMut, mut value: usize) {
    while value > 0x7f {
        out.put_u8(0x80 | (value & 0x7f) as u8);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

fn varint_bytes(value: usize) -> usize {
    (value.max(1).ilog2() / 7 + 1) as usize
}

/// Room for the text of an address, so that it costs no allocation.
struct Text {
    bytes: [u8; Self::MAX],
    length: usize,
}

impl Text {
    /// A DNS name of 253 bytes and its final dot, a colon, a port.
    const MAX: usize = 254 + 1 + 5;

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl Default for Text {
    fn default() -> Self {
        Self {
            bytes: [0; Self::MAX],
            length: 0,
        }
    }
}

impl fmt::Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.length + text.len();
        self.bytes
            .get_mut(self.length..end)
            .ok_or(fmt::Error)?
            .copy_from_slice(text.as_bytes());
        self.length = end;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use jiff::Timestamp;
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;
    use crate::gost::proto;
    use crate::lease::Lease;
    use crate::record::{Endpoint, EndpointKey, Name, Network};

    fn record(names: [&str; 3], address: &str) -> Arc<EndpointRecord> {
        let [connector, tunnel, node] = names.map(|name| Name::parse(name).unwrap());
        Arc::new(EndpointRecord {
            endpoint: Endpoint {
                key: EndpointKey {
                    tunnel,
                    node,
                    connector,
                },
                network: Network::Tcp,
                address: address.parse().unwrap(),
                origin: None,
                pod: None,
                attributes: BTreeMap::new(),
            },
            lease: Lease::held("me".into(), Timestamp::UNIX_EPOCH, Duration::from_secs(60)),
            is_static: false,
        })
    }

    fn decoded(records: &[Arc<EndpointRecord>]) -> Vec<proto::Service> {
        let body = message(services(records)).unwrap();
        proto::GetServiceReply::decode(body).unwrap().services
    }

    fn expected(record: &EndpointRecord) -> proto::Service {
        proto::Service {
            id: record.endpoint.key.connector.to_string(),
            name: record.endpoint.key.tunnel.to_string(),
            node: record.endpoint.key.node.to_string(),
            network: record.endpoint.network.to_string(),
            address: record.endpoint.address.to_string(),
        }
    }

    #[test]
    fn the_library_reads_what_is_written() {
        assert_eq!(decoded(&[]), []);
        let longest = "x".repeat(253);
        let host = vec!["h".repeat(63); 3].join(".") + "." + &"h".repeat(61) + ".:65535";
        let uuid = "c9ef8f8c-d687-4dca-be7a-1467b6565404";
        let records = [
            record([uuid, uuid, uuid], "10.42.0.100:80"),
            record([&longest, &longest, &longest], &host),
            record(["a", "b", "c"], "[fd00::1]:1"),
        ];
        let expected: Vec<_> = records.iter().map(|record| expected(record)).collect();
        assert_eq!(decoded(&records), expected);
        assert_eq!(host.len(), Text::MAX);
    }

    #[test]
    fn ok_is_what_the_library_writes() {
        let reply = proto::RegisterReply { ok: true }.encode_to_vec();
        assert_eq!(message(Bytes::from_static(OK)).unwrap(), reply);
    }

    #[test]
    fn a_call_has_exactly_one_message() {
        let take = |body: &'static [u8]| message(Bytes::from_static(body));
        assert_eq!(take(&[0, 0, 0, 0, 0]).unwrap(), "");
        assert_eq!(take(&[0, 0, 0, 0, 1, 9]).unwrap()[..], [9]);
        assert_eq!(take(&[1, 0, 0, 0, 0]), Err(Denial::Compressed));
        assert_eq!(take(&[0, 0, 1, 0, 1]), Err(Denial::TooLarge));
        for body in [
            &[][..],
            &[0, 0, 0, 0],
            &[2, 0, 0, 0, 0],
            &[0, 0, 0, 0, 2, 9],
            &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            &[0, 0, 1, 0, 0],
        ] {
            assert!(matches!(take(body), Err(Denial::Malformed(_))), "{body:?}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(body in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = message(body.into());
        }

        #[test]
        fn any_names_come_back(names in proptest::collection::vec("[!-~]{1,253}", 3)) {
            let record = record([&names[0], &names[1], &names[2]], "h:80");
            prop_assert_eq!(decoded(std::slice::from_ref(&record)), [expected(&record)]);
        }
    }
}
