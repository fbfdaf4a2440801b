//! What every process that talks to the API server has: lives, a clock, watches,
//! and what stands between the two.

use crate::record::Kind;
use crate::simulation::agenda::{Event, Time};

/// What may stand between a client and the API server for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Requests and answers take seconds.
    Slow,
    /// Requests are turned away: too many, or not now.
    Busy,
    /// Records are refused.
    Rejects,
    /// Requests are made, and their answers lost.
    LosesAnswers,
    /// Neither requests nor watches come through.
    Cut,
    /// The watch of endpoints tells nothing.
    EndpointsStuck,
    /// The watch of replicas tells nothing.
    ReplicasStuck,
    /// The watch of pods tells nothing.
    PodsStuck,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Slow,
        Self::Busy,
        Self::Rejects,
        Self::LosesAnswers,
        Self::Cut,
        Self::EndpointsStuck,
        Self::ReplicasStuck,
        Self::PodsStuck,
    ];

    /// How it is counted.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Slow => "fault: requests take seconds",
            Self::Busy => "fault: requests are turned away",
            Self::Rejects => "fault: records are refused",
            Self::LosesAnswers => "fault: answers are lost",
            Self::Cut => "fault: partitioned",
            Self::EndpointsStuck => "fault: watch of endpoints stuck",
            Self::ReplicasStuck => "fault: watch of replicas stuck",
            Self::PodsStuck => "fault: watch of pods stuck",
        }
    }
}

/// Whether a process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Process {
    /// It does.
    Runs,
    /// It is there and does nothing.
    Frozen,
    /// It is not there.
    Down,
}

/// A watch of one kind of objects.
#[derive(Clone, Copy, Debug, Default)]
pub struct Watch {
    /// How many changes were told.
    pub position: usize,
    /// Whether everything is to be told first, as it was then.
    pub list: Option<usize>,
    /// Whether everything was ever told.
    pub listed: bool,
    /// Whether it is open.
    pub open: bool,
    /// Whether it is about to tell something.
    pub telling: bool,
}

/// A process that talks to the API server.
#[derive(Debug)]
pub struct Client {
    /// How often it was started.
    pub life: u32,
    /// Whether it runs.
    pub process: Process,
    /// What stands in its way, and how often.
    faults: [u32; Fault::ALL.len()],
    /// Its watches, by kind.
    pub watches: [Watch; Kind::ALL.len()],
    /// How many changes of pods it was told.
    pub pods: usize,
    /// Whether it is about to be told one.
    pub telling_pods: bool,
    /// How far its wall clock is astray, in seconds.
    pub astray: i64,
    /// When something last stood in its way.
    pub troubled: Time,
    /// When it was started last.
    pub started: Time,
    /// Since when it has been down.
    pub down_since: Time,
    /// What came while it was frozen.
    pub inbox: Vec<Event>,
}

impl Client {
    /// A process that has not been started yet.
    pub fn new(astray: i64) -> Self {
        Self {
            life: 0,
            process: Process::Down,
            faults: Default::default(),
            watches: Default::default(),
            pods: 0,
            telling_pods: false,
            astray,
            troubled: Time::ZERO,
            started: Time::ZERO,
            down_since: Time::ZERO,
            inbox: Vec::new(),
        }
    }

    /// Whether a fault stands in its way.
    pub fn has(&self, fault: Fault) -> bool {
        self.faults[fault as usize] > 0
    }

    /// Whether any does.
    pub fn has_any(&self) -> bool {
        self.faults.iter().any(|count| *count > 0)
    }

    /// A fault begins.
    pub fn begin(&mut self, fault: Fault) {
        self.faults[fault as usize] += 1;
    }

    /// A fault ends, unless the same began twice.
    pub fn mend(&mut self, fault: Fault) {
        let count = &mut self.faults[fault as usize];
        *count = count.saturating_sub(1);
    }

    /// Whether its watch of a kind tells nothing.
    pub fn is_deaf(&self, kind: Kind) -> bool {
        let stuck = match kind {
            Kind::Endpoint => Fault::EndpointsStuck,
            Kind::Replica => Fault::ReplicasStuck,
            // Nobody here has any.
            Kind::Session | Kind::Service | Kind::Instance => Fault::Cut,
        };
        self.has(stuck) || self.has(Fault::Cut)
    }
}
