//! Whatever bytes come in, reading them ends, with an answer or an error.

use cni::{AddResult, Args, Network, Object, Version};
use proptest::prelude::*;
use serde_json::{Value, json};

/// JSON of all types, nested a little, with the keys that are read.
fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
        prop_oneof!["10\\.0\\.0\\.[0-9]/[0-9]{1,3}", "[0-9a-f:]{1,9}(/[0-9]{1,3})?"]
            .prop_map(Value::from),
        prop_oneof![Just("1.0.0"), Just("1.1.0"), Just("0.3.1"), Just("0.2.0")]
            .prop_map(Value::from),
    ];
    let key = prop_oneof![
        "\\PC{0,4}",
        proptest::sample::select(vec![
            "cniVersion",
            "cniVersions",
            "name",
            "type",
            "plugins",
            "capabilities",
            "disableCheck",
            "disableGC",
            "loadOnlyInlinedPlugins",
            "interfaces",
            "ips",
            "routes",
            "dns",
            "address",
            "gateway",
            "interface",
            "dst",
            "gw",
            "mtu",
            "mac",
            "sandbox",
            "nameservers",
            "scope",
        ])
        .prop_map(str::to_owned),
    ];
    leaf.prop_recursive(4, 48, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((key.clone(), inner), 0..6)
                .prop_map(|pairs| pairs.into_iter().collect::<Value>()),
        ]
    })
}

proptest! {
    #[test]
    fn bytes(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        let _ = Network::parse(&bytes);
        let _ = Object::parse(&bytes);
        let _ = Args::parse(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn configurations(value in json_value()) {
        if let Ok(network) = Network::parse(value.to_string().as_bytes()) {
            prop_assert!(!network.versions().is_empty() && !network.plugins().is_empty());
        }
    }

    #[test]
    fn results_that_can_be_read_can_be_written_in_every_version(value in json_value()) {
        let Ok(result) = AddResult::read(&value) else { return Ok(()) };
        let newest = result.write(Version::NEWEST);
        prop_assert_eq!(&AddResult::read(&newest).unwrap(), &result);
        for version in [Version::V0_3_1, Version::V0_4_0, Version::V1_0_0] {
            let written = result.write(version);
            prop_assert_eq!(&written["cniVersion"], &json!(version.as_str()));
            prop_assert_eq!(AddResult::read(&written).unwrap().ips, result.ips.clone());
        }
    }
}
