//! Claims and volumes: where a pod with data can go, and which driver attaches it.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};

use super::{
    Model, ModelError,
    constraint::NodeTerms,
    key_of, name_of,
    symbols::{Map, Sym},
};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClaimRecord {
    /// The bound volume.
    pub(crate) volume: Option<Sym>,
}

#[derive(Clone, Debug)]
pub(crate) struct VolumeRecord {
    /// Nodes that can reach it.
    pub(crate) terms: Option<NodeTerms>,
    /// Zone and region labels of the volume, with the values a node may have.
    pub(crate) zones: Box<[(Sym, Box<[Sym]>)]>,
    pub(crate) driver: Option<Sym>,
}

pub(crate) type Claims = Map<(Sym, Sym), ClaimRecord>;
pub(crate) type Volumes = Map<Sym, VolumeRecord>;

/// The labels by which volumes were tied to a zone or region before they had node affinity; the scheduler still
/// honours them.
const ZONE_LABELS: [&str; 4] = [
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
];

impl Model {
    /// Takes in a PersistentVolumeClaim.
    ///
    /// # Errors
    /// [`ModelError::NoName`].
    pub fn upsert_claim(&mut self, claim: &PersistentVolumeClaim) -> Result<(), ModelError> {
        let (namespace, name) = key_of("PersistentVolumeClaim", &claim.metadata)?;
        let key = (self.symbols.intern(namespace), self.symbols.intern(name));
        let volume = claim
            .spec
            .as_ref()
            .and_then(|spec| spec.volume_name.as_deref())
            .filter(|volume| !volume.is_empty())
            .map(|volume| self.symbols.intern(volume));
        self.claims.insert(key, ClaimRecord { volume });
        Ok(())
    }

    /// Forgets a claim.
    pub fn remove_claim(&mut self, namespace: &str, name: &str) {
        if let (Some(namespace), Some(name)) = (self.symbols.find(namespace), self.symbols.find(name)) {
            self.claims.remove(&(namespace, name));
        }
    }

    /// Takes in a PersistentVolume.
    ///
    /// # Errors
    /// [`ModelError`] for a missing name or an affinity the API server would refuse.
    pub fn upsert_volume(&mut self, volume: &PersistentVolume) -> Result<(), ModelError> {
        let name = name_of("PersistentVolume", &volume.metadata)?;
        let object = || format!("PersistentVolume {name}");
        let spec = volume.spec.as_ref();
        let terms = spec
            .and_then(|spec| spec.node_affinity.as_ref())
            .and_then(|affinity| affinity.required.as_ref())
            .map(|required| NodeTerms::new(required, "spec.nodeAffinity", &object, &mut self.symbols))
            .transpose()?;
        let mut zones = Vec::new();
        for key in ZONE_LABELS {
            if let Some(value) = volume.metadata.labels.as_ref().and_then(|labels| labels.get(key)) {
                let values = value
                    .split("__")
                    .map(|value| self.symbols.intern(value))
                    .collect();
                zones.push((self.symbols.intern(key), values));
            }
        }
        let driver = spec
            .and_then(|spec| spec.csi.as_ref())
            .map(|csi| self.symbols.intern(&csi.driver));
        let name = self.symbols.intern(name);
        self.volumes.insert(
            name,
            VolumeRecord {
                terms,
                zones: zones.into_boxed_slice(),
                driver,
            },
        );
        Ok(())
    }

    /// Forgets a volume.
    pub fn remove_volume(&mut self, name: &str) {
        if let Some(name) = self.symbols.find(name) {
            self.volumes.remove(&name);
        }
    }
}
