//! One copy of each holder's identity, however many endpoints it holds.

use std::sync::Arc;

use crate::map::Set;

/// The most identities that are remembered: more replicas than this are not one
/// cluster's. Beyond it all are forgotten, and shared anew from then on.
const MAX_HOLDERS: usize = 4_096;

/// The identities that were met.
#[derive(Debug, Default)]
pub(super) struct Holders(Set<Arc<str>>);

impl Holders {
    /// The first copy of this identity.
    pub fn share(&mut self, identity: Arc<str>) -> Arc<str> {
        if let Some(first) = self.0.get(&identity) {
            return Arc::clone(first);
        }
        if self.0.len() >= MAX_HOLDERS {
            self.0.clear();
        }
        self.0.insert(Arc::clone(&identity));
        identity
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_identities_are_one() {
        let mut holders = Holders::default();
        let first = holders.share("a".into());
        assert!(Arc::ptr_eq(&first, &holders.share("a".into())));
        assert_eq!(&*holders.share("b".into()), "b");
    }

    #[test]
    fn at_most_so_many_are_remembered() {
        let mut holders = Holders::default();
        for number in 0..3 * MAX_HOLDERS {
            holders.share(number.to_string().into());
            assert!(holders.0.len() <= MAX_HOLDERS);
        }
    }
}
