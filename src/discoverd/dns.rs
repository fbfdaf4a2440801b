//! Services by DNS: names under a domain, answered from what is in memory.
//!
//! | name | what it stands for |
//! | --- | --- |
//! | `S.discoverd.` | the instances of the service S |
//! | `_S._PROTO.discoverd.` | those with this `proto` (RFC 2782) |
//! | `leader.S.discoverd.` | the one that leads |
//! | `ID.S._i.discoverd.` | one instance; what `SRV` records name |
//!
//! Everything here is a function of a packet, of what there is, and of an order
//! that is drawn: [`domain`] says what a name asks for, [`answer`] which records
//! that has, [`message`] how they are sent. Sockets are `server::dns`.

pub mod answer;
pub mod domain;
pub mod message;

pub use answer::{Known, Zone};
pub use domain::Domain;
pub use message::{Transport, reply};
