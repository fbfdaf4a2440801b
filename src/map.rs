//! Hash maps with names in their keys.
//!
//! A call looks up a dozen of them, and the standard hash would be a quarter of
//! its cost. Names come from strangers, so the hash has a random key, like the
//! standard one: collisions cannot be prepared.

/// A map.
pub type Map<K, V> = std::collections::HashMap<K, V, ahash::RandomState>;

/// A set.
pub type Set<K> = std::collections::HashSet<K, ahash::RandomState>;
