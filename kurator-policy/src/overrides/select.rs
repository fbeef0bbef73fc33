use std::{
    cell::OnceCell,
    collections::{BTreeMap, BTreeSet},
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kurator_core::{
    observe::ClusterView,
    selector::{ClusterField, FieldMatcher, LabelMatcher, SelectorError},
};
use serde_json::Value;

use crate::api::{self, ClusterAffinity, FieldOperator};

use super::Dialect;

/// How closely a selector names an object: the closer one is applied later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Precision {
    Kind,
    Labels,
    Name,
}

/// What selectors look at in an object.
pub(super) struct Identity<'o> {
    pub(super) api_version: &'o str,
    pub(super) kind: &'o str,
    pub(super) namespace: Option<&'o str>,
    pub(super) name: &'o str,
    object: &'o Value,
    /// Whose policies look.
    pub(super) dialect: Dialect,
    labels: OnceCell<BTreeMap<String, String>>,
}

impl<'o> Identity<'o> {
    pub(super) fn of(object: &'o Value, dialect: Dialect) -> Self {
        // Field by field: a pointer is taken apart each time, and this is asked for every object in every cluster.
        let metadata = object.get("metadata");
        let named = |field: &str| metadata.and_then(|metadata| metadata.get(field)?.as_str());
        let text = |field: &str| object.get(field).and_then(Value::as_str);
        Self {
            api_version: text("apiVersion").unwrap_or_default(),
            kind: text("kind").unwrap_or_default(),
            namespace: named("namespace").filter(|namespace| !namespace.is_empty()),
            name: named("name").unwrap_or_default(),
            object,
            dialect,
            labels: OnceCell::new(),
        }
    }

    fn labels(&self) -> &BTreeMap<String, String> {
        self.labels.get_or_init(|| {
            let labels = self.object.pointer("/metadata/labels").and_then(Value::as_object);
            // To Karmada, labels of which one is not a text are none at all.
            let readable = self.dialect == Dialect::Kurator
                || labels.is_none_or(|labels| labels.values().all(Value::is_string));
            let labels = labels.filter(|_| readable).into_iter().flatten();
            labels
                .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
                .collect()
        })
    }
}

/// One selector of objects, as it is written.
#[derive(Clone, Debug, Default)]
pub(super) struct SelectorSource {
    pub(super) api_version: String,
    pub(super) kind: String,
    pub(super) namespace: Option<String>,
    pub(super) name: Option<String>,
    pub(super) labels: Option<LabelSelector>,
}

/// One selector of objects, compiled. Kind and version are looked at by who holds it.
#[derive(Debug)]
pub(super) struct ObjectMatcher {
    namespace: Option<String>,
    name: Option<String>,
    labels: Option<LabelMatcher>,
}

impl ObjectMatcher {
    pub(super) fn compile(source: &SelectorSource, dialect: Dialect) -> Result<Self, SelectorError> {
        let compiled = source.labels.as_ref().map(LabelMatcher::compile).transpose();
        let labels = match (dialect, &source.name) {
            // To Karmada a name is enough, and a selector it cannot read matches nothing.
            (Dialect::Karmada, Some(_)) => None,
            (Dialect::Karmada, None) => compiled.unwrap_or_else(|_| Some(LabelMatcher::nothing())),
            (Dialect::Kurator, _) => compiled?,
        };
        Ok(Self {
            namespace: source.namespace.clone(),
            name: source.name.clone(),
            labels,
        })
    }

    pub(super) fn everything() -> Self {
        Self {
            namespace: None,
            name: None,
            labels: None,
        }
    }

    pub(super) fn precision(&self, object: &Identity<'_>) -> Option<Precision> {
        let namespace = self.namespace.as_deref();
        if namespace.is_some_and(|namespace| object.namespace != Some(namespace)) {
            return None;
        }
        if self.name.as_deref().is_some_and(|name| object.name != name) {
            return None;
        }
        if self
            .labels
            .as_ref()
            .is_some_and(|labels| !labels.matches(object.labels()))
        {
            return None;
        }
        Some(match (&self.name, &self.labels) {
            (Some(_), _) => Precision::Name,
            (None, Some(_)) => Precision::Labels,
            (None, None) => Precision::Kind,
        })
    }
}

/// A description of clusters, compiled: excluded ones first, then everything that is given must hold.
#[derive(Debug)]
pub(super) struct ClusterMatcher {
    names: BTreeSet<String>,
    exclude: BTreeSet<String>,
    labels: Option<LabelMatcher>,
    fields: FieldMatcher,
}

impl ClusterMatcher {
    pub(super) fn compile(affinity: &ClusterAffinity, dialect: Dialect) -> Result<Self, SelectorError> {
        let compiled = affinity
            .label_selector
            .as_ref()
            .map(LabelMatcher::compile)
            .transpose();
        let labels = match dialect {
            Dialect::Kurator => compiled?,
            Dialect::Karmada => compiled.unwrap_or_else(|_| Some(LabelMatcher::nothing())),
        };
        let mut fields = FieldMatcher::default();
        for requirement in affinity
            .field_selector
            .iter()
            .flat_map(|fields| &fields.match_expressions)
        {
            let field = match requirement.key {
                api::ClusterField::Provider => ClusterField::Provider,
                api::ClusterField::Region => ClusterField::Region,
                api::ClusterField::Zone => ClusterField::Zone,
            };
            let values = requirement.values.iter().cloned();
            fields = match requirement.operator {
                FieldOperator::In => fields.with_in(field, values),
                FieldOperator::NotIn => fields.with_not_in(field, values),
            };
        }
        Ok(Self {
            names: affinity.cluster_names.iter().cloned().collect(),
            exclude: affinity.exclude.iter().cloned().collect(),
            labels,
            fields,
        })
    }

    pub(super) fn matches(&self, cluster: &ClusterView) -> bool {
        let name = cluster.name.as_str();
        !self.exclude.contains(name)
            && (self.names.is_empty() || self.names.contains(name))
            && self
                .labels
                .as_ref()
                .is_none_or(|labels| labels.matches(&cluster.labels))
            && self.fields.matches(cluster)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn matches(affinity: Value, cluster: &ClusterView) -> bool {
        let affinity: ClusterAffinity = serde_json::from_value(affinity).unwrap();
        ClusterMatcher::compile(&affinity, Dialect::Kurator)
            .unwrap()
            .matches(cluster)
    }

    #[test]
    fn everything_given_must_hold_and_exclusion_wins() {
        let cluster = ClusterView::new("a".parse().unwrap())
            .with_label("tier", "gold")
            .with_region("eu");
        assert!(matches(json!({}), &cluster));
        assert!(matches(json!({ "clusterNames": ["a", "b"] }), &cluster));
        assert!(!matches(json!({ "clusterNames": ["b"] }), &cluster));
        assert!(!matches(
            json!({ "clusterNames": ["a"], "exclude": ["a"] }),
            &cluster
        ));
        assert!(matches(
            json!({ "labelSelector": { "matchLabels": { "tier": "gold" } } }),
            &cluster
        ));
        assert!(!matches(
            json!({ "clusterNames": ["a"], "labelSelector": { "matchLabels": { "tier": "tin" } } }),
            &cluster
        ));
        let region = |operator: &str| {
            json!({ "fieldSelector": { "matchExpressions": [
                { "key": "region", "operator": operator, "values": ["eu"] }
            ] } })
        };
        assert!(matches(region("In"), &cluster));
        assert!(!matches(region("NotIn"), &cluster));
    }

    #[test]
    fn a_name_is_closer_than_labels_and_labels_than_the_kind() {
        let object = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata":
            { "name": "a", "namespace": "ns", "labels": { "app": "web" } } });
        let object = Identity::of(&object, Dialect::Kurator);
        let labels = LabelSelector {
            match_labels: Some([("app".into(), "web".into())].into()),
            ..Default::default()
        };
        let kind = SelectorSource::default();
        let labels = SelectorSource {
            labels: Some(labels),
            ..kind.clone()
        };
        let name = SelectorSource {
            name: Some("a".into()),
            ..kind.clone()
        };
        let precision = |source: &SelectorSource| {
            ObjectMatcher::compile(source, Dialect::Kurator)
                .unwrap()
                .precision(&object)
        };
        assert_eq!(precision(&kind), Some(Precision::Kind));
        assert_eq!(precision(&labels), Some(Precision::Labels));
        assert_eq!(precision(&name), Some(Precision::Name));
        assert_eq!(
            precision(&SelectorSource {
                name: Some("b".into()),
                ..labels.clone()
            }),
            None
        );
        assert_eq!(
            precision(&SelectorSource {
                namespace: Some("other".into()),
                ..kind
            }),
            None
        );
        assert!(Precision::Kind < Precision::Labels && Precision::Labels < Precision::Name);
    }
}
