//! The sets of values turn every switch both ways, and change every value.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::values::{defaults, is_open, sets};

/// Every yes and no in some values, by its path.
fn switches(values: &Value, path: &str, found: &mut BTreeMap<String, BTreeSet<bool>>) {
    match values {
        Value::Bool(on) => drop(found.entry(path.into()).or_default().insert(*on)),
        Value::Object(fields) => {
            for (name, value) in fields.iter().filter(|(name, _)| !is_open(name)) {
                switches(value, &format!("{path}.{name}"), found);
            }
        }
        _ => {}
    }
}

/// Lays a set over the defaults, as Helm does.
fn laid_over(defaults: &Value, set: &Value) -> Value {
    let (Value::Object(defaults), Value::Object(set)) = (defaults, set) else {
        return set.clone();
    };
    let mut all = defaults.clone();
    for (name, value) in set {
        let below = defaults.get(name).unwrap_or(&Value::Null);
        all.insert(name.clone(), laid_over(below, value));
    }
    all.into()
}

/// The values that are other than by default, as pointers. What has fields of
/// any name is one value.
fn changes(defaults: &Value, values: &Value, path: &str, found: &mut BTreeSet<String>) {
    match (defaults, values) {
        (Value::Object(below), Value::Object(above)) if !below.is_empty() => {
            for (name, below) in below {
                let path = format!("{path}/{name}");
                let above = above.get(name).unwrap_or(&Value::Null);
                if !is_open(name) {
                    changes(below, above, &path, found);
                } else if below != above {
                    found.insert(path);
                }
            }
        }
        (below, above) if below != above => drop(found.insert(path.into())),
        _ => {}
    }
}

#[test]
fn every_value_is_changed() {
    let (defaults, mut all, mut changed) = (defaults(), BTreeSet::new(), BTreeSet::new());
    // Nothing is by default a text like this.
    changes(&defaults, &other(&defaults), "", &mut all);
    assert!(all.len() > 200, "{all:?}");
    for set in sets() {
        changes(
            &defaults,
            &laid_over(&defaults, &set.values()),
            "",
            &mut changed,
        );
    }
    let missed: Vec<_> = all.difference(&changed).collect();
    assert!(missed.is_empty(), "no set says these otherwise: {missed:?}");
}

/// Values that are all other than these.
fn other(values: &Value) -> Value {
    match values {
        Value::Object(fields) if !fields.is_empty() => {
            let all = fields.iter();
            all.map(|(name, value)| (name.clone(), other(value)))
                .collect()
        }
        _ => "other than by default".into(),
    }
}

#[test]
fn there_are_sets_enough() {
    assert!(sets().len() >= 12, "{:?}", sets());
}

#[test]
fn every_switch_is_turned_both_ways() {
    let (defaults, mut known, mut turned) = (defaults(), BTreeMap::new(), BTreeMap::new());
    switches(&defaults, "", &mut known);
    assert!(!known.is_empty());
    for set in sets() {
        let values = laid_over(&defaults, &set.values());
        switches(&values, "", &mut turned);
    }
    let one_way = |path: &&String| turned[*path].len() < 2;
    let missed: Vec<_> = known.keys().filter(one_way).collect();
    assert!(
        missed.is_empty(),
        "no set turns these the other way: {missed:?}"
    );
}

#[test]
fn a_set_lies_over_the_defaults() {
    let yaml = |text: &str| -> Value { serde_saphyr::from_str(text).unwrap() };
    let defaults = yaml("{a: {on: false, n: 1}, b: true, list: [true]}");
    let all = laid_over(&defaults, &yaml("{a: {on: true}, list: []}"));
    assert_eq!(all, yaml("{a: {on: true, n: 1}, b: true, list: []}"));
    let mut found = BTreeMap::new();
    switches(&defaults, "", &mut found);
    switches(&all, "", &mut found);
    let found: Vec<_> = found
        .iter()
        .map(|(path, ways)| (&**path, ways.len()))
        .collect();
    assert_eq!(found, [(".a.on", 2), (".b", 1)]);
}
