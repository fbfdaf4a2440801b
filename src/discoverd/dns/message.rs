//! Packets: what is read, and what is sent back.

use fastrand::Rng;
use hickory_proto::ProtoError;
use hickory_proto::op::{
    Edns, Header, HeaderCounts, Message, MessageType, Metadata, OpCode, Query, ResponseCode,
};
use hickory_proto::rr::Record;
use hickory_proto::serialize::binary::{
    BinDecodable as _, BinDecoder, BinEncodable as _, BinEncoder,
};

use crate::discoverd::dns::answer::{Answer, Known, Zone};
use crate::metrics::dns::Outcome;

/// How many records of a type are sent over UDP: what the field's clients expect,
/// and little enough to be of no use to who forges the address of a victim.
pub const MOST_OVER_UDP: usize = 3;
/// The longest answer over UDP, in bytes, and the longest packet that is read: it
/// passes every usual network in one piece (DNS flag day 2020).
pub const MAX_UDP_BYTES: u16 = 1_232;
/// The longest answer over UDP to whoever does not say how much it takes, in bytes
/// (RFC 1035 §4.2.1).
const PLAIN_UDP_BYTES: u16 = 512;
/// What an `OPT` record without options takes, in bytes (RFC 6891 §6.1.2).
const OPT_BYTES: u16 = 11;
/// The bit of "truncated" in the third byte of a header (RFC 1035 §4.1.1).
const TRUNCATED: u8 = 0b10;

/// How a packet came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// A datagram. The answer is short.
    Udp,
    /// A connection. The answer is whole, as far as 64 KiB hold it.
    Tcp,
}

impl Transport {
    fn most(self) -> usize {
        match self {
            Self::Udp => MOST_OVER_UDP,
            Self::Tcp => usize::MAX,
        }
    }

    /// The longest answer, in bytes, to whoever says this of itself.
    fn limit(self, edns: Option<&Edns>) -> u16 {
        match (self, edns) {
            (Self::Tcp, _) => u16::MAX,
            (Self::Udp, None) => PLAIN_UDP_BYTES,
            (Self::Udp, Some(edns)) => edns.max_payload().clamp(PLAIN_UDP_BYTES, MAX_UDP_BYTES),
        }
    }
}

/// The answer to a packet, if there is one, and what it is counted as.
///
/// Nothing is said to what is no query: a forged one could keep two servers
/// talking to each other.
#[must_use]
pub fn reply(
    zone: &Zone,
    known: &dyn Known,
    packet: &[u8],
    transport: Transport,
    rng: &mut Rng,
) -> (Option<Vec<u8>>, Outcome) {
    let Ok(header) = Header::read(&mut BinDecoder::new(packet)) else {
        return (None, Outcome::Ignored);
    };
    if header.message_type != MessageType::Query {
        return (None, Outcome::Ignored);
    }
    let (query, edns, answer) = match read(&header, packet) {
        Err(code) => (None, None, Answer::empty(code)),
        // Of EDNS there is only version 0 (RFC 6891 §6.1.3).
        Ok((query, Some(edns))) if edns.version() > 0 => (
            Some(query),
            Some(edns),
            Answer::empty(ResponseCode::BADVERS),
        ),
        Ok((query, edns)) => {
            let answer = zone.answer(&query, known, transport.most(), rng);
            (Some(query), edns, answer)
        }
    };
    let outcome = outcome(&answer);
    let limit = transport.limit(edns.as_ref());
    let reply = Reply {
        header: &header,
        query: query.as_ref(),
        answer: &answer,
        edns: edns.is_some(),
    };
    match reply.write(limit) {
        Ok(mut bytes) => {
            // A connection has no better way to ask again.
            if transport == Transport::Tcp {
                bytes[2] &= !TRUNCATED;
            }
            (Some(bytes), outcome)
        }
        Err(error) => {
            tracing::error!(%error, "an answer over DNS could not be written; please report this");
            (None, Outcome::Failed)
        }
    }
}

/// The one question of a packet, and what its sender says of itself.
fn read(header: &Header, packet: &[u8]) -> Result<(Query, Option<Edns>), ResponseCode> {
    if header.op_code != OpCode::Query {
        return Err(ResponseCode::NotImp);
    }
    // Before anything is read that is counted: memory is taken for so many.
    if header.counts.queries != 1 {
        return Err(ResponseCode::FormErr);
    }
    let mut message = Message::from_vec(packet).map_err(|_| ResponseCode::FormErr)?;
    let query = message.queries.pop().ok_or(ResponseCode::FormErr)?;
    Ok((query, message.edns))
}

fn outcome(answer: &Answer) -> Outcome {
    match answer.code {
        ResponseCode::NoError if answer.answers.is_empty() => Outcome::NoData,
        ResponseCode::NoError => Outcome::Answered,
        ResponseCode::NXDomain => Outcome::NoName,
        ResponseCode::Refused => Outcome::Refused,
        ResponseCode::NotImp | ResponseCode::BADVERS => Outcome::NotImplemented,
        ResponseCode::FormErr => Outcome::Malformed,
        _ => Outcome::Failed,
    }
}

struct Reply<'a> {
    header: &'a Header,
    query: Option<&'a Query>,
    answer: &'a Answer,
    /// Whether its receiver knows EDNS.
    edns: bool,
}

impl Reply<'_> {
    /// Its bytes. Records that do not fit are left out: additional ones silently,
    /// since whoever needs them asks; for others it says that it was truncated.
    fn write(&self, limit: u16) -> Result<Vec<u8>, ProtoError> {
        let mut bytes = Vec::with_capacity(usize::from(PLAIN_UDP_BYTES));
        let mut encoder = BinEncoder::new(&mut bytes);
        encoder.set_max_size(if self.edns { limit - OPT_BYTES } else { limit });
        let place = encoder.place::<Header>()?;
        let queries = encoder.emit_all(self.query.into_iter())?;
        let (answers, cut) = fitting(&mut encoder, &self.answer.answers)?;
        let (authorities, cut_too) = fitting(&mut encoder, &self.answer.authorities)?;
        let (mut additionals, _) = fitting(&mut encoder, &self.answer.additionals)?;
        encoder.set_max_size(limit);
        if self.edns {
            let mut edns = Edns::new();
            edns.set_max_payload(MAX_UDP_BYTES);
            edns.set_rcode_high(self.answer.code.high());
            Record::from(&edns).emit(&mut encoder)?;
            additionals += 1;
        }
        let mut metadata = Metadata::response_from_request(self.header);
        metadata.response_code = self.answer.code;
        metadata.authoritative = self.query.is_some() && self.answer.is_authoritative();
        metadata.truncation = cut || cut_too;
        let counts = HeaderCounts {
            queries: count(queries),
            answers: count(answers),
            authorities: count(authorities),
            additionals: count(additionals),
        };
        place.replace(&mut encoder, Header { metadata, counts })?;
        // What was begun and did not fit.
        encoder.trim();
        Ok(bytes)
    }
}

/// Writes as many records as fit, and says how many that were, and whether some
/// were left out.
fn fitting(encoder: &mut BinEncoder<'_>, records: &[Record]) -> Result<(usize, bool), ProtoError> {
    match encoder.emit_all(records.iter()) {
        Ok(count) => Ok((count, false)),
        Err(ProtoError::NotAllRecordsWritten { count, .. }) => Ok((count, true)),
        Err(error) => Err(error),
    }
}

/// A message has 64 KiB, and a record at least 11 bytes.
fn count(records: usize) -> u16 {
    u16::try_from(records).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests;
