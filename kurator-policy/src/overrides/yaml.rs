//! Changes inside a text that holds YAML. It is printed as sigs.k8s.io/yaml does: members sorted, lists not indented,
//! texts of several lines as blocks.

use std::cmp::Ordering;

use serde_json::{Map, Value};

use super::{
    fault::Fault,
    patch::{self, Indexes, Operation},
    text::TextEffect,
};

/// Makes the changes in turn, and prints the document anew.
pub(super) fn patch_yaml(
    yaml: &str,
    operations: &[Operation],
    indexes: Indexes,
) -> Result<(String, Vec<TextEffect>), Fault> {
    let mut document: Value = serde_saphyr::from_str(yaml).map_err(|error| Fault::Yaml {
        message: error.to_string(),
    })?;
    if !document.is_object() && !document.is_array() {
        return Err(Fault::Shape {
            at: "the text".to_owned(),
            expected: "a YAML object or list",
        });
    }
    let mut effects = Vec::with_capacity(operations.len());
    for operation in operations {
        let effect = patch::apply(&mut document, operation, indexes)?;
        effects.push(TextEffect {
            path: effect.path,
            old: effect.old,
        });
    }
    Ok((print(&document), effects))
}

/// The value as a YAML document, with a line break at its end.
fn print(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(members) if !members.is_empty() => print_members(members, 0, &mut out),
        Value::Array(items) if !items.is_empty() => print_items(items, 0, &mut out),
        scalar => {
            print_scalar(scalar, 0, &mut out);
            out.push('\n');
        }
    }
    out
}

fn print_members(members: &Map<String, Value>, indent: usize, out: &mut String) {
    let mut sorted: Vec<_> = members.iter().collect();
    sorted.sort_by(|(a, _), (b, _)| natural(a, b));
    for (place, (key, value)) in sorted.into_iter().enumerate() {
        if place > 0 {
            pad(indent, out);
        }
        print_text(key, usize::MAX, out);
        out.push(':');
        match value {
            Value::Object(inner) if !inner.is_empty() => {
                out.push('\n');
                pad(indent + 2, out);
                print_members(inner, indent + 2, out);
            }
            Value::Array(items) if !items.is_empty() => {
                out.push('\n');
                pad(indent, out);
                print_items(items, indent, out);
            }
            scalar => {
                out.push(' ');
                print_scalar(scalar, indent + 2, out);
                out.push('\n');
            }
        }
    }
}

fn print_items(items: &[Value], indent: usize, out: &mut String) {
    for (place, item) in items.iter().enumerate() {
        if place > 0 {
            pad(indent, out);
        }
        out.push_str("- ");
        match item {
            Value::Object(members) if !members.is_empty() => print_members(members, indent + 2, out),
            Value::Array(inner) if !inner.is_empty() => print_items(inner, indent + 2, out),
            scalar => {
                print_scalar(scalar, indent + 2, out);
                out.push('\n');
            }
        }
    }
}

fn pad(indent: usize, out: &mut String) {
    out.extend(std::iter::repeat_n(' ', indent));
}

fn print_scalar(value: &Value, indent: usize, out: &mut String) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(flag) => out.push_str(if *flag { "true" } else { "false" }),
        Value::Number(number) => out.push_str(&number.to_string()),
        Value::String(text) => print_text(text, indent, out),
        Value::Array(_) => out.push_str("[]"),
        Value::Object(_) => out.push_str("{}"),
    }
}

/// `indent` is that of a block below; `usize::MAX` where there can be none, as in a key.
fn print_text(text: &str, indent: usize, out: &mut String) {
    if text.contains('\n') && indent != usize::MAX && fits_block(text) {
        let ending = match text.chars().rev().take_while(|c| *c == '\n').count() {
            0 => "|-",
            1 => "|",
            _ => "|+",
        };
        out.push_str(ending);
        let body = text.strip_suffix('\n').unwrap_or(text);
        for line in body.split('\n') {
            out.push('\n');
            if !line.is_empty() {
                pad(indent, out);
                out.push_str(line);
            }
        }
    } else if reads_as_something_else(text) || text.chars().any(|c| c.is_control() || c == '\u{feff}') {
        // JSON's escapes are YAML's, but for the slash, which JSON does not have to escape.
        out.push_str(&Value::from(text).to_string());
    } else if fits_plain(text) {
        out.push_str(text);
    } else {
        out.push('\'');
        out.push_str(&text.replace('\'', "''"));
        out.push('\'');
    }
}

fn fits_block(text: &str) -> bool {
    // A block that begins with a space or an empty line would need its indent written out.
    !text.starts_with([' ', '\n', '\t'])
        && !text
            .chars()
            .any(|c| (c.is_control() && c != '\n' && c != '\t') || c == '\u{feff}')
        && !text.lines().any(|line| line.ends_with(' '))
}

/// Whether a reader of YAML 1.1 would take the plain text for null, a boolean, a number or a time.
fn reads_as_something_else(text: &str) -> bool {
    const WORDS: &[&str] = &[
        "", "~", "null", "y", "yes", "on", "true", "n", "no", "off", "false", "<<", "=", ".nan", ".inf",
        "+.inf", "-.inf",
    ];
    let lower = text.to_ascii_lowercase();
    if WORDS.contains(&lower.as_str()) {
        return true;
    }
    let unsigned = lower.strip_prefix(['+', '-']).unwrap_or(&lower).replace('_', "");
    let numeric = unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && (unsigned.parse::<f64>().is_ok()
            || ["0x", "0o", "0b"].iter().any(|prefix| {
                unsigned
                    .strip_prefix(prefix)
                    .is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_hexdigit()))
            }));
    let sexagesimal = unsigned.contains(':')
        && unsigned
            .split(':')
            .all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()));
    numeric || sexagesimal || looks_like_a_date(text)
}

fn looks_like_a_date(text: &str) -> bool {
    let mut parts = text.splitn(3, '-');
    let (Some(year), Some(month), Some(day)) = (parts.next(), parts.next(), parts.next()) else {
        return false;
    };
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    year.len() == 4
        && digits(year)
        && digits(month)
        && month.len() <= 2
        && day.starts_with(|c: char| c.is_ascii_digit())
}

fn fits_plain(text: &str) -> bool {
    let mut chars = text.chars();
    let Some(first) = chars.next() else { return false };
    let second_is_space = chars.next().is_none_or(|c| c == ' ');
    let begins = match first {
        '-' | '?' | ':' => !second_is_space,
        c => !"#,[]{}&*!|>'\"%@` ".contains(c),
    };
    begins
        && !text.ends_with([' ', ':'])
        && !text.contains(": ")
        && !text.contains(" #")
        && !text.starts_with("---")
        && !text.starts_with("...")
        && !text.contains('\n')
}

/// The order of go-yaml: letters by code point and after everything else, runs of digits by their number.
fn natural(a: &str, b: &str) -> Ordering {
    let (left, right): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let Some(place) = left.iter().zip(&right).position(|(a, b)| a != b) else {
        return left.len().cmp(&right.len());
    };
    let (Some(x), Some(y)) = (left.get(place), right.get(place)) else {
        return left.len().cmp(&right.len());
    };
    match (x.is_alphabetic(), y.is_alphabetic()) {
        (true, true) => return x.cmp(y),
        (true, false) => return Ordering::Greater,
        (false, true) => return Ordering::Less,
        (false, false) => {}
    }
    let zero_in_a_number = (*x == '0' || *y == '0')
        && left[..place]
            .iter()
            .rev()
            .take_while(|c| c.is_ascii_digit())
            .any(|c| *c != '0');
    let number = |chars: &[char]| {
        let digits: Vec<char> = chars[place..]
            .iter()
            .copied()
            .take_while(char::is_ascii_digit)
            .collect();
        let value = digits.iter().fold(u128::from(zero_in_a_number), |value, digit| {
            value
                .saturating_mul(10)
                .saturating_add(u128::from(digit.to_digit(10).unwrap_or(0)))
        });
        (value, digits.len())
    };
    number(&left).cmp(&number(&right)).then(x.cmp(y))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn documents_look_as_kubernetes_prints_them() {
        let value = json!({
            "list": [1, 2, { "q": 1, "a": [] }, [3, [4]]],
            "host": "a",
            "empty": {},
            "text": "one\ntwo\n",
            "port": { "x": null },
        });
        assert_eq!(
            print(&value),
            "empty: {}\nhost: a\nlist:\n- 1\n- 2\n- a: []\n  q: 1\n- - 3\n  - - 4\nport:\n  x: null\ntext: |\n  one\n  two\n"
        );
    }

    #[test]
    fn a_text_stays_a_text() {
        for (text, printed) in [
            ("true", "\"true\""),
            ("1.25", "\"1.25\""),
            ("0x1f", "\"0x1f\""),
            ("12:30:45", "\"12:30:45\""),
            ("2026-11-23", "\"2026-11-23\""),
            ("", "\"\""),
            ("- a", "'- a'"),
            ("a: b", "'a: b'"),
            ("it's", "it's"),
            ("'x'", "'''x'''"),
            ("@x", "'@x'"),
            ("a#b", "a#b"),
            ("a\tb", "\"a\\tb\""),
        ] {
            assert_eq!(print(&json!(text)), format!("{printed}\n"), "{text}");
        }
    }

    #[test]
    fn members_are_in_natural_order() {
        let value = json!({ "a10": 1, "a2": 1, "b": 1, "_c": 1, "B": 1 });
        assert_eq!(print(&value), "_c: 1\nB: 1\na2: 1\na10: 1\nb: 1\n");
    }
}
