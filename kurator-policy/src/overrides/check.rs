//! An independent reading of a rendered object: the report alone, applied to the object before, must give the object
//! after.

use std::{collections::BTreeSet, fmt};

use kurator_core::{plan::Notes, reason::Reason};
use serde_json::Value;

use super::{
    report::{Conflict, FieldChange},
    set::Rendered,
};

/// Reads what [`render`](super::OverrideSet::render) gave without trusting it.
///
/// An error is: an identity that changed, a change that was not made as reported, a difference nobody reported. A
/// warning is every conflict. Inside a text only the text as a whole is looked at.
///
/// ```
/// use kurator_core::observe::ClusterView;
/// use kurator_policy::overrides::{OverrideSet, OverrideSource, check};
/// use serde_json::json;
///
/// let object = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "c" }, "data": { "a": "b" } });
/// let overrides = OverrideSet::compile::<OverrideSource>([]);
/// let mut rendered = overrides.render(&object, &ClusterView::new("member1".parse()?))?;
/// assert!(check(&object, &rendered).is_empty());
///
/// rendered.object["data"]["a"] = json!("x");
/// assert_eq!(
///     check(&object, &rendered).to_string(),
///     "error   /data/a: Unexplained: no policy is named for \"x\" in the place of \"b\"\n",
/// );
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn check(before: &Value, rendered: &Rendered) -> Notes {
    let mut notes = Notes::default();
    for field in ["/apiVersion", "/kind", "/metadata/name", "/metadata/namespace"] {
        if before.pointer(field) != rendered.object.pointer(field) {
            notes.error(field, &Rule::IdentityChanged);
        }
    }
    let mut replayed = before.clone();
    let mut texts = BTreeSet::new();
    for change in &rendered.report.changes {
        if let Some((field, _)) = change.path.split_once(" > ") {
            texts.insert(field.to_owned());
        } else if !replay(&mut replayed, change) {
            notes.error(&change.path, &Rule::NotAsReported(change));
        }
    }
    let mut path = String::new();
    compare(&replayed, &rendered.object, &mut path, &texts, &mut notes);
    for conflict in &rendered.report.conflicts {
        notes.warning(&conflict.path, &Rule::Overruled(conflict));
    }
    notes
}

enum Rule<'a> {
    IdentityChanged,
    NotAsReported(&'a FieldChange),
    Overruled(&'a Conflict),
    Unexplained(Option<&'a Value>, Option<&'a Value>),
}

impl Reason for Rule<'_> {
    fn token(&self) -> &'static str {
        match self {
            Self::IdentityChanged => "IdentityChanged",
            Self::NotAsReported(_) => "NotAsReported",
            Self::Overruled(_) => "Overruled",
            Self::Unexplained(..) => "Unexplained",
        }
    }
}

impl fmt::Display for Rule<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |value: Option<&Value>| value.map_or_else(|| "nothing".to_owned(), Value::to_string);
        match self {
            Self::IdentityChanged => f.write_str("it is another object now"),
            Self::NotAsReported(change) => write!(f, "{change} cannot have happened"),
            Self::Overruled(conflict) => {
                write!(f, "{} is overruled by {}", conflict.overruled, conflict.winner)
            }
            Self::Unexplained(before, after) => {
                write!(
                    f,
                    "no policy is named for {} in the place of {}",
                    text(*after),
                    text(*before)
                )
            }
        }
    }
}

/// Makes a change again; whether what it says was there, was there.
fn replay(object: &mut Value, change: &FieldChange) -> bool {
    let Some((parent, last)) = change.path.rsplit_once('/') else {
        let (Some(old), Some(new)) = (&change.old, &change.new) else {
            return false;
        };
        return old == &std::mem::replace(object, new.clone());
    };
    let key = last.replace("~1", "/").replace("~0", "~");
    match (object.pointer_mut(parent), &change.old, &change.new) {
        (Some(Value::Object(members)), old, Some(new)) => members.insert(key, new.clone()) == *old,
        (Some(Value::Object(members)), old, None) => members.remove(&key) == *old,
        (Some(Value::Array(items)), old, new) => {
            let Ok(place) = key.parse::<usize>() else {
                return false;
            };
            match (old, new) {
                (None, Some(new)) if place <= items.len() => {
                    items.insert(place, new.clone());
                    true
                }
                (Some(old), Some(new)) => items
                    .get_mut(place)
                    .is_some_and(|item| std::mem::replace(item, new.clone()) == *old),
                (Some(old), None) => place < items.len() && items.remove(place) == *old,
                _ => false,
            }
        }
        _ => false,
    }
}

fn compare(before: &Value, after: &Value, path: &mut String, texts: &BTreeSet<String>, notes: &mut Notes) {
    let len = path.len();
    match (before, after) {
        _ if before == after || texts.contains(path.as_str()) => {}
        (Value::Object(old), Value::Object(new)) => {
            let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
            for key in keys {
                path.push('/');
                path.push_str(&key.replace('~', "~0").replace('/', "~1"));
                match (old.get(key), new.get(key)) {
                    (Some(old), Some(new)) => compare(old, new, path, texts, notes),
                    (old, new) => notes.error(&*path, &Rule::Unexplained(old, new)),
                }
                path.truncate(len);
            }
        }
        (Value::Array(old), Value::Array(new)) if old.len() == new.len() => {
            for (place, (old, new)) in old.iter().zip(new).enumerate() {
                path.push('/');
                path.push_str(&place.to_string());
                compare(old, new, path, texts, notes);
                path.truncate(len);
            }
        }
        (old, new) => notes.error(&*path, &Rule::Unexplained(Some(old), Some(new))),
    }
}
