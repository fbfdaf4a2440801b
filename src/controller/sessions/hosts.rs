//! The addresses of backends' hosts, and when they are looked up. Pure.
//!
//! An address is its own. A name is looked up again every 30 s, sooner after a
//! failure; as long as that fails the addresses stay that it had last.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::controller::plan::routes::{Addresses, MAX_ADDRESSES};
use crate::map::{Map, Set};
use crate::session::host::HostName;

/// How often a name is looked up.
const EVERY: Duration = Duration::from_secs(30);
/// How long after a failure it is looked up again, at first; each time twice as
/// long, up to [`EVERY`].
const AGAIN: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Host {
    addresses: Option<Arc<[IpAddr]>>,
    /// Whether its addresses are what a lookup or its own name says.
    is_known: bool,
    due: Option<Instant>,
    failures: u32,
}

/// The hosts of all backends.
#[derive(Debug, Default)]
pub struct Hosts {
    hosts: Map<HostName, Host>,
}

impl Hosts {
    /// These are the hosts now, and no others.
    pub fn want<'a>(&mut self, wanted: impl Iterator<Item = &'a HostName>, now: Instant) {
        let wanted: Set<&HostName> = wanted.collect();
        self.hosts.retain(|host, _| wanted.contains(host));
        for host in wanted {
            if !self.hosts.contains_key(host) {
                let ip = host.as_str().parse::<IpAddr>().ok();
                let known = Host {
                    addresses: ip.map(|ip| [ip.to_canonical()].into()),
                    is_known: ip.is_some(),
                    due: ip.is_none().then_some(now),
                    failures: 0,
                };
                self.hosts.insert(host.clone(), known);
            }
        }
    }

    /// An object has these addresses of a host from before; a lookup that went
    /// well knows better.
    pub fn remembered(&mut self, host: &HostName, addresses: Vec<IpAddr>) -> bool {
        let Some(known) = self.hosts.get_mut(host).filter(|host| !host.is_known) else {
            return false;
        };
        let before = known
            .addresses
            .iter()
            .flat_map(|known| known.iter().copied());
        let all = in_order(before.chain(addresses).collect());
        let all = (!all.is_empty()).then_some(all);
        let is_news = known.addresses != all;
        known.addresses = all;
        is_news
    }

    /// At most so many hosts to look up now.
    pub fn take_due(&mut self, most: usize, now: Instant) -> Vec<HostName> {
        let due = |host: &Host| host.due.is_some_and(|due| due <= now);
        let due = self.hosts.iter_mut().filter(|(_, host)| due(host));
        let due = due.take(most).map(|(name, host)| {
            host.due = None;
            name.clone()
        });
        due.collect()
    }

    /// What a lookup came to. Returns whether the addresses changed.
    pub fn resolved(&mut self, host: &HostName, found: Option<Vec<IpAddr>>, now: Instant) -> bool {
        let Some(known) = self.hosts.get_mut(host) else {
            return false;
        };
        let found = found.map(in_order).filter(|found| !found.is_empty());
        let Some(found) = found else {
            let pause = AGAIN * (1 << known.failures.min(5));
            known.failures += 1;
            known.due = Some(now + pause.min(EVERY));
            return false;
        };
        known.failures = 0;
        known.due = Some(now + EVERY);
        known.is_known = true;
        let found = Some(found);
        let is_news = known.addresses != found;
        known.addresses = found;
        is_news
    }

    /// All addresses that are known.
    #[must_use]
    pub fn addresses(&self) -> Addresses {
        let known = self.hosts.iter();
        known
            .filter_map(|(name, host)| Some((name.clone(), Arc::clone(host.addresses.as_ref()?))))
            .collect()
    }

    /// How many hosts have no address.
    #[must_use]
    pub fn unknown(&self) -> usize {
        let hosts = self.hosts.values();
        hosts.filter(|host| host.addresses.is_none()).count()
    }
}

/// Each address once, in order, at most so many.
fn in_order(addresses: Vec<IpAddr>) -> Arc<[IpAddr]> {
    let mut addresses: Vec<_> = addresses.iter().map(IpAddr::to_canonical).collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses.truncate(MAX_ADDRESSES);
    addresses.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Now;

    const SECOND: Duration = Duration::from_secs(1);

    fn host(text: &str) -> HostName {
        HostName::parse(text).unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_name_is_looked_up_again_and_keeps_its_addresses_while_that_fails() {
        let start = Now::read().mono;
        let name = host("backend");
        let mut hosts = Hosts::default();
        hosts.want([&name, &host("10.0.0.9")].into_iter(), start);
        assert_eq!(hosts.addresses()[&host("10.0.0.9")][..], [ip("10.0.0.9")]);
        assert_eq!(hosts.unknown(), 1);
        assert_eq!(hosts.take_due(16, start), std::slice::from_ref(&name));
        assert!(
            hosts.take_due(16, start + 60 * SECOND).is_empty(),
            "it is under way"
        );
        let found = vec![ip("10.0.0.2"), ip("10.0.0.1"), ip("::ffff:10.0.0.2")];
        assert!(hosts.resolved(&name, Some(found.clone()), start));
        assert!(!hosts.resolved(&name, Some(found), start), "the same");
        assert_eq!(
            hosts.addresses()[&name][..],
            [ip("10.0.0.1"), ip("10.0.0.2")]
        );
        let mut now = start + 29 * SECOND;
        assert!(hosts.take_due(16, now).is_empty());
        now = start + 30 * SECOND;
        for pause in [1, 2, 4, 8, 16, 30, 30] {
            assert_eq!(hosts.take_due(16, now), std::slice::from_ref(&name));
            assert!(!hosts.resolved(&name, None, now));
            assert_eq!(hosts.addresses()[&name].len(), 2, "those that it had last");
            now += pause * SECOND - Duration::from_millis(1);
            assert!(hosts.take_due(16, now).is_empty());
            now += Duration::from_millis(1);
        }
    }

    #[test]
    fn what_objects_remember_holds_until_a_lookup_goes_well() {
        let now = Now::read().mono;
        let name = host("backend");
        let mut hosts = Hosts::default();
        assert!(
            !hosts.remembered(&name, vec![ip("10.0.0.1")]),
            "nobody wants it"
        );
        hosts.want([&name].into_iter(), now);
        assert!(!hosts.remembered(&name, Vec::new()));
        assert!(hosts.remembered(&name, vec![ip("10.0.0.1")]));
        assert!(
            hosts.remembered(&name, vec![ip("fd00::1")]),
            "of another slice"
        );
        hosts.resolved(&name, None, now);
        assert_eq!(hosts.addresses()[&name].len(), 2);
        hosts.resolved(&name, Some(vec![ip("10.0.0.3")]), now);
        assert!(!hosts.remembered(&name, vec![ip("10.0.0.1")]));
        assert_eq!(hosts.addresses()[&name][..], [ip("10.0.0.3")]);
        hosts.want([].into_iter(), now);
        assert!(hosts.addresses().is_empty());
    }

    #[test]
    fn lookups_and_addresses_are_bounded() {
        let now = Now::read().mono;
        let names: Vec<_> = (0..100).map(|n| host(&format!("h{n}"))).collect();
        let mut hosts = Hosts::default();
        hosts.want(names.iter(), now);
        assert_eq!(hosts.take_due(16, now).len(), 16);
        let many = (1..100).map(|n| IpAddr::from([10, 0, 0, n])).collect();
        hosts.resolved(&names[0], Some(many), now);
        assert_eq!(hosts.addresses()[&names[0]].len(), MAX_ADDRESSES);
    }
}
