use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, stream};
use kube::{
    Client, Resource,
    api::ListParams,
    core::{DynamicObject, GroupVersionKind, ListMeta, Request},
};
use serde::Deserialize;
use serde_json::Value;

use super::{
    CONCURRENCY,
    kinds::Served,
    observe::{Observed, PAGE},
};
use crate::apply::{ObjectKey, ObjectSet};

/// From so many objects of a kind and namespace on, one list costs less than a look at each.
const MANY: usize = CONCURRENCY;
/// How many rows of a list cost about as much as a look at one object.
const ROWS: usize = 50;

/// Objects of a set of which it is known that nobody has placed them, as far as they were looked for together.
///
/// Asked for are tables without objects, which hold the names and little else; a server that has none is asked for
/// each object by itself.
#[derive(Debug, Default)]
pub(super) struct Vacant {
    objects: BTreeSet<ObjectKey>,
    /// Namespaces in which nothing was found, which is all that can be seen of one that is missing.
    bare: BTreeSet<String>,
}

impl Vacant {
    /// Looks for what the owner's lists do not hold.
    pub(super) async fn look(client: &Client, desired: &ObjectSet, observed: &Observed) -> Self {
        let mut missing: BTreeMap<(String, String, &str), Vec<&ObjectKey>> = BTreeMap::new();
        let mut kinds: BTreeMap<(String, String), &GroupVersionKind> = BTreeMap::new();
        for object in desired.objects() {
            if !observed.live.contains_key(object.key()) {
                let (version, kind) = (object.kind().api_version(), object.kind().kind.clone());
                kinds.insert((version.clone(), kind.clone()), object.kind());
                let namespace = object.key().object.namespace.as_str();
                missing
                    .entry((version, kind, namespace))
                    .or_default()
                    .push(object.key());
            }
        }
        let looks = missing.into_iter().filter(|(_, keys)| keys.len() >= MANY);
        let looks = looks.filter_map(|((version, kind, namespace), keys)| {
            let served = observed.served(kinds.get(&(version, kind))?).ok()?;
            Some(async move {
                (
                    namespace,
                    names(client, served, namespace, keys.len()).await,
                    keys,
                )
            })
        });
        let looks: Vec<_> = looks.collect();
        let looks = stream::iter(looks)
            .buffer_unordered(CONCURRENCY)
            .collect::<Vec<_>>();
        let mut vacant = Self::default();
        let mut inhabited: BTreeSet<&str> = observed
            .live
            .keys()
            .map(|key| key.object.namespace.as_str())
            .collect();
        for (namespace, names, keys) in looks.await {
            let Some(names) = names else { continue };
            if names.is_empty() {
                vacant.bare.insert(namespace.to_owned());
            } else {
                inhabited.insert(namespace);
            }
            let free = keys.into_iter().filter(|key| !names.contains(&key.object.name));
            vacant.objects.extend(free.cloned());
        }
        vacant
            .bare
            .retain(|namespace| !namespace.is_empty() && !inhabited.contains(namespace.as_str()));
        vacant
    }

    pub(super) fn holds(&self, key: &ObjectKey) -> bool {
        self.objects.contains(key)
    }

    pub(super) fn bare_namespaces(&self) -> BTreeSet<&str> {
        self.bare.iter().map(String::as_str).collect()
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Table {
    #[serde(default)]
    metadata: ListMeta,
    column_definitions: Vec<Column>,
    #[serde(default)]
    rows: Vec<Row>,
}

#[derive(Debug, Deserialize)]
struct Column {
    #[serde(default)]
    format: String,
}

#[derive(Debug, Deserialize)]
struct Row {
    cells: Vec<Value>,
}

/// The names of a kind in a namespace; `None` if they cannot be had, or only for more than a look at each of so many.
async fn names(
    client: &Client,
    served: &Served,
    namespace: &str,
    instead_of: usize,
) -> Option<BTreeSet<String>> {
    let namespace = Some(namespace).filter(|namespace| !namespace.is_empty());
    let path = DynamicObject::url_path(&served.resource, namespace);
    let mut params = ListParams::default().limit(PAGE);
    let mut names = BTreeSet::new();
    loop {
        let mut request = Request::new(&path).list(&params).ok()?;
        let uri = format!("{}&includeObject=None", request.uri());
        *request.uri_mut() = uri.parse().ok()?;
        let accept = http::HeaderValue::from_static("application/json;as=Table;v=v1;g=meta.k8s.io");
        request.headers_mut().insert(http::header::ACCEPT, accept);
        let table: Table = client.request(request).await.ok()?;
        let column = table
            .column_definitions
            .iter()
            .position(|column| column.format == "name")?;
        for row in table.rows {
            names.insert(row.cells.get(column)?.as_str()?.to_owned());
        }
        match table.metadata.continue_.filter(|token| !token.is_empty()) {
            None => return Some(names),
            Some(_) if names.len() >= instead_of.saturating_mul(ROWS) => return None,
            Some(token) => params = params.continue_token(&token),
        }
    }
}
