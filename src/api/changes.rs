//! What differs between two specs, as lines for people.

use serde_json::Value;

use crate::model::Spec;

/// Lines such as `rollout.bake: 5m -> 10m`.
pub(super) fn changes(old: &Spec, new: &Spec) -> Vec<String> {
    let mut lines = Vec::new();
    let json = |s: &Spec| {
        let mut all = serde_json::to_value(s).unwrap_or(Value::Null);
        // What the document says of rollouts stands in `rollout` with its defaults.
        all.as_object_mut().map(|fields| fields.remove("said"));
        all
    };
    diff("", &json(old), &json(new), &mut lines);
    lines
}

fn diff(path: &str, old: &Value, new: &Value, lines: &mut Vec<String>) {
    if old == new {
        return;
    }
    if let (Value::Object(a), Value::Object(b)) = (old, new) {
        let keys: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
        for key in keys {
            let below = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            diff(&below, a.get(key).unwrap_or(&Value::Null), b.get(key).unwrap_or(&Value::Null), lines);
        }
        return;
    }
    lines.push(format!("{path}: {} -> {}", show(old), show(new)));
}

fn show(v: &Value) -> String {
    match v {
        Value::Null => "none".into(),
        Value::Array(items) => format!("[{}]", items.iter().map(show).collect::<Vec<_>>().join(", ")),
        Value::String(s) => s.clone(),
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => v.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{SpecFormat, read_spec};

    #[test]
    fn a_change_is_said_as_people_write_it() {
        let text = "{service: shop, environment: qa, run: {command: [bin/shop]}, ports: {http: 80}, health: {http: /h}, rollout: {bake: 5m}}";
        let old = read_spec(text, SpecFormat::Yaml).unwrap();
        let new = read_spec(&text.replace("5m", "10m"), SpecFormat::Yaml).unwrap();
        assert_eq!(changes(&old, &new), ["rollout.bake: 5m -> 10m"]);
    }
}
