//! Changes inside a text that holds JSON: the order of its members and every part that is not touched stay as they
//! are written, numbers of any size among them.

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{
    fault::Fault,
    patch::{Action, Indexes, Operation, index},
    pointer::{Token, text},
};

/// A JSON value of which only the way to the changed places is taken apart.
#[derive(Debug)]
enum Node {
    Raw(Box<RawValue>),
    Object(Vec<(String, Self)>),
    Array(Vec<Self>),
}

/// What an operation did inside a text.
pub(super) struct TextEffect {
    pub(super) path: Vec<Token>,
    pub(super) old: Option<serde_json::Value>,
}

/// Makes the changes in turn; the text is printed without white space.
pub(super) fn patch_json(
    json: &str,
    operations: &[Operation],
    indexes: Indexes,
) -> Result<(String, Vec<TextEffect>), Fault> {
    let mut root = open(json)?;
    if matches!(root, Node::Raw(_)) {
        return Err(Fault::Shape {
            at: "the text".to_owned(),
            expected: "a JSON object or list",
        });
    }
    let mut effects = Vec::with_capacity(operations.len());
    for operation in operations {
        effects.push(apply(&mut root, operation, indexes)?);
    }
    let mut printed = String::with_capacity(json.len());
    print(&root, &mut printed);
    Ok((printed, effects))
}

fn apply(root: &mut Node, operation: &Operation, indexes: Indexes) -> Result<TextEffect, Fault> {
    let Some((last, parents)) = operation.pointer.tokens().split_last() else {
        return Err(Fault::Shape {
            at: "the text".to_owned(),
            expected: "changed as a whole",
        });
    };
    let mut path = Vec::with_capacity(parents.len() + 1);
    let mut parent = root;
    for token in parents {
        parent = step(parent, token, &mut path, indexes)?;
        parent.open()?;
    }
    match parent {
        Node::Object(members) => {
            path.push(Token::Key(last.clone()));
            let place = members.iter().position(|(key, _)| key.as_str() == last.as_ref());
            let old = match (&operation.action, place) {
                (Action::Replace(_) | Action::Remove, None) => {
                    return Err(Fault::Missing { at: text(&path) });
                }
                (Action::Remove, Some(place)) => Some(members.remove(place).1),
                (Action::Add(value) | Action::Replace(value) | Action::Set(value), Some(place)) => {
                    let new = raw(value)?;
                    members
                        .get_mut(place)
                        .map(|(_, member)| std::mem::replace(member, new))
                }
                (Action::Add(value) | Action::Set(value), None) => {
                    members.push((last.to_string(), raw(value)?));
                    None
                }
            };
            Ok(TextEffect {
                path,
                old: old.as_ref().and_then(Node::value),
            })
        }
        Node::Array(items) => {
            let len = items.len();
            let places = if matches!(operation.action, Action::Add(_)) {
                len + 1
            } else {
                len
            };
            let place = match &operation.action {
                Action::Add(_) if last.as_ref() == "-" => Some(len),
                _ => index(last, places, indexes),
            };
            let Some(place) = place.filter(|place| *place < places) else {
                return Err(Fault::Index {
                    at: text(&path),
                    token: last.to_string(),
                    len,
                });
            };
            path.push(Token::Index(place));
            let old = match &operation.action {
                Action::Add(value) => {
                    items.insert(place, raw(value)?);
                    None
                }
                Action::Remove => Some(items.remove(place)),
                Action::Replace(value) | Action::Set(value) => {
                    let new = raw(value)?;
                    items.get_mut(place).map(|item| std::mem::replace(item, new))
                }
            };
            Ok(TextEffect {
                path,
                old: old.as_ref().and_then(Node::value),
            })
        }
        Node::Raw(_) => Err(Fault::NotContainer {
            at: text(&path),
            kind: "a plain value",
        }),
    }
}

fn step<'n>(
    node: &'n mut Node,
    token: &str,
    path: &mut Vec<Token>,
    indexes: Indexes,
) -> Result<&'n mut Node, Fault> {
    match node {
        Node::Object(members) => {
            path.push(Token::Key(token.into()));
            let member = members.iter_mut().find(|(key, _)| key == token);
            member
                .map(|(_, node)| node)
                .ok_or_else(|| Fault::MissingParent { at: text(path) })
        }
        Node::Array(items) => {
            let len = items.len();
            let place = index(token, len, indexes).filter(|place| *place < len);
            match place.and_then(|place| items.get_mut(place).map(|item| (place, item))) {
                Some((place, item)) => {
                    path.push(Token::Index(place));
                    Ok(item)
                }
                None => Err(Fault::Index {
                    at: text(path),
                    token: token.to_owned(),
                    len,
                }),
            }
        }
        Node::Raw(_) => Err(Fault::NotContainer {
            at: text(path),
            kind: "a plain value",
        }),
    }
}

impl Node {
    fn open(&mut self) -> Result<(), Fault> {
        if let Self::Raw(raw) = self {
            *self = open(raw.get())?;
        }
        Ok(())
    }

    fn value(&self) -> Option<serde_json::Value> {
        let mut printed = String::new();
        print(self, &mut printed);
        serde_json::from_str(&printed).ok()
    }
}

/// Takes one level apart.
fn open(json: &str) -> Result<Node, Fault> {
    serde_json::from_str::<Level>(json)
        .map(|level| level.0)
        .map_err(|error| Fault::Json {
            line: error.line(),
            column: error.column(),
        })
}

fn raw(value: &serde_json::Value) -> Result<Node, Fault> {
    serde_json::value::to_raw_value(value)
        .map(Node::Raw)
        .map_err(|error| Fault::Json {
            line: error.line(),
            column: error.column(),
        })
}

struct Level(Node);

impl<'de> Deserialize<'de> for Level {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        let node = match raw.get().trim_start().as_bytes().first() {
            Some(b'{') => Members::read(&raw).map(Node::Object),
            Some(b'[') => Items::read(&raw).map(Node::Array),
            _ => Ok(Node::Raw(raw)),
        };
        node.map(Level).map_err(serde::de::Error::custom)
    }
}

struct Members;

impl Members {
    fn read(raw: &RawValue) -> serde_json::Result<Vec<(String, Node)>> {
        let mut deserializer = serde_json::Deserializer::from_str(raw.get());
        deserializer.deserialize_map(Self)
    }
}

impl<'de> Visitor<'de> for Members {
    type Value = Vec<(String, Node)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        let mut members: Vec<(String, Node)> = Vec::new();
        // The last of several members of one name is the one that counts.
        let mut places: BTreeMap<String, usize> = BTreeMap::new();
        while let Some((key, raw)) = access.next_entry::<String, Box<RawValue>>()? {
            match places.get(&key).and_then(|place| members.get_mut(*place)) {
                Some((_, node)) => *node = Node::Raw(raw),
                None => {
                    places.insert(key.clone(), members.len());
                    members.push((key, Node::Raw(raw)));
                }
            }
        }
        Ok(members)
    }
}

struct Items;

impl Items {
    fn read(raw: &RawValue) -> serde_json::Result<Vec<Node>> {
        let mut deserializer = serde_json::Deserializer::from_str(raw.get());
        deserializer.deserialize_seq(Self)
    }
}

impl<'de> Visitor<'de> for Items {
    type Value = Vec<Node>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while let Some(raw) = access.next_element::<Box<RawValue>>()? {
            items.push(Node::Raw(raw));
        }
        Ok(items)
    }
}

fn print(node: &Node, out: &mut String) {
    match node {
        Node::Raw(raw) => compact(raw.get(), out),
        Node::Array(items) => {
            out.push('[');
            for (place, item) in items.iter().enumerate() {
                if place > 0 {
                    out.push(',');
                }
                print(item, out);
            }
            out.push(']');
        }
        Node::Object(members) => {
            out.push('{');
            for (place, (key, member)) in members.iter().enumerate() {
                if place > 0 {
                    out.push(',');
                }
                out.push_str(&serde_json::Value::from(key.as_str()).to_string());
                out.push(':');
                print(member, out);
            }
            out.push('}');
        }
    }
}

/// Leaves out white space that is not inside a string.
fn compact(json: &str, out: &mut String) {
    let mut inside_string = false;
    let mut escaped = false;
    for c in json.chars() {
        if inside_string {
            inside_string = escaped || c != '"';
            escaped = !escaped && c == '\\';
        } else if c.is_ascii_whitespace() {
            continue;
        } else {
            inside_string = c == '"';
        }
        out.push(c);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{super::pointer::Pointer, *};

    fn run(text: &str, path: &str, action: Action) -> Result<String, Fault> {
        let operation = Operation {
            pointer: Pointer::parse(path).unwrap(),
            action,
        };
        patch_json(text, &[operation], Indexes::Strict).map(|(printed, _)| printed)
    }

    #[test]
    fn order_and_numbers_stay_as_written() {
        let text = r#"{ "z": 1e400, "a": [ 1.0, 12345678901234567890123 ], "m": {"y": "a \" b", "b": 2} }"#;
        assert_eq!(
            run(text, "/m/b", Action::Replace(json!("x"))).unwrap(),
            r#"{"z":1e400,"a":[1.0,12345678901234567890123],"m":{"y":"a \" b","b":"x"}}"#
        );
        assert_eq!(
            run(text, "/m", Action::Remove).unwrap(),
            r#"{"z":1e400,"a":[1.0,12345678901234567890123]}"#
        );
        assert_eq!(
            run(text, "/n", Action::Add(json!(null))).unwrap(),
            r#"{"z":1e400,"a":[1.0,12345678901234567890123],"m":{"y":"a \" b","b":2},"n":null}"#
        );
        assert_eq!(run("[1,2]", "/0", Action::Add(json!(0))).unwrap(), "[0,1,2]");
        assert_eq!(run("[1,2]", "/-", Action::Add(json!(3))).unwrap(), "[1,2,3]");
        assert_eq!(
            run(r#"{"a":1,"b":2,"a":3}"#, "/b", Action::Remove).unwrap(),
            r#"{"a":3}"#
        );
    }

    #[test]
    fn a_text_that_is_not_json_is_refused_with_the_place() {
        assert_eq!(
            run("hello", "/a", Action::Remove),
            Err(Fault::Json { line: 1, column: 1 })
        );
        assert!(matches!(run("5", "/a", Action::Remove), Err(Fault::Shape { .. })));
        assert!(matches!(run("", "/a", Action::Remove), Err(Fault::Json { .. })));
        assert!(matches!(
            run("{\"a\":1}", "/a/b", Action::Remove),
            Err(Fault::NotContainer { .. })
        ));
        assert!(matches!(
            run("{\"a\":1}", "/b", Action::Remove),
            Err(Fault::Missing { .. })
        ));
    }
}
