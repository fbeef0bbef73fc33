//! Which replica should own which shard: rendezvous hashing with a bound on the load.

use std::collections::BTreeSet;

use super::{ReplicaId, ShardId};

/// The shard of a member, the same in every process and every version.
#[must_use]
pub fn shard_of(member: &str, shards: u32) -> ShardId {
    let shards = u64::from(shards.max(1));
    ShardId::new(u32::try_from(mix(fnv(member.as_bytes())) % shards).unwrap_or(0))
}

/// The wanted owner of every shard, in order of the shards. Empty when there is no replica.
///
/// Each shard goes to the replica that scores highest for it and has room; nobody gets more than
/// `ceil(shards / replicas)`. When a replica comes or goes, mostly its own share moves.
#[must_use]
pub fn assign(shards: u32, replicas: &BTreeSet<ReplicaId>) -> Vec<ReplicaId> {
    let Ok(count) = u32::try_from(replicas.len()) else {
        return Vec::new();
    };
    if count == 0 {
        return Vec::new();
    }
    let room = shards.div_ceil(count);
    let mut candidates: Vec<(&ReplicaId, u64, u32)> = replicas
        .iter()
        .map(|replica| (replica, fnv(replica.as_str().as_bytes()), 0))
        .collect();
    let mut owners = Vec::with_capacity(usize::try_from(shards).unwrap_or(0));
    for shard in 0..shards {
        let best = candidates
            .iter_mut()
            .filter(|(_, _, load)| *load < room)
            .max_by_key(|(replica, hash, _)| (mix(*hash ^ mix(u64::from(shard))), *replica));
        if let Some((replica, _, load)) = best {
            *load += 1;
            owners.push((*replica).clone());
        }
    }
    owners
}

/// FNV-1a, 64 bit.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// The finaliser of SplitMix64: spreads what FNV leaves close together.
const fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replicas(names: &[&str]) -> BTreeSet<ReplicaId> {
        names.iter().map(|name| ReplicaId::new(*name)).collect()
    }

    #[test]
    fn every_shard_has_one_owner_and_nobody_more_than_their_share() {
        for count in 1..=9_u32 {
            let names: Vec<String> = (0..count).map(|index| format!("replica-{index}")).collect();
            let owners = assign(
                64,
                &names.iter().map(|name| ReplicaId::new(name.as_str())).collect(),
            );
            assert_eq!(owners.len(), 64);
            for name in &names {
                let load = owners.iter().filter(|owner| owner.as_str() == name).count();
                assert!(
                    load <= 64_usize.div_ceil(count as usize),
                    "{name} has {load} of 64 among {count}"
                );
            }
        }
    }

    #[test]
    fn a_replica_that_leaves_moves_little_besides_its_own_share() {
        let before = assign(120, &replicas(&["a", "b", "c", "d"]));
        let after = assign(120, &replicas(&["a", "b", "d"]));
        let moved = before
            .iter()
            .zip(&after)
            .filter(|(was, is)| was.as_str() != "c" && was != is)
            .count();
        assert!(
            moved <= 20,
            "{moved} of 90 shards moved between replicas that stayed"
        );
    }

    #[test]
    fn without_replicas_nothing_is_assigned() {
        assert!(assign(8, &BTreeSet::new()).is_empty());
    }

    #[test]
    fn the_shard_of_a_member_never_changes() {
        assert_eq!(
            [shard_of("eu-west-1", 32), shard_of("berlin", 32)],
            [shard_of("eu-west-1", 32), shard_of("berlin", 32)]
        );
        let used: BTreeSet<ShardId> = (0..1000)
            .map(|index| shard_of(&format!("member-{index}"), 32))
            .collect();
        assert_eq!(used.len(), 32);
    }
}
