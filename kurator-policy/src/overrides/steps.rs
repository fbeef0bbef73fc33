//! The parts of a rule, each compiled from an overrider and applied to a draft.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::api::{EnvVariable, ImageComponent, OverrideOperator};

#[cfg(feature = "yaml")]
use super::yaml;
use super::{
    Dialect,
    containers::{containers, fits_its_type, pod_specs},
    draft::{Draft, Made},
    fault::{Fault, kind},
    image::Image,
    patch::{Action, Indexes, Operation, find, get},
    pointer::{Pointer, Token, text},
    report::SkipReason,
    text::{TextEffect, patch_json},
};

/// One overrider, compiled.
#[derive(Debug)]
pub(super) enum Step {
    Env {
        container: String,
        operator: OverrideOperator,
        variables: Vec<EnvVariable>,
    },
    Image {
        predicate: Option<Pointer>,
        component: ImageComponent,
        operator: OverrideOperator,
        value: String,
    },
    Merge(Map<String, Value>),
    Meta {
        field: &'static str,
        operator: OverrideOperator,
        values: BTreeMap<String, String>,
    },
    Patch(Operation),
    Text {
        pointer: Pointer,
        format: TextFormat,
        operations: Vec<Operation>,
    },
    Words {
        field: &'static str,
        container: String,
        operator: OverrideOperator,
        words: Vec<String>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TextFormat {
    Json,
    /// Karmada empties a text for which it has no operations.
    Nothing,
    Yaml,
}

impl Dialect {
    fn indexes(self) -> Indexes {
        match self {
            Self::Kurator => Indexes::Strict,
            Self::Karmada => Indexes::Lenient,
        }
    }
}

impl Step {
    /// The path this step names, if it names one.
    pub(super) fn path(&self) -> String {
        match self {
            Self::Env { container, .. } => format!("env of container {container}"),
            Self::Image {
                predicate: Some(pointer),
                ..
            }
            | Self::Patch(Operation { pointer, .. })
            | Self::Text { pointer, .. } => pointer.to_string(),
            Self::Image { predicate: None, .. } => "images of its containers".to_owned(),
            Self::Merge(_) => "/".to_owned(),
            Self::Meta { field, .. } => format!("/metadata/{field}"),
            Self::Words { field, container, .. } => format!("{field} of container {container}"),
        }
    }

    pub(super) fn apply(&self, draft: &mut Draft<'_>, dialect: Dialect) -> Result<(), Fault> {
        match self {
            Self::Env {
                container,
                operator,
                variables,
            } => change_env(draft, container, *operator, variables, dialect),
            Self::Image {
                predicate,
                component,
                operator,
                value,
            } => match predicate {
                Some(pointer) => {
                    change_image_at(draft, pointer, (*component, *operator, value.as_str()), dialect)
                }
                None => change_images(draft, (*component, *operator, value.as_str()), dialect),
            },
            Self::Merge(patch) => merge(draft, &mut Vec::new(), patch),
            Self::Meta {
                field,
                operator,
                values,
            } => change_meta(draft, field, *operator, values, dialect),
            Self::Patch(operation) => draft.apply(operation, dialect.indexes()),
            Self::Text {
                pointer,
                format,
                operations,
            } => change_text(draft, pointer, *format, operations, dialect),
            Self::Words {
                field,
                container,
                operator,
                words,
            } => change_words(draft, field, container, *operator, words, dialect),
        }
    }
}

type ImageChange<'a> = (ImageComponent, OverrideOperator, &'a str);

/// The new reference and the new part of it.
fn changed_image(old: &str, change: ImageChange<'_>, dialect: Dialect) -> Result<(String, String), Fault> {
    let (component, operator, value) = change;
    let mut image = Image::parse(old)?;
    match image.change(component, operator, value) {
        // Karmada leaves the image as it is.
        Err(Fault::Tag { .. }) if dialect == Dialect::Karmada => {}
        other => other?,
    }
    let new = image.print();
    if dialect == Dialect::Kurator {
        Image::parse(&new)?;
    }
    Ok((new, image.part(component).to_owned()))
}

fn made_image(path: Vec<Token>, old: &str, new: (String, String), change: ImageChange<'_>) -> Made {
    let part = match change.0 {
        ImageComponent::Registry => "registry",
        ImageComponent::Repository => "repository",
        ImageComponent::Tag => "tag",
    };
    Made {
        inside: vec![Token::Key(part.into())],
        claim: Some(new.1.into()),
        builds: change.1 == OverrideOperator::Add,
        ..Made::at(path, Some(old.into()), Some(new.0.into()))
    }
}

fn change_image_at(
    draft: &mut Draft<'_>,
    pointer: &Pointer,
    change: ImageChange<'_>,
    dialect: Dialect,
) -> Result<(), Fault> {
    let (value, path) = find(&mut draft.root, pointer, dialect.indexes())?;
    let Value::String(old) = value else {
        return Err(Fault::NotText {
            at: text(&path),
            kind: kind(value),
        });
    };
    let old = old.clone();
    let new = changed_image(&old, change, dialect)?;
    draft.replace(made_image(path, &old, new, change))
}

fn change_images(draft: &mut Draft<'_>, change: ImageChange<'_>, dialect: Dialect) -> Result<(), Fault> {
    let specs = pod_specs(&draft.root, dialect);
    if specs.is_empty() {
        draft.skip(SkipReason::NoPodTemplate);
        return Ok(());
    }
    if dialect == Dialect::Karmada {
        fits_its_type(&draft.root)?;
    }
    for mut path in containers(&draft.root, &specs, dialect)? {
        path.push(Token::Key("image".into()));
        let old = match get(&draft.root, &path) {
            Some(Value::String(old)) => old.clone(),
            None | Some(Value::Null) if dialect == Dialect::Kurator => continue,
            None | Some(Value::Null) => String::new(),
            Some(other) => {
                return Err(Fault::NotText {
                    at: text(&path),
                    kind: kind(other),
                });
            }
        };
        let new = changed_image(&old, change, dialect)?;
        draft.replace(made_image(path, &old, new, change))?;
    }
    Ok(())
}

/// The containers of this name; an account of it if there is none.
fn named_containers(draft: &mut Draft<'_>, name: &str, dialect: Dialect) -> Result<Vec<Vec<Token>>, Fault> {
    let specs = pod_specs(&draft.root, dialect);
    if specs.is_empty() {
        draft.skip(SkipReason::NoPodTemplate);
        return Ok(Vec::new());
    }
    let mut named = Vec::new();
    for path in containers(&draft.root, &specs, dialect)? {
        match get(&draft.root, &path) {
            Some(Value::Object(container)) => {
                if container.get("name").and_then(Value::as_str) == Some(name) {
                    named.push(path);
                }
            }
            _ => {
                return Err(Fault::Shape {
                    at: text(&path),
                    expected: "a container",
                });
            }
        }
    }
    if named.is_empty() {
        draft.skip(SkipReason::NoContainer(name.to_owned()));
    }
    Ok(named)
}

fn change_words(
    draft: &mut Draft<'_>,
    field: &str,
    container: &str,
    operator: OverrideOperator,
    words: &[String],
    dialect: Dialect,
) -> Result<(), Fault> {
    for container in named_containers(draft, container, dialect)? {
        let mut list = container.clone();
        list.push(Token::Key(field.into()));
        let missing = match get(&draft.root, &list) {
            None | Some(Value::Null) => true,
            Some(Value::Array(items)) if items.iter().all(Value::is_string) => false,
            Some(_) => {
                return Err(Fault::Shape {
                    at: text(&list),
                    expected: "a list of words",
                });
            }
        };
        if missing {
            if operator == OverrideOperator::Remove && dialect == Dialect::Kurator {
                continue;
            }
            draft.put(&container, field, Some(json!([])))?;
        }
        match operator {
            OverrideOperator::Add => {
                for word in words {
                    draft.push(&list, word.as_str().into())?;
                }
            }
            OverrideOperator::Remove => {
                draft.take_out(&list, |item| words.iter().any(|word| item == word.as_str()))?;
            }
            // Refused when compiled, but for Karmada, which does not look at it.
            OverrideOperator::Replace => {}
        }
    }
    Ok(())
}

fn change_env(
    draft: &mut Draft<'_>,
    container: &str,
    operator: OverrideOperator,
    variables: &[EnvVariable],
    dialect: Dialect,
) -> Result<(), Fault> {
    for container in named_containers(draft, container, dialect)? {
        let mut list = container.clone();
        list.push(Token::Key("env".into()));
        match get(&draft.root, &list) {
            None | Some(Value::Null) if operator == OverrideOperator::Add => {
                draft.put(&container, "env", Some(json!([])))?;
            }
            None | Some(Value::Null) => {
                draft.skip(SkipReason::NoKey(text(&list)));
                continue;
            }
            Some(Value::Array(_)) => {}
            Some(_) => {
                return Err(Fault::Shape {
                    at: text(&list),
                    expected: "a list",
                });
            }
        }
        for variable in variables {
            let is_it = |item: &Value| item.get("name").and_then(Value::as_str) == Some(&variable.name);
            if operator == OverrideOperator::Remove {
                if draft.take_out(&list, is_it)? == 0 {
                    draft.skip(SkipReason::NoKey(format!("{}/{}", text(&list), variable.name)));
                }
                continue;
            }
            let items = get(&draft.root, &list).and_then(Value::as_array);
            let place = items.and_then(|items| items.iter().position(is_it));
            let old = items
                .zip(place)
                .and_then(|(items, place)| items.get(place))
                .cloned();
            let new = env_value(variable);
            match (place, operator) {
                (Some(place), _) => {
                    let mut path = list.clone();
                    path.push(Token::Index(place));
                    draft.replace(Made::at(path, old, Some(new)))?;
                }
                (None, OverrideOperator::Add) => draft.push(&list, new)?,
                (None, _) => draft.skip(SkipReason::NoKey(format!("{}/{}", text(&list), variable.name))),
            }
        }
    }
    Ok(())
}

fn env_value(variable: &EnvVariable) -> Value {
    let mut value = Map::new();
    value.insert("name".to_owned(), variable.name.as_str().into());
    if let Some(text) = &variable.value {
        value.insert("value".to_owned(), text.as_str().into());
    }
    if let Some(from) = &variable.value_from {
        value.insert("valueFrom".to_owned(), from.clone());
    }
    Value::Object(value)
}

fn change_meta(
    draft: &mut Draft<'_>,
    field: &str,
    operator: OverrideOperator,
    values: &BTreeMap<String, String>,
    dialect: Dialect,
) -> Result<(), Fault> {
    let metadata = [Token::Key("metadata".into())];
    let map = [Token::Key("metadata".into()), Token::Key(field.into())];
    for (key, value) in values {
        let present = match get(&draft.root, &map) {
            Some(Value::Object(members)) => {
                if dialect == Dialect::Karmada && !members.values().all(Value::is_string) {
                    // Karmada cannot read such a map: to it, there is none.
                    None
                } else {
                    Some(members.contains_key(key))
                }
            }
            None | Some(Value::Null) => None,
            Some(_) if dialect == Dialect::Karmada => None,
            Some(_) => {
                return Err(Fault::Shape {
                    at: text(&map),
                    expected: "a map of texts",
                });
            }
        };
        match (operator, present) {
            (OverrideOperator::Add, _) => {
                if present.is_none() {
                    if dialect == Dialect::Kurator && get(&draft.root, &metadata).is_none() {
                        draft.put(&[], "metadata", Some(json!({})))?;
                    }
                    draft.put(&metadata, field, Some(json!({})))?;
                }
                draft.put(&map, key, Some(value.as_str().into()))?;
            }
            (OverrideOperator::Replace, Some(true)) => draft.put(&map, key, Some(value.as_str().into()))?,
            (OverrideOperator::Remove, Some(true)) => draft.put(&map, key, None)?,
            _ => draft.skip(SkipReason::NoKey(format!("{}/{key}", text(&map)))),
        }
    }
    Ok(())
}

fn change_text(
    draft: &mut Draft<'_>,
    pointer: &Pointer,
    format: TextFormat,
    operations: &[Operation],
    dialect: Dialect,
) -> Result<(), Fault> {
    let (value, path) = find(&mut draft.root, pointer, Indexes::Strict)?;
    let Value::String(field) = value else {
        return Err(Fault::NotText {
            at: text(&path),
            kind: kind(value),
        });
    };
    let effects = match format {
        TextFormat::Nothing => {
            let old = std::mem::take(field);
            draft.record(Made::at(path, Some(old.into()), Some("".into())));
            return Ok(());
        }
        TextFormat::Json => {
            let (printed, effects) = patch_json(field, operations, dialect.indexes())?;
            *field = printed;
            effects
        }
        #[cfg(not(feature = "yaml"))]
        TextFormat::Yaml => return Err(Fault::NoYaml),
        #[cfg(feature = "yaml")]
        TextFormat::Yaml => {
            let (printed, effects) = yaml::patch_yaml(field, operations, dialect.indexes())?;
            *field = printed;
            effects
        }
    };
    for (TextEffect { path: inside, old }, operation) in effects.into_iter().zip(operations) {
        let new = match &operation.action {
            Action::Add(value) | Action::Replace(value) | Action::Set(value) => Some(value.clone()),
            Action::Remove => None,
        };
        draft.record(Made {
            inside,
            ..Made::at(path.clone(), old, new)
        });
    }
    Ok(())
}

/// RFC 7386, member by member, so that every change has its own place.
fn merge(draft: &mut Draft<'_>, path: &mut Vec<Token>, patch: &Map<String, Value>) -> Result<(), Fault> {
    for (key, value) in patch {
        path.push(Token::Key(key.as_str().into()));
        let (parent, present) = (path.len() - 1, get(&draft.root, path));
        match (value, present) {
            (Value::Null, None) => {}
            (Value::Null, Some(_)) => draft.put(&path[..parent], key, None)?,
            (Value::Object(inner), Some(Value::Object(_))) => merge(draft, path, inner)?,
            (Value::Object(inner), _) => {
                let value = Value::Object(without_nulls(inner));
                draft.put(&path[..parent], key, Some(value))?;
            }
            (value, _) => draft.put(&path[..parent], key, Some(value.clone()))?,
        }
        path.pop();
    }
    Ok(())
}

fn without_nulls(members: &Map<String, Value>) -> Map<String, Value> {
    members
        .iter()
        .filter(|(_, value)| !value.is_null())
        .map(|(key, value)| {
            let value = match value {
                Value::Object(inner) => Value::Object(without_nulls(inner)),
                other => other.clone(),
            };
            (key.clone(), value)
        })
        .collect()
}
