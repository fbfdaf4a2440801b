//! Ports of the loopback that stay reserved while nobody listens.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use socket2::{Domain, Socket, Type};

/// A port that nobody else is given: this socket is bound to it but does not
/// listen, and the program that listens shares it. While none does, connections
/// are refused.
#[derive(Debug)]
pub struct Port {
    pub number: u16,
    _socket: Socket,
}

impl Port {
    pub fn reserve() -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_reuse_port(true)?;
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
        let address = socket.local_addr()?.as_socket();
        let number = address.map(|address| address.port());
        Ok(Self {
            number: number.ok_or_else(|| io::Error::other("a socket without a port"))?,
            _socket: socket,
        })
    }
}
