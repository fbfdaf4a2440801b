//! Accepting connections, bounding them, and knowing who closed them.
