//! Single changes of a JSON value, after RFC 6902.

use serde_json::Value;

use super::{
    fault::{Fault, kind},
    pointer::{Pointer, Token, text},
};

/// What to do at a place.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Action {
    Add(Value),
    Remove,
    Replace(Value),
    /// Replace it, or create it if its parent is there.
    Set(Value),
}

/// One operation, ready to be applied.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Operation {
    pub(super) pointer: Pointer,
    pub(super) action: Action,
}

/// What an operation did.
#[derive(Debug)]
pub(super) struct Effect {
    pub(super) path: Vec<Token>,
    pub(super) old: Option<Value>,
    /// Elements of a list behind the place moved by so much.
    pub(super) shift: Shift,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shift {
    None,
    Inserted,
    Removed,
}

/// How the numbers in a path are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Indexes {
    /// As RFC 6901 says.
    Strict,
    /// As Karmada's patch library does: signs and leading zeros are fine, negative numbers count from the end.
    Lenient,
}

/// Which element of a list of `len` a step means.
pub(super) fn index(token: &str, len: usize, indexes: Indexes) -> Option<usize> {
    match indexes {
        Indexes::Strict if token == "0" => Some(0),
        Indexes::Strict => {
            let canonical = token.bytes().all(|b| b.is_ascii_digit()) && !token.starts_with('0');
            if canonical { token.parse().ok() } else { None }
        }
        Indexes::Lenient => match token.parse::<i64>().ok()? {
            number if number < 0 => usize::try_from(number.unsigned_abs())
                .ok()
                .and_then(|back| len.checked_sub(back)),
            number => usize::try_from(number).ok(),
        },
    }
}

/// Makes one change, or none.
pub(super) fn apply(root: &mut Value, operation: &Operation, indexes: Indexes) -> Result<Effect, Fault> {
    let Some((last, parents)) = operation.pointer.tokens().split_last() else {
        return replace_root(root, &operation.action);
    };
    let mut path = Vec::with_capacity(parents.len() + 1);
    let mut parent = root;
    for token in parents {
        parent = step(parent, token, &mut path, indexes)?;
    }
    match parent {
        Value::Object(members) => {
            path.push(Token::Key(last.clone()));
            let present = members.contains_key(last.as_ref());
            let old = match &operation.action {
                Action::Replace(_) | Action::Remove if !present => {
                    return Err(Fault::Missing { at: text(&path) });
                }
                Action::Remove => members.remove(last.as_ref()),
                Action::Add(value) | Action::Replace(value) | Action::Set(value) => {
                    members.insert(last.to_string(), value.clone())
                }
            };
            Ok(Effect {
                path,
                old,
                shift: Shift::None,
            })
        }
        Value::Array(items) => change_element(items, last, path, &operation.action, indexes),
        other => Err(Fault::NotContainer {
            at: text(&path),
            kind: kind(other),
        }),
    }
}

fn change_element(
    items: &mut Vec<Value>,
    token: &str,
    mut path: Vec<Token>,
    action: &Action,
    indexes: Indexes,
) -> Result<Effect, Fault> {
    let len = items.len();
    let places = if matches!(action, Action::Add(_)) {
        len + 1
    } else {
        len
    };
    let place = match action {
        Action::Add(_) if token == "-" => Some(len),
        _ => index(token, places, indexes),
    };
    let Some(place) = place.filter(|place| *place < places) else {
        return Err(Fault::Index {
            at: text(&path),
            token: token.to_owned(),
            len,
        });
    };
    path.push(Token::Index(place));
    let (old, shift) = match action {
        Action::Add(value) => {
            items.insert(place, value.clone());
            (None, Shift::Inserted)
        }
        Action::Remove => (Some(items.remove(place)), Shift::Removed),
        Action::Replace(value) | Action::Set(value) => {
            let old = items
                .get_mut(place)
                .map(|item| std::mem::replace(item, value.clone()));
            (old, Shift::None)
        }
    };
    Ok(Effect { path, old, shift })
}

/// Only Karmada's dialect has a pointer without steps.
fn replace_root(root: &mut Value, action: &Action) -> Result<Effect, Fault> {
    match action {
        Action::Add(value @ Value::Object(_)) | Action::Replace(value @ Value::Object(_)) => {
            let old = std::mem::replace(root, value.clone());
            Ok(Effect {
                path: Vec::new(),
                old: Some(old),
                shift: Shift::None,
            })
        }
        _ => Err(Fault::Shape {
            at: "the whole object".to_owned(),
            expected: "an object",
        }),
    }
}

fn step<'v>(
    value: &'v mut Value,
    token: &str,
    path: &mut Vec<Token>,
    indexes: Indexes,
) -> Result<&'v mut Value, Fault> {
    match value {
        Value::Object(members) => {
            path.push(Token::Key(token.into()));
            members
                .get_mut(token)
                .ok_or_else(|| Fault::MissingParent { at: text(path) })
        }
        Value::Array(items) => {
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
        other => Err(Fault::NotContainer {
            at: text(path),
            kind: kind(other),
        }),
    }
}

/// The place a pointer means, and the path to it.
pub(super) fn find<'v>(
    root: &'v mut Value,
    pointer: &Pointer,
    indexes: Indexes,
) -> Result<(&'v mut Value, Vec<Token>), Fault> {
    let mut path = Vec::with_capacity(pointer.tokens().len());
    let mut value = root;
    for token in pointer.tokens() {
        value = step(value, token, &mut path, indexes)?;
    }
    Ok((value, path))
}

/// What is at a path now; nothing if the path leads inside a text.
pub(super) fn get<'v>(root: &'v Value, path: &[Token]) -> Option<&'v Value> {
    path.iter().try_fold(root, |value, token| match token {
        Token::Index(index) => value.as_array()?.get(*index),
        Token::Key(key) => value.as_object()?.get(key.as_ref()),
        Token::Inside => None,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn run(object: &Value, path: &str, action: Action) -> Result<Value, Fault> {
        let mut changed = object.clone();
        let operation = Operation {
            pointer: Pointer::parse(path).unwrap(),
            action,
        };
        apply(&mut changed, &operation, Indexes::Strict).map(|_| changed)
    }

    #[test]
    fn operators_do_what_rfc_6902_says() {
        let object = json!({ "a": { "b": 1 }, "l": [1, 2] });
        assert_eq!(
            run(&object, "/a/c", Action::Add(json!(2))).unwrap(),
            json!({ "a": { "b": 1, "c": 2 }, "l": [1, 2] })
        );
        assert_eq!(
            run(&object, "/a/b", Action::Add(json!(2))).unwrap(),
            json!({ "a": { "b": 2 }, "l": [1, 2] })
        );
        assert_eq!(
            run(&object, "/l/0", Action::Add(json!(0))).unwrap(),
            json!({ "a": { "b": 1 }, "l": [0, 1, 2] })
        );
        assert_eq!(
            run(&object, "/l/-", Action::Add(json!(3))).unwrap(),
            json!({ "a": { "b": 1 }, "l": [1, 2, 3] })
        );
        assert_eq!(
            run(&object, "/l/2", Action::Add(json!(3))).unwrap(),
            json!({ "a": { "b": 1 }, "l": [1, 2, 3] })
        );
        assert_eq!(
            run(&object, "/l/0", Action::Remove).unwrap(),
            json!({ "a": { "b": 1 }, "l": [2] })
        );
        assert_eq!(
            run(&object, "/a", Action::Remove).unwrap(),
            json!({ "l": [1, 2] })
        );
        assert_eq!(
            run(&object, "/l/1", Action::Replace(json!(9))).unwrap(),
            json!({ "a": { "b": 1 }, "l": [1, 9] })
        );
    }

    #[test]
    fn set_creates_the_last_step_only_and_no_list_element() {
        let object = json!({ "a": {}, "l": [1] });
        assert_eq!(
            run(&object, "/a/b", Action::Set(json!(1))).unwrap(),
            json!({ "a": { "b": 1 }, "l": [1] })
        );
        assert_eq!(
            run(&object, "/x/y", Action::Set(json!(1))),
            Err(Fault::MissingParent { at: "/x".to_owned() })
        );
        for end in ["1", "-"] {
            let fault = Fault::Index {
                at: "/l".to_owned(),
                token: end.to_owned(),
                len: 1,
            };
            assert_eq!(
                run(&object, &format!("/l/{end}"), Action::Set(json!(1))),
                Err(fault)
            );
        }
    }

    #[test]
    fn what_is_not_there_is_named() {
        let object = json!({ "a": { "b": 1 }, "l": [1] });
        let missing = Err(Fault::Missing {
            at: "/a/c".to_owned(),
        });
        assert_eq!(run(&object, "/a/c", Action::Replace(json!(1))), missing);
        assert_eq!(run(&object, "/a/c", Action::Remove), missing);
        assert_eq!(
            run(&object, "/a/b/c", Action::Add(json!(1))),
            Err(Fault::NotContainer {
                at: "/a/b".to_owned(),
                kind: "a number"
            })
        );
        for token in ["01", "+0", "-1", "x", "", "1", "99999999999999999999"] {
            let fault = Fault::Index {
                at: "/l".to_owned(),
                token: token.to_owned(),
                len: 1,
            };
            assert_eq!(
                run(&object, &format!("/l/{token}"), Action::Replace(json!(1))),
                Err(fault)
            );
        }
    }

    #[test]
    fn lenient_numbers_count_from_the_end() {
        assert_eq!(index("-1", 3, Indexes::Lenient), Some(2));
        assert_eq!(index("-3", 3, Indexes::Lenient), Some(0));
        assert_eq!(index("-4", 3, Indexes::Lenient), None);
        assert_eq!(index("+1", 3, Indexes::Lenient), Some(1));
        assert_eq!(index("01", 3, Indexes::Lenient), Some(1));
        assert_eq!(index("-", 3, Indexes::Lenient), None);
    }
}
