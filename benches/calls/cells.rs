//! What is measured: each call over each protocol at each concurrency.

use std::fmt;
use std::str::FromStr;

use crate::common::wire::{Call, Protocol};

/// What callers do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Op {
    /// Ask for a known tunnel.
    Get,
    /// Renew a known connector.
    Renew,
    /// Register a new connector each time.
    Register,
    /// Register a known connector again.
    Reregister,
}

impl Op {
    const ALL: [Self; 4] = [Self::Get, Self::Renew, Self::Register, Self::Reregister];

    /// As it is written in tables and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Renew => "renew",
            Self::Register => "register",
            Self::Reregister => "reregister",
        }
    }

    /// The call that is made.
    pub fn call(self) -> Call {
        match self {
            Self::Get => Call::Get,
            Self::Renew => Call::Renew,
            Self::Register | Self::Reregister => Call::Register,
        }
    }
}

/// How many calls are under way at a time.
const CONCURRENCIES: [usize; 3] = [1, 16, 64];

/// One thing to measure. The protocols are apart in the order because the peer
/// speaks only the first, and would forget during the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cell {
    /// Over which protocol.
    pub protocol: Protocol,
    /// What callers do.
    pub op: Op,
    /// How many callers.
    pub concurrency: usize,
}

impl Cell {
    /// Everything.
    pub fn all() -> impl Iterator<Item = Self> {
        [Protocol::Grpc, Protocol::Http]
            .into_iter()
            .flat_map(|protocol| Op::ALL.map(|op| (protocol, op)))
            .flat_map(|(protocol, op)| {
                CONCURRENCIES.map(|concurrency| Self {
                    protocol,
                    op,
                    concurrency,
                })
            })
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (op, protocol) = (self.op.name(), self.protocol.name());
        write!(f, "{op}/{protocol}/{}", self.concurrency)
    }
}

/// Which cells are wanted: `call/protocol/concurrency`.
#[derive(Clone, Debug)]
pub struct Only(Vec<String>);

impl Only {
    /// Whether a cell is wanted.
    pub fn takes(&self, cell: &Cell) -> bool {
        let name = cell.to_string();
        self.0
            .iter()
            .zip(name.split('/'))
            .all(|(wanted, is)| wanted == "*" || wanted == is)
    }
}

impl FromStr for Only {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let only = Self(text.split('/').map(str::to_owned).collect());
        if only.0.len() <= 3 && Cell::all().any(|cell| only.takes(&cell)) {
            Ok(only)
        } else {
            Err("write for example get, register/grpc or */http/64".into())
        }
    }
}
