//! The archive of a backup: a packed tar file with one file an object. Only as much of the format as Go writes.

use std::io::{self, Read};

use flate2::read::MultiGzDecoder;
use serde_json::Value;

use crate::driver::{ClaimReader, Claims};

const BLOCK: usize = 512;
/// The largest archive that is unpacked; nothing of it is kept.
const UNPACKED: u64 = 1024 * 1024 * 1024;
/// The largest object that is read; etcd takes none that is larger.
const OBJECT: u64 = 4 * 1024 * 1024;

/// The volume claims in an archive; `None` if it is too large.
pub(super) fn claims(packed: &[u8]) -> io::Result<Option<Claims>> {
    let mut reader = ClaimReader::default();
    let mut archive = MultiGzDecoder::new(packed).take(UNPACKED);
    let mut named = None;
    while let Some(mut header) = header(&mut archive)? {
        if let Some(name) = named.take() {
            header.name = name;
        }
        let wanted = is_wanted(&header.name) || header.is_extension();
        if !wanted || header.size > OBJECT {
            skip(&mut archive, header.size.div_ceil(BLOCK as u64) * BLOCK as u64)?;
            continue;
        }
        let mut content = Vec::new();
        (&mut archive).take(header.size).read_to_end(&mut content)?;
        let rest = content.len().next_multiple_of(BLOCK) - content.len();
        skip(&mut archive, rest as u64)?;
        match header.kind {
            b'x' => named = long_name(&content),
            b'L' => named = Some(text(&content)),
            _ => {
                let object: Value = serde_json::from_slice(&content)?;
                reader.take(&object);
            }
        }
    }
    Ok((archive.limit() > 0).then(|| reader.finish()))
}

#[derive(Debug)]
struct Header {
    name: String,
    size: u64,
    kind: u8,
}

impl Header {
    /// Whether what follows is about the next file.
    const fn is_extension(&self) -> bool {
        matches!(self.kind, b'x' | b'L')
    }
}

/// The next file; `None` at the end.
fn header(archive: &mut impl Read) -> io::Result<Option<Header>> {
    let mut block = [0; BLOCK];
    let mut filled = 0;
    while filled < BLOCK {
        let Some(rest) = block.get_mut(filled..) else {
            break;
        };
        match archive.read(rest)? {
            0 => break,
            read => filled += read,
        }
    }
    let field = |from: usize, to: usize| text(block.get(from..to).unwrap_or_default());
    let name = field(0, 100);
    if filled < BLOCK || name.is_empty() {
        return Ok(None);
    }
    let prefix = if field(257, 262) == "ustar" {
        field(345, 500)
    } else {
        String::new()
    };
    let size = u64::from_str_radix(field(124, 136).trim(), 8)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "the size of a file is no number"))?;
    Ok(Some(Header {
        name: if prefix.is_empty() {
            name
        } else {
            format!("{prefix}/{name}")
        },
        size,
        kind: block.get(156).copied().unwrap_or_default(),
    }))
}

/// Up to the first zero.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned()
}

/// The path among records such as `30 path=resources/...\n`.
fn long_name(records: &[u8]) -> Option<String> {
    let records = String::from_utf8_lossy(records);
    records
        .lines()
        .find_map(|record| record.split_once(" path="))
        .map(|(_, path)| path.to_owned())
}

fn skip(archive: &mut impl Read, bytes: u64) -> io::Result<()> {
    io::copy(&mut archive.take(bytes), &mut io::sink()).map(drop)
}

/// Claims and volumes, each in the version that its cluster preferred.
fn is_wanted(name: &str) -> bool {
    let parts: Vec<&str> = name.split('/').collect();
    matches!(
        parts.as_slice(),
        ["resources", "persistentvolumeclaims", "namespaces", _, _]
            | ["resources", "persistentvolumes", "cluster", _]
    )
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};
    use kurator_core::names::NamespacedName;
    use serde_json::json;

    use super::*;
    use crate::driver::ClaimedClass;

    fn file(archive: &mut Vec<u8>, kind: u8, name: &str, content: &[u8]) {
        let mut block = [0_u8; BLOCK];
        let (prefix, name) = match name.rsplit_once('/') {
            Some((prefix, short)) if name.len() > 100 => (prefix, short),
            _ => ("", name),
        };
        block[..name.len()].copy_from_slice(name.as_bytes());
        block[124..135].copy_from_slice(format!("{:011o}", content.len()).as_bytes());
        block[156] = kind;
        block[257..262].copy_from_slice(b"ustar");
        block[345..345 + prefix.len()].copy_from_slice(prefix.as_bytes());
        archive.extend(block);
        archive.extend(content);
        archive.resize(archive.len().next_multiple_of(BLOCK), 0);
    }

    fn claim(name: &str, class: &str) -> Vec<u8> {
        json!({
            "kind": "PersistentVolumeClaim", "metadata": {"namespace": "shop", "name": name},
            "spec": {"storageClassName": class},
        })
        .to_string()
        .into_bytes()
    }

    fn packed(archive: &[u8]) -> Vec<u8> {
        let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
        packer.write_all(archive).unwrap();
        packer.finish().unwrap()
    }

    #[test]
    fn claims_are_found_among_other_objects_and_under_every_way_to_write_a_long_name() {
        let long = "x".repeat(90);
        let at = |name: &str| format!("resources/persistentvolumeclaims/namespaces/shop/{name}.json");
        let preferred = at("data").replace("/namespaces", "/v1-preferredversion/namespaces");
        let mut archive = Vec::new();
        file(&mut archive, b'0', "metadata/version", b"1.1.0");
        file(
            &mut archive,
            b'0',
            "resources/pods/namespaces/shop/web.json",
            b"no JSON",
        );
        file(&mut archive, b'0', &at("data"), &claim("data", "gold"));
        file(&mut archive, b'0', &preferred, &claim("data", "gold"));
        file(&mut archive, b'0', &at(&long), &claim(&long, "silver"));
        let record = format!("200 path={}\n", at("pax"));
        file(&mut archive, b'x', "PaxHeaders.0/pax", record.as_bytes());
        file(&mut archive, b'0', "shortened", &claim("pax", "bronze"));
        archive.resize(archive.len() + 2 * BLOCK, 0);

        let claims = claims(&packed(&archive)).unwrap().unwrap();
        assert_eq!(claims.len(), 3);
        for (name, class) in [("data", "gold"), (long.as_str(), "silver"), ("pax", "bronze")] {
            let found = &claims[&NamespacedName::new("shop", name)];
            assert_eq!(*found, ClaimedClass::Named(class.into()));
        }
    }

    #[test]
    fn what_is_no_archive_is_an_error_and_no_panic() {
        assert!(claims(b"text").is_err());
        assert!(claims(&packed(&[b'a'; 3 * BLOCK])).is_err());
    }
}
