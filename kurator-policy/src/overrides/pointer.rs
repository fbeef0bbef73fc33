use std::fmt;

/// Steps a pointer may have: an object can only grow by so much with each change.
const MAX_TOKENS: usize = 128;

/// A JSON pointer (RFC 6901), parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pointer {
    text: Box<str>,
    tokens: Vec<Box<str>>,
}

/// Why a text is not a JSON pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PointerFault {
    /// It has a `~` that stands for nothing.
    #[error("\"~\" at byte {offset} must be written \"~0\", or \"~1\" for a \"/\" inside a name")]
    Escape {
        /// Byte offset of the `~`.
        offset: usize,
    },
    /// It does not begin with a slash.
    #[error("a path begins with \"/\", such as /spec/replicas")]
    NoSlash,
    /// It has too many steps.
    #[error("a path has at most {MAX_TOKENS} steps, this one has {steps}")]
    TooLong {
        /// Its steps.
        steps: usize,
    },
}

impl Pointer {
    pub(super) fn parse(text: &str) -> Result<Self, PointerFault> {
        let Some(rest) = text.strip_prefix('/') else {
            return Err(PointerFault::NoSlash);
        };
        for (offset, _) in text.match_indices('~') {
            if !matches!(text.as_bytes().get(offset + 1), Some(b'0' | b'1')) {
                return Err(PointerFault::Escape { offset });
            }
        }
        Self::split(text, rest)
    }

    /// As Karmada's patch library reads a path: what stands before the first slash is not looked at, and a `~` that
    /// stands for nothing is kept.
    pub(super) fn parse_lenient(text: &str) -> Result<Self, PointerFault> {
        if text.is_empty() {
            return Ok(Self {
                text: Box::default(),
                tokens: Vec::new(),
            });
        }
        let (_, rest) = text.split_once('/').ok_or(PointerFault::NoSlash)?;
        Self::split(text, rest)
    }

    fn split(text: &str, rest: &str) -> Result<Self, PointerFault> {
        let tokens: Vec<Box<str>> = rest.split('/').map(unescape).collect();
        if tokens.len() > MAX_TOKENS {
            return Err(PointerFault::TooLong { steps: tokens.len() });
        }
        Ok(Self {
            text: text.into(),
            tokens,
        })
    }

    pub(super) fn tokens(&self) -> &[Box<str>] {
        &self.tokens
    }
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn unescape(token: &str) -> Box<str> {
    if token.contains('~') {
        token.replace("~1", "/").replace("~0", "~").into()
    } else {
        token.into()
    }
}

/// One step of a path that was followed in an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Token {
    Index(usize),
    Key(Box<str>),
    /// Behind this, the path goes on inside a text: a part of an image, or a place in JSON or YAML.
    Inside,
}

/// A path as text: what is inside a text field is set off by ` > `.
pub(super) fn text(tokens: &[Token]) -> String {
    let mut text = String::new();
    for token in tokens {
        match token {
            Token::Index(index) => {
                text.push('/');
                text.push_str(&index.to_string());
            }
            Token::Key(key) => {
                text.push('/');
                if key.contains(['~', '/']) {
                    text.push_str(&key.replace('~', "~0").replace('/', "~1"));
                } else {
                    text.push_str(key);
                }
            }
            Token::Inside => text.push_str(" > "),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(text: &str) -> Vec<String> {
        let pointer = Pointer::parse(text).unwrap();
        pointer.tokens().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_examples_of_the_rfc_are_read() {
        assert_eq!(tokens("/foo/0"), ["foo", "0"]);
        assert_eq!(tokens("/"), [""]);
        assert_eq!(tokens("/a~1b"), ["a/b"]);
        assert_eq!(tokens("/m~0n"), ["m~n"]);
        assert_eq!(tokens("/~01"), ["~1"]);
    }

    #[test]
    fn what_is_not_a_pointer_is_refused_with_the_place() {
        assert_eq!(Pointer::parse("spec/replicas"), Err(PointerFault::NoSlash));
        assert_eq!(Pointer::parse(""), Err(PointerFault::NoSlash));
        assert_eq!(Pointer::parse("/a/b~c"), Err(PointerFault::Escape { offset: 4 }));
        assert_eq!(Pointer::parse("/~"), Err(PointerFault::Escape { offset: 1 }));
        assert_eq!(
            Pointer::parse(&"/a".repeat(129)),
            Err(PointerFault::TooLong { steps: 129 })
        );
    }

    #[test]
    fn what_was_followed_is_printed_as_a_pointer() {
        let path = [
            Token::Key("a/b".into()),
            Token::Index(3),
            Token::Inside,
            Token::Key("tag".into()),
        ];
        assert_eq!(text(&path), "/a~1b/3 > /tag");
    }
}
