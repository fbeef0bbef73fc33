//! Image references, taken apart and put together again.

use crate::api::{ImageComponent, OverrideOperator};

use super::fault::Fault;

/// The longest name of an image, with its host.
const MAX_NAME: usize = 255;

/// A reference `[registry/]repository[:tag][@digest]`, in parts. Either tag or digest is kept, as the tag is not
/// looked at where there is a digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Image {
    registry: String,
    repository: String,
    tag: String,
    digest: String,
}

impl Image {
    pub(super) fn parse(text: &str) -> Result<Self, Fault> {
        Self::split(text).ok_or_else(|| Fault::Image {
            image: text.to_owned(),
        })
    }

    fn split(text: &str) -> Option<Self> {
        let (named, digest) = match text.split_once('@') {
            Some((named, digest)) => (named, is_valid_digest(digest).then_some(digest)?),
            None => (text, ""),
        };
        let last = named.rfind('/').map_or(0, |slash| slash + 1);
        let (name, tag) = match named.get(last..)?.split_once(':') {
            Some((rest, tag)) => (named.get(..last + rest.len())?, is_tag(tag).then_some(tag)?),
            None => (named, ""),
        };
        if name.len() > MAX_NAME {
            return None;
        }
        let split = name.split_once('/');
        let path = match split {
            Some((first, rest)) if is_domain(first) => rest,
            _ => name,
        };
        if !path.split('/').all(is_path_step) {
            return None;
        }
        let (host, repository) = match split {
            // As docker does: a host has a dot or a port, or is this one.
            Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => (first, rest),
            _ => ("", name),
        };
        Some(Self {
            registry: host.to_owned(),
            repository: repository.to_owned(),
            tag: tag.to_owned(),
            // With both, the tag is what the parts are about.
            digest: if tag.is_empty() {
                digest.to_owned()
            } else {
                String::new()
            },
        })
    }

    /// The part, as text; the digest stands in for a tag that is not there.
    pub(super) fn part(&self, component: ImageComponent) -> &str {
        match component {
            ImageComponent::Registry => &self.registry,
            ImageComponent::Repository => &self.repository,
            ImageComponent::Tag if self.tag.is_empty() => &self.digest,
            ImageComponent::Tag => &self.tag,
        }
    }

    /// Changes a part. A new tag takes the place of a digest and the other way round.
    ///
    /// Returns a fault for a tag that is neither, and leaves the image as it is.
    pub(super) fn change(
        &mut self,
        component: ImageComponent,
        operator: OverrideOperator,
        value: &str,
    ) -> Result<(), Fault> {
        let new = match operator {
            OverrideOperator::Add => format!("{}{value}", self.part(component)),
            OverrideOperator::Remove => String::new(),
            OverrideOperator::Replace => value.to_owned(),
        };
        match component {
            ImageComponent::Registry => self.registry = new,
            ImageComponent::Repository => self.repository = new,
            ImageComponent::Tag if new.is_empty() && operator == OverrideOperator::Remove => {
                self.tag.clear();
                self.digest.clear();
            }
            ImageComponent::Tag if is_tag(&new) => {
                self.tag = new;
                self.digest.clear();
            }
            ImageComponent::Tag if is_digest(&new) => {
                self.digest = new;
                self.tag.clear();
            }
            ImageComponent::Tag => return Err(Fault::Tag { tag: new }),
        }
        Ok(())
    }

    pub(super) fn print(&self) -> String {
        let mut text = String::new();
        if !self.registry.is_empty() {
            text.push_str(&self.registry);
            text.push('/');
        }
        text.push_str(&self.repository);
        for (mark, part) in [(':', &self.tag), ('@', &self.digest)] {
            if !part.is_empty() {
                text.push(mark);
                text.push_str(part);
            }
        }
        text
    }
}

fn is_tag(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    match text.as_bytes().split_first() {
        Some((first, rest)) => {
            word(*first) && rest.len() < 128 && rest.iter().all(|b| word(*b) || matches!(b, b'.' | b'-'))
        }
        None => false,
    }
}

/// The form of a digest: an algorithm and at least 32 hexadecimal digits.
fn is_digest(text: &str) -> bool {
    text.split_once(':').is_some_and(|(algorithm, hex)| {
        algorithm.split(['-', '_', '+', '.']).all(|word| {
            word.as_bytes().split_first().is_some_and(|(first, rest)| {
                first.is_ascii_alphabetic() && rest.iter().all(u8::is_ascii_alphanumeric)
            })
        }) && hex.len() >= 32
            && hex.bytes().all(|b| b.is_ascii_hexdigit())
    })
}

/// A digest of an algorithm that registries know, of its length.
fn is_valid_digest(text: &str) -> bool {
    let Some((algorithm, hex)) = text.split_once(':') else {
        return false;
    };
    let len = match algorithm {
        "sha256" => 64,
        "sha384" => 96,
        "sha512" => 128,
        _ => return false,
    };
    hex.len() == len && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_domain(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let inside_brackets = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let host_fits = match inside_brackets {
        Some(address) => !address.is_empty() && address.bytes().all(|b| b.is_ascii_hexdigit() || b == b':'),
        None => host.split('.').all(|label| {
            !label.is_empty()
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        }),
    };
    let port_fits = |port: &str| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    host_fits && port.is_none_or(port_fits)
}

/// Lower case words, between them one dot, one or two underscores, or any number of dashes.
fn is_path_step(text: &str) -> bool {
    let word = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    if !bytes.first().is_some_and(word) || !bytes.last().is_some_and(word) {
        return false;
    }
    bytes
        .split(word)
        .filter(|separator| !separator.is_empty())
        .all(|separator| matches!(separator, b"." | b"_" | b"__") || separator.iter().all(|b| *b == b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

    fn parts(text: &str) -> [String; 3] {
        let image = Image::parse(text).unwrap();
        assert_eq!(image.print(), text);
        [
            ImageComponent::Registry,
            ImageComponent::Repository,
            ImageComponent::Tag,
        ]
        .map(|component| image.part(component).to_owned())
    }

    #[test]
    fn references_are_taken_apart() {
        assert_eq!(parts("nginx"), ["", "nginx", ""]);
        assert_eq!(parts("library/nginx:1.25"), ["", "library/nginx", "1.25"]);
        assert_eq!(parts("localhost/x:1"), ["localhost", "x", "1"]);
        assert_eq!(
            parts("r.example:5000/team/app:v2"),
            ["r.example:5000", "team/app", "v2"]
        );
        assert_eq!(
            parts(&format!("quay.io/a/b@{DIGEST}")),
            ["quay.io", "a/b", DIGEST]
        );
        assert_eq!(
            parts("a__b/c-_d".replace("-_", "--").as_str()),
            ["", "a__b/c--d", ""]
        );
    }

    #[test]
    fn what_no_registry_would_take_is_refused() {
        for text in [
            "",
            "/",
            "a/",
            "/a",
            "A",
            "a:",
            "a:-x",
            "a b",
            "a..b",
            "a___b",
            "-a",
            "a-",
            "a@sha256:aa",
            "mirror.local:5000:1.25",
            "a:1:2",
            "é",
            "x@md5:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            "-eu/nginx",
            "http://x/y",
            "a.b:/c",
        ] {
            assert!(Image::parse(text).is_err(), "{text}");
        }
        assert!(Image::parse(&"a".repeat(256)).is_err());
        assert!(Image::parse(&"a".repeat(255)).is_ok());
    }

    #[test]
    fn a_part_changes_and_the_others_stay() {
        use {ImageComponent as C, OverrideOperator as O};
        let change = |text: &str, component, operator, value: &str| {
            let mut image = Image::parse(text).unwrap();
            image.change(component, operator, value).map(|()| image.print())
        };
        assert_eq!(
            change("r.io/a:1", C::Registry, O::Replace, "m.io").unwrap(),
            "m.io/a:1"
        );
        assert_eq!(change("r.io/a:1", C::Registry, O::Remove, "").unwrap(), "a:1");
        assert_eq!(change("a:1", C::Registry, O::Add, "m.io").unwrap(), "m.io/a:1");
        assert_eq!(
            change("r.io/a:1", C::Repository, O::Add, "/b").unwrap(),
            "r.io/a/b:1"
        );
        assert_eq!(change("a:1", C::Tag, O::Add, "-arm").unwrap(), "a:1-arm");
        assert_eq!(change("a:1", C::Tag, O::Remove, "").unwrap(), "a");
        assert_eq!(
            change("a:1", C::Tag, O::Replace, DIGEST).unwrap(),
            format!("a@{DIGEST}")
        );
        assert_eq!(
            change(&format!("a@{DIGEST}"), C::Tag, O::Replace, "2").unwrap(),
            "a:2"
        );
        assert_eq!(
            change("a:1", C::Tag, O::Replace, "team/other"),
            Err(Fault::Tag {
                tag: "team/other".to_owned()
            })
        );
    }
}
