//! Any record comes back as it was.

use super::*;

fn name() -> impl Strategy<Value = Name> {
    let text = "[!-~]([ -~]{0,251}[!-~])?";
    let uuid = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}";
    prop_oneof![text, uuid].prop_map(|text| text.parse().unwrap())
}

fn address() -> impl Strategy<Value = Address> {
    let host = prop_oneof![
        any::<std::net::Ipv4Addr>().prop_map(|ip| ip.to_string()),
        any::<std::net::Ipv6Addr>().prop_map(|ip| format!("[{ip}]")),
        "[a-z_]([a-z0-9_-]{0,61}[a-z])?(\\.[a-z]{1,63}){0,2}",
    ];
    (host, 1..=u16::MAX).prop_filter_map("cannot be dialled", |(host, port)| {
        format!("{host}:{port}").parse().ok()
    })
}

/// Microseconds are kept.
fn time() -> impl Strategy<Value = Timestamp> {
    (0..4_102_444_800_000_000_i64).prop_map(|us| Timestamp::from_microsecond(us).unwrap())
}

fn any_record() -> impl Strategy<Value = EndpointRecord> {
    let identity = (name(), name(), name());
    let attributes = proptest::collection::btree_map("\\PC{1,63}", "\\PC{0,253}", 0..=16);
    let holder = proptest::option::of("[!-~]{1,253}");
    let why = proptest::option::of(prop_oneof![
        Just(Released::Silent),
        Just(Released::ConnectionClosed)
    ]);
    let rest = (
        any::<bool>(),
        address(),
        any::<Option<std::net::IpAddr>>(),
        any::<Option<u128>>(),
        attributes,
        any::<bool>(),
    );
    let lease = (holder, time(), any::<u32>(), why, any::<Option<u32>>());
    (identity, rest, lease).prop_map(
        |((tunnel, node, connector), (udp, address, origin, pod, attributes, is_static), lease)| {
            let (holder, renew_time, duration_seconds, released, interval_seconds) = lease;
            EndpointRecord {
                endpoint: Endpoint {
                    key: EndpointKey {
                        tunnel,
                        node,
                        connector,
                    },
                    network: if udp { Network::Udp } else { Network::Tcp },
                    address,
                    origin,
                    pod: pod.map(uuid::Uuid::from_u128),
                    attributes,
                },
                lease: Lease {
                    holder: holder.map(Into::into),
                    renew_time,
                    duration_seconds,
                    released,
                    interval_seconds,
                },
                is_static,
            }
        },
    )
}

proptest! {
    #[test]
    fn a_record_comes_back_as_it_was(record in any_record()) {
        let object = TunnelEndpoint::from_record(&record).unwrap();
        let json = serde_json::to_string(&object).unwrap();
        let back: TunnelEndpoint = serde_json::from_str(&json).unwrap();
        prop_assert_eq!(&back, &object);
        prop_assert_eq!(back.to_record(), Ok(record));
    }

    #[test]
    fn names_are_dns_labels(record in any_record()) {
        let object = TunnelEndpoint::from_record(&record).unwrap();
        let name = object.metadata.name.unwrap();
        prop_assert!((1..=name::MAX_BYTES).contains(&name.len()) && name::MAX_BYTES <= 63);
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        prop_assert!(name.bytes().all(inner), "{}", name);
        prop_assert!(!name.starts_with('-') && !name.ends_with('-'), "{}", name);
    }

    #[test]
    fn no_object_makes_it_panic(
        texts in proptest::array::uniform9("\\PC{0,300}"),
        attributes in proptest::collection::btree_map("\\PC{0,70}", "\\PC{0,260}", 0..20),
    ) {
        let [tunnel, connector, node, network, address, a, b, c, d] = texts;
        let spec = TunnelEndpointSpec {
            tunnel, connector, node, network, address, attributes, is_static: false,
        };
        let mut object = TunnelEndpoint::new("x", spec);
        let annotations = [(RENEW_TIME, a), (LEASE_DURATION, b), (RELEASED, c), (ORIGIN, d)];
        object.metadata.annotations =
            Some(annotations.map(|(key, value)| (key.into(), value)).into());
        // Whatever is accepted can be written again.
        if let Ok(record) = object.to_record() {
            prop_assert!(TunnelEndpoint::from_record(&record).is_ok());
        }
    }
}
