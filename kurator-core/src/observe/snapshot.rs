//! The whole fleet at one instant.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::Value;

use super::ClusterView;
use crate::names::ClusterName;

/// What the files of this version begin with.
const FORMAT: &str = "kurator.dev/snapshot.v1";

/// A fleet as it was seen at one instant.
///
/// # JSON
/// `{"format": "kurator.dev/snapshot.v1", "takenAt": <RFC 3339>, "clusters": [<ClusterView>, ...]}`. Fields this
/// version does not know are ignored, so later versions may add some; what is missing is unknown. Clusters are
/// sorted by name on the way out and may come in any order; two of one name are an error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    format: FormatTag,
    taken_at: Timestamp,
    #[serde(serialize_with = "values", deserialize_with = "unique")]
    clusters: BTreeMap<ClusterName, ClusterView>,
}

/// A text that is not a snapshot.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// One cluster cannot be read.
    #[error("cannot read cluster {cluster} of the snapshot: its {field} is not valid")]
    Cluster {
        /// Name of the cluster, or its position in the list if it has none.
        cluster: String,
        /// Path of the field, such as `nodes[3].allocatable.cpu`.
        field: String,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// Two clusters of the same name.
    #[error("the snapshot has two clusters named {cluster}: names are unique in a fleet")]
    Duplicate {
        /// The name.
        cluster: ClusterName,
    },
    /// The snapshot as a whole cannot be read.
    #[error("cannot read the snapshot")]
    Json(#[source] serde_json::Error),
    /// The snapshot cannot be written.
    #[error("cannot write the snapshot")]
    Write(#[source] serde_json::Error),
}

impl Snapshot {
    /// A snapshot without clusters.
    pub fn new(taken_at: Timestamp) -> Self {
        Self {
            format: FormatTag,
            taken_at,
            clusters: BTreeMap::new(),
        }
    }

    /// Adds a cluster, or replaces the one of the same name.
    #[must_use]
    pub fn with_cluster(mut self, cluster: ClusterView) -> Self {
        self.insert(cluster);
        self
    }

    /// Adds a cluster; returns the one of the same name that it replaces.
    pub fn insert(&mut self, cluster: ClusterView) -> Option<ClusterView> {
        self.clusters.insert(cluster.name.clone(), cluster)
    }

    /// Takes a cluster out.
    pub fn remove(&mut self, name: &ClusterName) -> Option<ClusterView> {
        self.clusters.remove(name)
    }

    /// When the fleet was seen like this.
    pub fn taken_at(&self) -> Timestamp {
        self.taken_at
    }

    /// The cluster of that name.
    pub fn get(&self, name: &ClusterName) -> Option<&ClusterView> {
        self.clusters.get(name)
    }

    /// The clusters, by name.
    pub fn clusters(&self) -> impl ExactSizeIterator<Item = &ClusterView> {
        self.clusters.values()
    }

    /// Reads a snapshot.
    ///
    /// # Errors
    /// [`SnapshotError`], naming the cluster and the field where it can.
    pub fn from_json(json: &[u8]) -> Result<Self, SnapshotError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Outer {
            #[serde(rename = "format")]
            _format: FormatTag,
            taken_at: Timestamp,
            clusters: Vec<Value>,
        }
        let outer: Outer = serde_json::from_slice(json).map_err(SnapshotError::Json)?;
        let mut snapshot = Self::new(outer.taken_at);
        for (index, value) in outer.clusters.into_iter().enumerate() {
            let cluster = match ClusterView::deserialize(&value) {
                Ok(cluster) => cluster,
                Err(source) => return Err(blame(index, &value, source)),
            };
            if let Some(twin) = snapshot.insert(cluster) {
                return Err(SnapshotError::Duplicate { cluster: twin.name });
            }
        }
        Ok(snapshot)
    }

    /// Writes the snapshot, indented, with a line feed at the end. The same snapshot gives the same bytes.
    ///
    /// # Errors
    /// [`SnapshotError::Write`] if a value has no JSON form.
    pub fn to_json(&self) -> Result<String, SnapshotError> {
        let mut json = serde_json::to_string_pretty(self).map_err(SnapshotError::Write)?;
        json.push('\n');
        Ok(json)
    }
}

/// Finds the part of `cluster` that cannot be read.
fn blame(index: usize, cluster: &Value, source: serde_json::Error) -> SnapshotError {
    let name = cluster.get("name").and_then(Value::as_str);
    let mut path = String::new();
    narrow(&mut cluster.clone(), &mut String::new(), &mut path);
    SnapshotError::Cluster {
        cluster: name.map_or_else(|| format!("number {index}"), str::to_owned),
        field: if path.is_empty() {
            "description".to_owned()
        } else {
            path
        },
        source,
    }
}

/// Appends to `path` the way from the place at `pointer` to the smallest part that alone keeps `whole` from being
/// read: the field without which it can be read, the item with which alone it cannot.
fn narrow(whole: &mut Value, pointer: &mut String, path: &mut String) {
    let readable = |whole: &Value| ClusterView::deserialize(whole).is_ok();
    match whole.pointer_mut(pointer).map(Value::take) {
        Some(Value::Object(fields)) => {
            for key in fields.keys() {
                let mut rest = fields.clone();
                rest.remove(key);
                put(whole, pointer, Value::Object(rest));
                if readable(whole) {
                    if !path.is_empty() {
                        path.push('.');
                    }
                    path.push_str(key);
                    let step = format!("/{}", key.replace('~', "~0").replace('/', "~1"));
                    put(whole, pointer, Value::Object(fields));
                    pointer.push_str(&step);
                    return narrow(whole, pointer, path);
                }
            }
        }
        Some(Value::Array(items)) => {
            for (index, item) in items.into_iter().enumerate() {
                put(whole, pointer, Value::Array(vec![item]));
                if !readable(whole) {
                    path.push_str(&format!("[{index}]"));
                    pointer.push_str("/0");
                    return narrow(whole, pointer, path);
                }
            }
        }
        _ => {}
    }
}

fn put(whole: &mut Value, pointer: &str, value: Value) {
    if let Some(place) = whole.pointer_mut(pointer) {
        *place = value;
    }
}

/// The one format this version reads and writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FormatTag;

impl Serialize for FormatTag {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(FORMAT)
    }
}

impl<'de> Deserialize<'de> for FormatTag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let format = String::deserialize(deserializer)?;
        if format == FORMAT {
            Ok(Self)
        } else {
            Err(de::Error::custom(format_args!(
                "snapshot format {format:?} is not known: expected {FORMAT:?}"
            )))
        }
    }
}

fn values<S: Serializer>(
    clusters: &BTreeMap<ClusterName, ClusterView>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(clusters.values())
}

fn unique<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<ClusterName, ClusterView>, D::Error> {
    let mut clusters = BTreeMap::new();
    for cluster in Vec::<ClusterView>::deserialize(deserializer)? {
        if let Some(twin) = clusters.insert(cluster.name.clone(), cluster) {
            return Err(de::Error::custom(format_args!(
                "two clusters are named {}",
                twin.name
            )));
        }
    }
    Ok(clusters)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(clusters: &str) -> Result<Snapshot, SnapshotError> {
        let json =
            format!(r#"{{"format":"{FORMAT}","takenAt":"2026-01-02T03:04:05Z","clusters":{clusters}}}"#);
        Snapshot::from_json(json.as_bytes())
    }

    fn blamed(clusters: &str) -> (String, String) {
        match parse(clusters).unwrap_err() {
            SnapshotError::Cluster { cluster, field, .. } => (cluster, field),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn fields_of_a_later_version_are_ignored() {
        let snapshot = parse(r#"[{"name":"b","colour":"red"},{"name":"a"}]"#).unwrap();
        let names: Vec<_> = snapshot.clusters().map(|cluster| cluster.name.as_str()).collect();
        assert_eq!(names, ["a", "b"]);
    }

    #[test]
    fn an_error_names_the_cluster_and_the_field() {
        assert_eq!(
            blamed(r#"[{"name":"a"},{"name":"b","region":7}]"#),
            ("b".into(), "region".into())
        );
        let node =
            r#"[{"name":"b","nodes":[{"name":"n"},{"name":"m","allocatable":{"cpu":"1","memory":"1Kb"}}]}]"#;
        assert_eq!(blamed(node), ("b".into(), "nodes[1].allocatable.memory".into()));
        assert_eq!(
            blamed(r#"[{"region":"x"}]"#),
            ("number 0".into(), "description".into())
        );
        assert_eq!(blamed(r#"[{"name":"B"}]"#).0, "B");
    }

    #[test]
    fn two_clusters_of_one_name_are_refused() {
        let twice = r#"[{"name":"a"},{"name":"a"}]"#;
        assert!(matches!(parse(twice).unwrap_err(), SnapshotError::Duplicate { cluster } if cluster == "a"));
        let json = format!(r#"{{"format":"{FORMAT}","takenAt":"2026-01-02T03:04:05Z","clusters":{twice}}}"#);
        assert!(serde_json::from_str::<Snapshot>(&json).is_err());
    }

    #[test]
    fn another_format_is_refused_by_name() {
        let json = r#"{"format":"kurator.dev/snapshot.v9","takenAt":"2026-01-02T03:04:05Z","clusters":[]}"#;
        let SnapshotError::Json(source) = Snapshot::from_json(json.as_bytes()).unwrap_err() else {
            panic!("wrong variant")
        };
        assert!(source.to_string().contains("kurator.dev/snapshot.v9"), "{source}");
    }
}
