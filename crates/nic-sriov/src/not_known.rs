//! What of a state is not known: found in its JSON, so that a field which is added tomorrow is among it.

use std::fmt;

use nic_netlink::Unread;
use serde::Serialize;
use serde_json::Value;

use crate::NicState;

/// The key of what is not known ([`Setting::NotKnown`](nic_netlink::Setting::NotKnown), [`UnreadPf`](crate::UnreadPf)).
const NOT_KNOWN: &str = "not_known";

/// Something of the NICs that is not known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NotKnown {
    /// Where it is: `PF 0000:01:00.0, VF 7, admin`.
    pub path: String,
    /// Why it is not known, in one line.
    pub why: String,
}

impl fmt::Display for NotKnown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.why)
    }
}

impl NicState {
    /// All that is not known, and was not taken into account yet ([`NicState::accepting_not_known`]), in the order of the PFs.
    #[must_use]
    pub fn not_known(&self) -> Vec<NotKnown> {
        let mut found = Vec::new();
        // It has no key that is no text, and nothing else that JSON has no form for.
        let mut value = serde_json::to_value(self).unwrap_or_default();
        walk(&mut value, &mut Vec::new(), &mut |path, unread| {
            if !unread.is_accepted() {
                found.push(NotKnown { path: path.join(", "), why: unread.to_string() });
            }
            unread
        });
        found
    }

    /// The same state, with all that is not known taken into account: nobody will wait for it, plan it or call it wrong, and that it is lost
    /// is said.
    #[must_use]
    pub fn accepting_not_known(self) -> Self {
        let accepting = serde_json::to_value(&self).and_then(|mut value| {
            walk(&mut value, &mut Vec::new(), &mut |_, unread| unread.accepted());
            serde_json::from_value(value)
        });
        // A state that has no form in JSON, which cannot be, stays what it is: not taken into account.
        accepting.unwrap_or(self)
    }
}

/// Puts what `change` makes of it in the place of each that is not known.
fn walk(value: &mut Value, path: &mut Vec<String>, change: &mut impl FnMut(&[String], Unread) -> Unread) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                if key == NOT_KNOWN
                    && let Ok(unread) = serde_json::from_value::<Unread>(value.clone())
                {
                    *value = serde_json::to_value(change(path, unread)).unwrap_or_default();
                    continue;
                }
                let Value::Array(items) = value else {
                    path.push(key.clone());
                    walk(value, path, change);
                    path.pop();
                    continue;
                };
                for item in items {
                    path.push(name_of(key, item));
                    walk(item, path, change);
                    path.pop();
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| walk(item, path, change)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// What the `item` of a list is called.
fn name_of(list: &str, item: &Value) -> String {
    let (what, field) = match list {
        "pfs" | "unread" => ("PF", "address"),
        "vfs" => ("VF", "index"),
        "representors" => ("representor", "port"),
        _ => return list.to_owned(),
    };
    match item.get(field) {
        Some(Value::String(name)) => format!("{what} {name}"),
        Some(name) => format!("{what} {name}"),
        None => list.to_owned(),
    }
}
