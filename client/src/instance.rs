//! An instance of a service: where it is reached, and its attributes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// An instance of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Instance {
    /// Who it is: [`instance_id`] of the next two.
    pub id: String,
    /// Where it is reached: `host:port`.
    pub addr: String,
    /// How: `[a-z0-9]+`, such as tcp, udp or http.
    pub proto: String,
    /// Its attributes, at most 16 KiB of text.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub meta: BTreeMap<String, String>,
    /// The order in which instances were first registered; the registry gives it
    /// out, and it is 0 until then.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub index: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_zero(index: &u64) -> bool {
    *index == 0
}

/// The id of whoever is reached in this way: the MD5 of `proto-addr`, in
/// hexadecimal.
#[must_use]
pub fn instance_id(proto: &str, addr: &str) -> String {
    format!("{:x}", md5::compute(format!("{proto}-{addr}")))
}

impl Instance {
    /// An instance that is reached over tcp at `addr`, which is `host:port`.
    pub fn new(addr: impl Into<String>) -> Self {
        let (addr, proto) = (addr.into(), "tcp".to_owned());
        Self {
            id: instance_id(&proto, &addr),
            addr,
            proto,
            meta: BTreeMap::new(),
            index: 0,
        }
    }

    /// The same, reached over another protocol.
    #[must_use]
    pub fn with_proto(mut self, proto: impl Into<String>) -> Self {
        self.proto = proto.into();
        self.id = instance_id(&self.proto, &self.addr);
        self
    }

    /// The same, with one more attribute.
    #[must_use]
    pub fn with_meta(mut self, name: impl Into<String>, text: impl Into<String>) -> Self {
        self.meta.insert(name.into(), text.into());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_is_the_hash_of_how_it_is_reached() {
        // As `printf tcp-127.0.0.1:80 | md5sum` tells.
        let instance = Instance::new("127.0.0.1:80");
        assert_eq!(instance.id, "cb6ddf019e39bc41371b307e22939e3d");
        let http = instance.clone().with_proto("http");
        assert_eq!(http.id, instance_id("http", "127.0.0.1:80"));
        assert_ne!(http.id, instance.id);
    }

    #[test]
    fn what_is_sent_has_no_index_and_what_is_read_may_have_anything() {
        let instance = Instance::new("h:1").with_meta("zone", "b");
        let json = serde_json::to_value(&instance).unwrap();
        let expected = serde_json::json!({
            "id": instance.id, "addr": "h:1", "proto": "tcp", "meta": {"zone": "b"}
        });
        assert_eq!(json, expected);
        let text = r#"{"id":"a","addr":"h:1","proto":"tcp","index":7,"new":1}"#;
        let read: Instance = serde_json::from_str(text).unwrap();
        assert_eq!((read.index, read.meta.len()), (7, 0));
    }
}
