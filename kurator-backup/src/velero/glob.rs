//! Which namespace patterns a Velero server takes (1.18: `*`, `?` and `[...]`).

/// Why a server refuses `pattern` as the name or pattern of namespaces; `None` if it takes it.
pub(super) fn offence(pattern: &str) -> Option<&'static str> {
    if pattern.is_empty() {
        // "No namespace", which a server takes.
        return None;
    }
    if pattern.contains(['|', '(', ')', '!', '{', '}', ',']) {
        return Some("it contains one of | ( ) ! { } and ,");
    }
    if pattern.contains("**") {
        return Some("it contains **");
    }
    brackets(pattern).or_else(|| label(pattern))
}

fn brackets(pattern: &str) -> Option<&'static str> {
    let mut rest = pattern;
    while let Some(at) = rest.find(['[', ']']) {
        let (_, tail) = rest.split_at(at);
        let Some(inside) = tail.strip_prefix('[') else {
            return Some("a ] has no [");
        };
        match inside.find(']') {
            None => return Some("a [ is not closed"),
            // A second [ inside counts as an opening of its own, which only another ] closes.
            Some(0) => return Some("a [] is empty"),
            Some(end) => rest = inside.get(end + 1..).unwrap_or_default(),
        }
    }
    None
}

/// An RFC 1123 label, once every wildcard is replaced by a letter.
fn label(pattern: &str) -> Option<&'static str> {
    let plain = pattern.replace(['*', '?', '[', ']'], "x");
    let bytes = plain.as_bytes();
    let alphanumeric = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let inner = |byte: &u8| alphanumeric(byte) || *byte == b'-';
    let edges = [bytes.first(), bytes.last()];
    if bytes.len() > 63 {
        Some("it is longer than 63 characters")
    } else if !bytes.iter().all(inner) || !edges.into_iter().flatten().all(alphanumeric) {
        Some("it is no namespace name: lower case letters and digits, with - between them")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_patterns_are_told_from_what_a_server_refuses() {
        for taken in [
            "", "a", "a-1", "*", "team-*", "a?c", "[a]x", "x[abc]", "[a-c]x", "*-?-[x]",
        ] {
            assert_eq!(offence(taken), None, "{taken}");
        }
        for refused in [
            "A", "a_b", "-a", "a-", "{a}", "a,b", "a|b", "!a", "a**", "[]", "[a", "a]", "a.b", "[!a]",
        ] {
            assert!(offence(refused).is_some(), "{refused}");
        }
        assert!(offence(&"x".repeat(64)).is_some());
        assert_eq!(offence(&"x".repeat(63)), None);
    }
}
