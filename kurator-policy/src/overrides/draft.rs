use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    fault::Fault,
    patch::{self, Action, Indexes, Operation, Shift, get},
    pointer::{Token, text},
    report::{Conflict, FieldChange, OverrideReport, PolicyName, SkipReason, Skipped},
};

/// An object while policies change it, and the account of who did what.
///
/// Who set which field is kept only where several policies meet: one alone has nobody to disagree with.
pub(super) struct Draft<'p> {
    pub(super) root: Value,
    pub(super) report: OverrideReport,
    author: Option<Author<'p>>,
    claims: Option<BTreeMap<Vec<Token>, Claim<'p>>>,
}

/// Whose changes are being made.
#[derive(Clone, Copy)]
pub(super) struct Author<'p> {
    pub(super) policy: &'p PolicyName,
    pub(super) rule: usize,
    pub(super) step: &'p str,
}

/// What a policy wants a field to be.
struct Claim<'p> {
    policy: &'p PolicyName,
    value: Option<Value>,
}

/// A change that was made.
pub(super) struct Made {
    /// The field.
    pub(super) path: Vec<Token>,
    /// The part of its text that is meant, if it is not the whole.
    pub(super) inside: Vec<Token>,
    pub(super) old: Option<Value>,
    pub(super) new: Option<Value>,
    /// What the policy claims, if that is less than the new value.
    pub(super) claim: Option<Value>,
    /// Whether the new value continues the old one instead of taking its place.
    pub(super) builds: bool,
    pub(super) shift: Shift,
}

impl Made {
    pub(super) fn at(path: Vec<Token>, old: Option<Value>, new: Option<Value>) -> Self {
        Self {
            path,
            inside: Vec::new(),
            old,
            new,
            claim: None,
            builds: false,
            shift: Shift::None,
        }
    }
}

impl<'p> Draft<'p> {
    pub(super) fn new(root: Value) -> Self {
        Self {
            root,
            report: OverrideReport::default(),
            author: None,
            claims: None,
        }
    }

    /// From now on keeps who set which field.
    pub(super) fn keep_claims(&mut self) {
        self.claims.get_or_insert_default();
    }

    /// Says whose changes follow.
    pub(super) fn sign(&mut self, author: Author<'p>) {
        self.author = Some(author);
    }

    pub(super) fn skip(&mut self, reason: SkipReason) {
        let Some(Author { policy, rule, step }) = self.author else {
            return;
        };
        self.report.skipped.push(Skipped {
            policy: policy.clone(),
            rule,
            step: step.to_owned(),
            reason,
        });
    }

    pub(super) fn apply(&mut self, operation: &Operation, indexes: Indexes) -> Result<(), Fault> {
        let effect = patch::apply(&mut self.root, operation, indexes)?;
        let new = match &operation.action {
            Action::Add(value) | Action::Replace(value) | Action::Set(value) => Some(value.clone()),
            Action::Remove => None,
        };
        self.record(Made {
            shift: effect.shift,
            ..Made::at(effect.path, effect.old, new)
        });
        Ok(())
    }

    /// Puts a member into an object, or takes it out, and records it.
    pub(super) fn put(&mut self, object: &[Token], key: &str, value: Option<Value>) -> Result<(), Fault> {
        let Some(Value::Object(members)) = get_mut(&mut self.root, object) else {
            return Err(Fault::Shape {
                at: text(object),
                expected: "an object",
            });
        };
        let old = match &value {
            Some(value) => members.insert(key.to_owned(), value.clone()),
            None => members.remove(key),
        };
        let mut path = object.to_vec();
        path.push(Token::Key(key.into()));
        self.record(Made::at(path, old, value));
        Ok(())
    }

    /// Puts an element at the end of a list.
    pub(super) fn push(&mut self, list: &[Token], value: Value) -> Result<(), Fault> {
        let Some(Value::Array(items)) = get_mut(&mut self.root, list) else {
            return Err(Fault::Shape {
                at: text(list),
                expected: "a list",
            });
        };
        let mut path = list.to_vec();
        path.push(Token::Index(items.len()));
        items.push(value.clone());
        self.record(Made::at(path, None, Some(value)));
        Ok(())
    }

    /// Takes out of a list every element for which `doomed` holds; says how many there were.
    pub(super) fn take_out(
        &mut self,
        list: &[Token],
        doomed: impl Fn(&Value) -> bool,
    ) -> Result<usize, Fault> {
        let mut taken = 0;
        loop {
            let Some(Value::Array(items)) = get_mut(&mut self.root, list) else {
                return Err(Fault::Shape {
                    at: text(list),
                    expected: "a list",
                });
            };
            let Some(place) = items.iter().position(&doomed) else {
                return Ok(taken);
            };
            let old = items.remove(place);
            let mut path = list.to_vec();
            path.push(Token::Index(place));
            self.record(Made {
                shift: Shift::Removed,
                ..Made::at(path, Some(old), None)
            });
            taken += 1;
        }
    }

    /// Puts another value in the place of one that is there.
    pub(super) fn replace(&mut self, made: Made) -> Result<(), Fault> {
        let Some(place) = get_mut(&mut self.root, &made.path) else {
            return Err(Fault::Missing { at: text(&made.path) });
        };
        if let Some(new) = &made.new {
            *place = new.clone();
        }
        self.record(made);
        Ok(())
    }

    /// Writes down a change that is already in the object.
    pub(super) fn record(&mut self, made: Made) {
        let Some(Author { policy, rule, .. }) = self.author else {
            return;
        };
        self.claim(&made, policy);
        if made.old == made.new && made.shift == Shift::None {
            return;
        }
        let inside_text = made.claim.is_none() && !made.inside.is_empty();
        let path = if inside_text {
            text(&key(&made))
        } else {
            text(&made.path)
        };
        self.report.changes.push(FieldChange {
            path,
            policy: policy.clone(),
            rule,
            old: made.old,
            new: made.new,
        });
    }

    fn claim(&mut self, made: &Made, me: &'p PolicyName) {
        let Some(claims) = &mut self.claims else { return };
        let key = key(made);
        let value = made.claim.as_ref().or(made.new.as_ref());

        if made.shift == Shift::Inserted {
            shift(claims, &made.path, Shift::Inserted);
            claims.insert(
                key,
                Claim {
                    policy: me,
                    value: value.cloned(),
                },
            );
            return;
        }
        if !made.builds {
            let conflicts = &mut self.report.conflicts;
            let mut disagree =
                |path: &[Token], claim: &Claim<'p>, theirs: Option<&Value>, now: Option<&Value>| {
                    if claim.policy != me && theirs != now {
                        conflicts.push(Conflict {
                            path: text(path),
                            overruled: claim.policy.clone(),
                            overruled_value: theirs.cloned(),
                            winner: me.clone(),
                            value: now.cloned(),
                        });
                    }
                };
            for end in 0..key.len() {
                let Some(claim) = claims.get(&key[..end]) else {
                    continue;
                };
                let theirs = claim.value.as_ref();
                match key[end..].iter().position(|token| *token == Token::Inside) {
                    // They set the whole text of which a part is changed.
                    Some(_) => {
                        let field = &made.path;
                        let theirs = theirs.and_then(|value| get(value, field.get(end..)?));
                        disagree(field, claim, theirs, get(&self.root, field));
                    }
                    None => disagree(
                        &key,
                        claim,
                        theirs.and_then(|value| get(value, &key[end..])),
                        value,
                    ),
                }
            }
            let below = claims
                .range(key.clone()..)
                .take_while(|(path, _)| path.starts_with(&key));
            for (path, claim) in below {
                let rest = &path[key.len()..];
                match rest.iter().position(|token| *token == Token::Inside) {
                    // They changed a part of a text that is now another.
                    Some(place) => {
                        let field = &rest[..place];
                        let was = made.old.as_ref().and_then(|old| get(old, field));
                        let now = made.new.as_ref().and_then(|new| get(new, field));
                        if was != now {
                            disagree(path, claim, claim.value.as_ref(), now);
                        }
                    }
                    None => {
                        let now = value.and_then(|value| get(value, rest));
                        disagree(path, claim, claim.value.as_ref(), now);
                    }
                }
            }
        }
        let stale: Vec<_> = claims
            .range(key.clone()..)
            .map(|(path, _)| path)
            .take_while(|path| path.starts_with(&key))
            .cloned()
            .collect();
        for path in stale {
            claims.remove(&path);
        }
        if made.shift == Shift::Removed {
            shift(claims, &made.path, Shift::Removed);
        } else {
            claims.insert(
                key,
                Claim {
                    policy: me,
                    value: value.cloned(),
                },
            );
        }
    }
}

fn key(made: &Made) -> Vec<Token> {
    let mut key = made.path.clone();
    if !made.inside.is_empty() {
        key.push(Token::Inside);
        key.extend(made.inside.iter().cloned());
    }
    key
}

/// Follows the elements of a list that moved because one before them came or went.
fn shift(claims: &mut BTreeMap<Vec<Token>, Claim<'_>>, element: &[Token], by: Shift) {
    let Some((Token::Index(place), list)) = element.split_last() else {
        return;
    };
    let depth = list.len();
    let behind: Vec<Vec<Token>> = claims
        .range(element.to_vec()..)
        .map(|(path, _)| path)
        .take_while(|path| path.starts_with(list))
        .filter(|path| matches!(path.get(depth), Some(Token::Index(at)) if at >= place))
        .cloned()
        .collect();
    let mut moved = Vec::with_capacity(behind.len());
    for path in behind {
        if let Some(claim) = claims.remove(&path) {
            let mut path = path;
            if let Some(Token::Index(at)) = path.get_mut(depth) {
                *at = if by == Shift::Inserted {
                    at.saturating_add(1)
                } else {
                    at.saturating_sub(1)
                };
            }
            moved.push((path, claim));
        }
    }
    claims.extend(moved);
}

pub(super) fn get_mut<'v>(root: &'v mut Value, path: &[Token]) -> Option<&'v mut Value> {
    path.iter().try_fold(root, |value, token| match token {
        Token::Index(index) => value.as_array_mut()?.get_mut(*index),
        Token::Key(key) => value.as_object_mut()?.get_mut(key.as_ref()),
        Token::Inside => None,
    })
}
