//! Addresses of a test's own.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU8, Ordering};

/// Loopback addresses that nothing else on this machine uses, so that ports can
/// be fixed and kept over a restart.
#[derive(Clone, Copy, Debug)]
pub struct Net([u8; 3]);

impl Net {
    /// A network of its own: 127.x.y.0/24.
    pub fn take() -> Self {
        static TAKEN: AtomicU8 = AtomicU8::new(0);
        // Runs of this program side by side differ in their process ids.
        let run = u8::try_from(std::process::id() % 251).unwrap() + 2;
        let taken = TAKEN.fetch_add(1, Ordering::Relaxed);
        assert!(taken < u8::MAX, "as many networks as there are were taken");
        Self([127, run, taken])
    }

    /// Its n-th address.
    pub fn host(self, n: u8) -> IpAddr {
        let [a, b, c] = self.0;
        Ipv4Addr::new(a, b, c, n).into()
    }

    /// A port at its n-th address.
    pub fn at(self, n: u8, port: u16) -> SocketAddr {
        (self.host(n), port).into()
    }
}
