//! What the listener bounds, and who is let in.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::metrics::Crowded;

/// The bounds of the listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections open at once. One needs about 20 KiB.
    pub connections: usize,
    /// Connections open at once from one IP address. gost's HTTP plugin opens
    /// one a tunnel in bursts.
    pub connections_per_peer: usize,
    /// From the accepted connection (over TLS: from the end of the handshake)
    /// to the end of its first HTTP/1 request header, or of the HTTP/2 preface.
    pub first_request: Duration,
    /// From the end of a request's header to the end of its body.
    pub request: Duration,
    /// Without a new call the connection is ended in order after this long.
    pub idle: Duration,
    /// The TLS handshake.
    pub tls_handshake: Duration,
    /// Size of a request's header, in bytes.
    pub header_bytes: u32,
    /// HTTP/2 calls in flight on one connection.
    pub streams: u32,
    /// An HTTP/2 peer is pinged this often …
    pub ping_interval: Duration,
    /// … and must answer within this time.
    pub ping_timeout: Duration,
    /// What is in flight when a connection is ended in order has this long.
    /// More than the 2 s that Register waits for the store.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            connections_per_peer: 4_096,
            first_request: Duration::from_secs(10),
            request: Duration::from_secs(10),
            idle: Duration::from_secs(600),
            tls_handshake: Duration::from_secs(10),
            header_bytes: 16 * 1024,
            streams: 1_024,
            ping_interval: Duration::from_secs(30),
            ping_timeout: Duration::from_secs(20),
            drain: Duration::from_secs(5),
        }
    }
}

/// How many connections a listener lets in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Room {
    /// Open at once, in all.
    pub total: usize,
    /// Open at once, from one IP address.
    pub per_peer: usize,
}

/// Who is inside.
#[derive(Debug)]
pub(super) struct Admission {
    room: Room,
    inside: Mutex<Inside>,
}

#[derive(Debug, Default)]
struct Inside {
    total: usize,
    peers: HashMap<IpAddr, usize>,
}

/// Being inside; dropping it is leaving.
#[derive(Debug)]
pub(super) struct Permit {
    admission: Arc<Admission>,
    peer: IpAddr,
}

impl Admission {
    pub(super) fn new(room: Room) -> Arc<Self> {
        Arc::new(Self {
            room,
            inside: Mutex::default(),
        })
    }

    /// Lets a peer in, or says which limit it met.
    pub(super) fn admit(self: &Arc<Self>, peer: IpAddr) -> Result<Permit, Crowded> {
        let mut inside = self.inside.lock();
        if inside.total >= self.room.total {
            return Err(Crowded::Total);
        }
        if inside.peers.get(&peer).copied().unwrap_or(0) >= self.room.per_peer {
            return Err(Crowded::Peer);
        }
        *inside.peers.entry(peer).or_default() += 1;
        inside.total += 1;
        Ok(Permit {
            admission: Arc::clone(self),
            peer,
        })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut inside = self.admission.inside.lock();
        inside.total -= 1;
        if let Some(count) = inside.peers.get_mut(&self.peer) {
            *count -= 1;
            if *count == 0 {
                inside.peers.remove(&self.peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission(total: usize, per_peer: usize) -> Arc<Admission> {
        Admission::new(Room { total, per_peer })
    }

    #[test]
    fn both_limits_hold_and_leaving_makes_room() {
        let [a, b]: [IpAddr; 2] = [[10, 0, 0, 1].into(), [10, 0, 0, 2].into()];
        let admission = admission(3, 2);
        let first = admission.admit(a).unwrap();
        let _second = admission.admit(a).unwrap();
        assert_eq!(admission.admit(a).unwrap_err(), Crowded::Peer);
        let _third = admission.admit(b).unwrap();
        assert_eq!(admission.admit(b).unwrap_err(), Crowded::Total);
        drop(first);
        assert!(admission.admit(b).is_ok());
    }

    #[test]
    fn nothing_is_remembered_of_those_who_left() {
        let admission = admission(10, 0);
        for last in 0..=255 {
            assert!(admission.admit([10, 0, 0, last].into()).is_err());
        }
        assert!(admission.inside.lock().peers.is_empty());
        let admission = self::admission(10, 10);
        drop(admission.admit([10, 0, 0, 1].into()).unwrap());
        assert!(admission.inside.lock().peers.is_empty());
        assert_eq!(admission.inside.lock().total, 0);
    }
}
