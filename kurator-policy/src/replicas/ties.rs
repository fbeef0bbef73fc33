//! Who goes first when two clusters have the same claim to a replica.

/// The order in which clusters of equal claim are served.
///
/// Half of the workloads go through the clusters in ascending order of name and half in descending order, so that
/// the odd replica of many small workloads does not always land on the same cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "there are two directions")]
pub enum TieOrder {
    /// The first of the list (the lowest name) first.
    #[default]
    Ascending,
    /// The last of the list (the highest name) first.
    Descending,
}

impl TieOrder {
    /// The order for a resource: descending if the FNV-1a hash (32 bits) of its UID is odd, as in Karmada.
    ///
    /// ```
    /// use kurator_policy::replicas::TieOrder;
    /// assert_eq!(TieOrder::of_uid(""), TieOrder::Ascending);
    /// assert_eq!(TieOrder::of_uid("a"), TieOrder::Ascending);
    /// assert_eq!(TieOrder::of_uid("b"), TieOrder::Descending);
    /// ```
    pub fn of_uid(uid: &str) -> Self {
        // Without a UID there is nothing to hash; the offset basis itself is odd.
        if uid.is_empty() {
            return Self::Ascending;
        }
        let hash = uid.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
            (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
        });
        if hash % 2 == 1 {
            Self::Descending
        } else {
            Self::Ascending
        }
    }

    /// Whether position `a` is served before position `b`.
    pub(crate) fn first(self, a: usize, b: usize) -> bool {
        match self {
            Self::Ascending => a < b,
            Self::Descending => a > b,
        }
    }
}
