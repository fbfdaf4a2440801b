//! What the status of an endpoint should say. Pure.
//!
//! A status is for people and for `kubectl wait`: nothing reads it to decide. So
//! it says only what stays for a while, with texts that are the same each time,
//! and is written only when a status or a reason changes.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::controller::plan::Reason;
use crate::controller::plan::cluster::{Standing, State};
use crate::kubernetes::pods::Watched;
use crate::resources::TunnelEndpointStatus;
use crate::resources::tunnel_endpoint::{MAX_CONDITIONS, READY};

/// The condition that the endpoint's pod is watched; there only while it is
/// recorded and may not be watched.
pub const POD_KNOWN: &str = "PodKnown";
/// The condition that another node that lives has the same address; there only
/// while that is so.
pub const ADDRESS_SHARED: &str = "AddressShared";

/// What a condition says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Word {
    condition: &'static str,
    status: &'static str,
    reason: &'static str,
    message: &'static str,
}

const STATIC: Word = Word {
    condition: READY,
    status: "True",
    reason: "Static",
    message: "It is kept by hand (spec.static) and never collected",
};
const RENEWED: Word = Word {
    condition: READY,
    status: "True",
    reason: "Renewed",
    message: "Its holder maintains it",
};
const TERMINATING: Word = Word {
    condition: READY,
    status: "False",
    reason: "Terminating",
    message: "Its pod was asked to end; it is offered last and goes with the pod",
};
const SILENT: Word = Word {
    condition: READY,
    status: "False",
    reason: "Silent",
    message: "Nothing was heard of it, so it was released; it goes unless it is renewed",
};
const CONNECTION_CLOSED: Word = Word {
    condition: READY,
    status: "False",
    reason: "ConnectionClosed",
    message: "Its node closed the connection and was not heard again, so it was released; it goes unless it is renewed",
};
const HOLDER_LOST: Word = Word {
    condition: READY,
    status: "False",
    reason: "HolderLost",
    message: "The lease of its holder has run out; it goes unless the holder comes back or another replica takes it over",
};
const POD_GONE: Word = Word {
    condition: READY,
    status: "False",
    reason: "PodGone",
    message: "Its pod is gone; it goes now",
};
const WATCH_FORBIDDEN: Word = Word {
    condition: POD_KNOWN,
    status: "Unknown",
    reason: "WatchForbidden",
    message: "The controller may not watch pods, so that leases alone decide when it goes; bind a Role that lets it list and watch pods",
};
const SHARED: Word = Word {
    condition: ADDRESS_SHARED,
    status: "True",
    reason: "TwoNodes",
    message: "Another node that lives has the same address: visitors of one tunnel may reach the server of the other",
};

/// The conditions that are ours; others' are left as they are.
const OURS: [&str; 3] = [READY, POD_KNOWN, ADDRESS_SHARED];

fn ready(state: State) -> Word {
    match state {
        State::Static => STATIC,
        State::Maintained => RENEWED,
        State::Terminating => TERMINATING,
        State::Waits(Reason::Silent) => SILENT,
        State::Waits(Reason::ConnectionClosed) => CONNECTION_CLOSED,
        State::Waits(Reason::HolderLost) => HOLDER_LOST,
        State::Waits(Reason::PodGone) => POD_GONE,
    }
}

fn words(standing: Standing, pods: Watched) -> impl Iterator<Item = Word> {
    let unknown = standing.has_pod && pods == Watched::Forbidden;
    [
        Some(ready(standing.state)),
        unknown.then_some(WATCH_FORBIDDEN),
        standing.shares_address.then_some(SHARED),
    ]
    .into_iter()
    .flatten()
}

/// What an endpoint's status says now, as far as it matters.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Said {
    generation: Option<i64>,
    /// In the order of [`OURS`].
    ours: Vec<Ours>,
    others: Vec<Condition>,
}

#[derive(Clone, Debug, PartialEq)]
struct Ours {
    condition: &'static str,
    status: Box<str>,
    reason: Box<str>,
    since: Timestamp,
}

impl Said {
    /// What `status` says.
    #[must_use]
    pub fn by(status: Option<&TunnelEndpointStatus>) -> Self {
        let Some(status) = status else {
            return Self::default();
        };
        let conditions = &status.conditions;
        let ours = OURS.into_iter().filter_map(|ours| {
            let found = conditions.iter().find(|one| one.type_ == ours)?;
            Some(Ours {
                condition: ours,
                status: found.status.as_str().into(),
                reason: found.reason.as_str().into(),
                since: found.last_transition_time.0,
            })
        });
        let others = conditions.iter();
        let others = others.filter(|one| !OURS.contains(&&*one.type_));
        Self {
            generation: status.observed_generation,
            ours: ours.collect(),
            others: others.cloned().collect(),
        }
    }

    fn of(&self, condition: &str) -> Option<&Ours> {
        self.ours.iter().find(|ours| ours.condition == condition)
    }

    /// The status that an endpoint of this generation should have; none when it
    /// says that already.
    #[must_use]
    pub fn becomes(
        &self,
        generation: i64,
        standing: Standing,
        pods: Watched,
        now: Timestamp,
    ) -> Option<TunnelEndpointStatus> {
        let says = |word: Word| {
            let said = self.of(word.condition);
            said.is_some_and(|said| *said.status == *word.status && *said.reason == *word.reason)
        };
        let count = words(standing, pods).count();
        let same = words(standing, pods).all(says) && self.ours.len() == count;
        if same && self.generation == Some(generation) {
            return None;
        }
        let room = MAX_CONDITIONS - count;
        let ours = words(standing, pods).map(|word| {
            let said = self.of(word.condition);
            let since = said.filter(|said| *said.status == *word.status);
            Condition {
                type_: word.condition.into(),
                status: word.status.into(),
                reason: word.reason.into(),
                message: word.message.into(),
                last_transition_time: Time(since.map_or(now, |said| said.since)),
                observed_generation: Some(generation),
            }
        });
        let others = self.others.iter().take(room).cloned();
        Some(TunnelEndpointStatus {
            observed_generation: Some(generation),
            conditions: ours.chain(others).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const MAINTAINED: Standing = Standing {
        state: State::Maintained,
        has_pod: false,
        shares_address: false,
    };

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn summary(status: &TunnelEndpointStatus) -> Vec<(&str, &str, &str)> {
        let conditions = status.conditions.iter();
        conditions
            .map(|one| (&*one.type_, &*one.status, &*one.reason))
            .collect()
    }

    fn standing(state: State) -> Standing {
        Standing {
            state,
            ..MAINTAINED
        }
    }

    #[test]
    fn a_status_is_written_when_it_changes_and_only_then() {
        let said = Said::by(None);
        let status = said.becomes(1, MAINTAINED, Watched::Yes, at(5)).unwrap();
        assert_eq!(status.observed_generation, Some(1));
        assert_eq!(summary(&status), [("Ready", "True", "Renewed")]);
        let said = Said::by(Some(&status));
        assert_eq!(said.becomes(1, MAINTAINED, Watched::Yes, at(9)), None);
        let moved = said.becomes(2, MAINTAINED, Watched::Yes, at(9)).unwrap();
        assert_eq!(moved.conditions[0].observed_generation, Some(2));
        assert_eq!(moved.conditions[0].last_transition_time.0, at(5));
    }

    #[test]
    fn the_time_of_a_transition_is_that_of_the_status() {
        let mut said = Said::by(None);
        let mut now = at(0);
        let mut transition = |state| {
            now = now.saturating_add(Duration::from_secs(10)).unwrap();
            let status = said.becomes(1, standing(state), Watched::Yes, now).unwrap();
            said = Said::by(Some(&status));
            status.conditions[0].last_transition_time.0.as_second()
        };
        assert_eq!(transition(State::Maintained), 10);
        assert_eq!(transition(State::Waits(Reason::HolderLost)), 20);
        assert_eq!(transition(State::Waits(Reason::PodGone)), 20, "still False");
        assert_eq!(transition(State::Maintained), 40);
    }

    #[test]
    fn every_state_has_a_reason_of_its_own() {
        let states = [State::Static, State::Maintained, State::Terminating];
        let waits = Reason::ALL.map(State::Waits);
        let words: Vec<_> = states.into_iter().chain(waits).map(ready).collect();
        for (at, word) in words.iter().enumerate() {
            assert!(words[..at].iter().all(|other| other.reason != word.reason));
            let is_ready = matches!(word.reason, "Static" | "Renewed");
            assert_eq!(word.status == "True", is_ready);
        }
        // An event and a condition use the same word.
        for reason in Reason::ALL {
            assert_eq!(ready(State::Waits(reason)).reason, reason.word());
        }
    }

    #[test]
    fn pods_are_spoken_of_where_one_is_recorded_and_forbidden() {
        let with_pod = Standing {
            has_pod: true,
            ..MAINTAINED
        };
        let said = Said::by(None);
        let of = |standing, pods| said.becomes(1, standing, pods, at(1)).unwrap();
        for watched in [Watched::Off, Watched::NotYet, Watched::Yes] {
            assert_eq!(of(with_pod, watched).conditions.len(), 1);
        }
        assert_eq!(of(MAINTAINED, Watched::Forbidden).conditions.len(), 1);
        let status = of(with_pod, Watched::Forbidden);
        assert_eq!(
            summary(&status)[1],
            ("PodKnown", "Unknown", "WatchForbidden")
        );
        // Once it may be watched the condition goes.
        let said = Said::by(Some(&status));
        let status = said.becomes(1, with_pod, Watched::Yes, at(2)).unwrap();
        assert_eq!(status.conditions.len(), 1);
    }

    #[test]
    fn a_shared_address_is_told_while_it_is_shared() {
        let shares = Standing {
            shares_address: true,
            ..MAINTAINED
        };
        let status = Said::by(None).becomes(1, shares, Watched::Yes, at(1));
        let status = status.unwrap();
        assert_eq!(summary(&status)[1], ("AddressShared", "True", "TwoNodes"));
        let said = Said::by(Some(&status));
        let alone = said.becomes(1, MAINTAINED, Watched::Yes, at(2)).unwrap();
        assert_eq!(summary(&alone), [("Ready", "True", "Renewed")]);
    }

    #[test]
    fn what_others_say_stays() {
        let mut status = Said::by(None)
            .becomes(1, MAINTAINED, Watched::Yes, at(1))
            .unwrap();
        for number in 0..MAX_CONDITIONS - 1 {
            let mut other = status.conditions[0].clone();
            other.type_ = format!("Other{number}");
            status.conditions.push(other);
        }
        let said = Said::by(Some(&status));
        assert_eq!(said.becomes(1, MAINTAINED, Watched::Yes, at(2)), None);
        let lost = standing(State::Waits(Reason::Silent));
        let changed = said.becomes(1, lost, Watched::Yes, at(2)).unwrap();
        assert_eq!(changed.conditions.len(), MAX_CONDITIONS);
        assert_eq!(changed.conditions[3], status.conditions[3]);
    }
}
