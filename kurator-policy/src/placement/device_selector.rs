//! The selectors of device classes, as far as they are equalities.

use serde_json::Value;

/// A device as a selector sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Device<'a> {
    driver: &'a str,
    attributes: Option<&'a Value>,
}

impl<'a> Device<'a> {
    pub(super) fn new(driver: &'a str, device: &'a Value) -> Self {
        // The betas wrote attributes under `basic`.
        let attributes = device
            .get("attributes")
            .or_else(|| device.pointer("/basic/attributes"));
        Self { driver, attributes }
    }

    /// An attribute of the driver's own domain, if it is a text.
    pub(super) fn text(&self, name: &str) -> Option<&'a str> {
        self.attribute(self.driver, name)?.get("string")?.as_str()
    }

    fn attribute(&self, domain: &str, name: &str) -> Option<&'a Value> {
        let attributes = self.attributes?;
        let own = (domain == self.driver).then(|| attributes.get(name)).flatten();
        own.or_else(|| attributes.get(format!("{domain}/{name}")))
    }
}

/// Equalities that must all hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DeviceSelector(Vec<Equality>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Equality {
    of: Subject,
    value: Literal,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Subject {
    Driver,
    Attribute { domain: String, name: String },
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Literal {
    Text(String),
    Number(i64),
    Truth(bool),
}

impl DeviceSelector {
    /// Reads an expression; `None` if it is more than equalities joined with `&&`.
    pub(super) fn parse(expression: &str) -> Option<Self> {
        let parts = split(expression)?;
        parts.into_iter().map(equality).collect::<Option<_>>().map(Self)
    }

    pub(super) fn matches(&self, device: &Device<'_>) -> bool {
        self.0.iter().all(|equality| match &equality.of {
            Subject::Driver => equality.value == Literal::Text(device.driver.to_owned()),
            Subject::Attribute { domain, name } => {
                let value = device.attribute(domain, name);
                value.is_some_and(|value| match &equality.value {
                    Literal::Text(text) => {
                        let told = value.get("string").or_else(|| value.get("version"));
                        told.and_then(Value::as_str) == Some(text)
                    }
                    Literal::Number(number) => value.get("int").and_then(Value::as_i64) == Some(*number),
                    Literal::Truth(truth) => value.get("bool").and_then(Value::as_bool) == Some(*truth),
                })
            }
        })
    }
}

/// Splits at `&&` outside of quotes; `None` if a quote is not closed.
fn split(expression: &str) -> Option<Vec<&str>> {
    let mut parts = Vec::new();
    let (mut quote, mut start) = (None, 0);
    let bytes = expression.as_bytes();
    for (at, &byte) in bytes.iter().enumerate() {
        match (quote, byte) {
            (None, b'"' | b'\'') => quote = Some(byte),
            (Some(open), _) if open == byte => quote = None,
            (None, b'&') if bytes.get(at + 1) == Some(&b'&') => {
                parts.push(expression.get(start..at)?);
                start = at + 2;
            }
            _ => {}
        }
    }
    parts.push(expression.get(start..)?);
    quote.is_none().then_some(parts)
}

fn equality(text: &str) -> Option<Equality> {
    let text = text.trim();
    let text = text
        .strip_prefix('(')
        .and_then(|inner| inner.strip_suffix(')'))
        .unwrap_or(text);
    let (left, right) = text.split_once("==")?;
    let (left, right) = (left.trim(), right.trim());
    let (subject, value) = match (subject(left), subject(right)) {
        (Some(subject), None) => (subject, right),
        (None, Some(subject)) => (subject, left),
        _ => return None,
    };
    Some(Equality {
        of: subject,
        value: literal(value)?,
    })
}

/// `device.driver`, `device.attributes["domain"].name` or the same with the name in brackets.
fn subject(text: &str) -> Option<Subject> {
    if text == "device.driver" {
        return Some(Subject::Driver);
    }
    let rest = text.strip_prefix("device.attributes[")?;
    let (domain, rest) = rest.split_once(']')?;
    let Literal::Text(domain) = literal(domain)? else {
        return None;
    };
    let name = match rest.strip_prefix('.') {
        Some(name) => name.to_owned(),
        None => match literal(rest.strip_prefix('[')?.strip_suffix(']')?)? {
            Literal::Text(name) => name,
            _ => return None,
        },
    };
    let plain = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    plain.then_some(Subject::Attribute { domain, name })
}

fn literal(text: &str) -> Option<Literal> {
    let text = text.trim();
    for quote in ['"', '\''] {
        if let Some(inner) = text.strip_prefix(quote) {
            let inner = inner.strip_suffix(quote)?;
            let plain = !inner.contains([quote, '\\']);
            return plain.then(|| Literal::Text(inner.to_owned()));
        }
    }
    match text {
        "true" => Some(Literal::Truth(true)),
        "false" => Some(Literal::Truth(false)),
        number => number.parse().ok().map(Literal::Number),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn equalities_of_driver_and_attributes_are_read() {
        let device = json!({ "attributes": {
            "type": { "string": "gpu" }, "index": { "int": 3 }, "other.io/shared": { "bool": true },
        } });
        let device = Device::new("gpu.nvidia.com", &device);
        let matches =
            |expression: &str| DeviceSelector::parse(expression).map(|found| found.matches(&device));
        for (expression, expected) in [
            ("device.driver == 'gpu.nvidia.com'", Some(true)),
            ("'gpu.nvidia.com' == device.driver", Some(true)),
            ("device.driver == \"other\"", Some(false)),
            (
                "device.driver == 'gpu.nvidia.com' && device.attributes['gpu.nvidia.com'].type == 'gpu'",
                Some(true),
            ),
            ("(device.attributes[\"gpu.nvidia.com\"].index == 3)", Some(true)),
            ("device.attributes['other.io'].shared == true", Some(true)),
            ("device.attributes['other.io']['shared'] == false", Some(false)),
            ("device.attributes['gpu.nvidia.com'].absent == 'x'", Some(false)),
            // What is more than that is not guessed at.
            ("device.driver == 'a' || device.driver == 'b'", None),
            (
                "device.capacity['gpu.nvidia.com'].memory.compareTo(quantity('40Gi')) >= 0",
                None,
            ),
            ("has(device.attributes['x'].y)", None),
            ("device.driver == 'a&&b", None),
            ("", None),
        ] {
            assert_eq!(matches(expression), expected, "{expression}");
        }
    }
}
