//! How an endpoint's object is named and labelled.

use crate::record::{EndpointKey, Name};
use crate::resources::name::{self, hash};

pub use crate::resources::name::MAX_BYTES;

/// The name of the object for `key`: what is readable of the tunnel's name and
/// a hash of the whole identity. A DNS label (RFC 1123), so at most 63 bytes.
#[must_use]
pub fn object_name(key: &EndpointKey) -> String {
    let [tunnel, node, connector] = [&key.tunnel, &key.node, &key.connector].map(Name::to_string);
    name::object_name(&tunnel, &[&tunnel, &node, &connector])
}

/// The value of the label [`super::TUNNEL_LABEL`] for `tunnel`.
#[must_use]
pub fn tunnel_hash(tunnel: &Name) -> String {
    hash(&[&tunnel.to_string()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_never_change_between_releases() {
        let uuids = EndpointKey {
            tunnel: "C9EF8F8C-d687-4dca-be7a-1467b6565404".parse().unwrap(),
            node: "db670b91-61a5-4f7c-8014-3bbe994446ea".parse().unwrap(),
            connector: "c23d4f42-c892-42b3-8b74-88ab6455d33a".parse().unwrap(),
        };
        assert_eq!(
            object_name(&uuids),
            "c9ef8f8c-d687-4dca-ofq7cmasgt6gvevggv0ds9qbjo"
        );
        assert_eq!(tunnel_hash(&uuids.tunnel), "121pvsbh9jtddho8c9hc9kpcc4");
    }
}
