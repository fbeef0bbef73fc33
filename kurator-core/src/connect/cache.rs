use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// One slot a key, each with its own lock so that a slow key delays no other; the slot that was used longest ago
/// goes when there are too many.
#[derive(Debug)]
pub(super) struct SlotCache<K, V> {
    capacity: usize,
    content: Mutex<Content<K, V>>,
}

#[derive(Debug)]
struct Content<K, V> {
    uses: u64,
    slots: BTreeMap<K, (u64, Slot<V>)>,
}

/// Locked across the reads that fill it: of many callers for one key, one reads and the others wait for it.
pub(super) type Slot<V> = Arc<tokio::sync::Mutex<Option<V>>>;

impl<K: Ord + Clone, V> SlotCache<K, V> {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            capacity: capacity.max(1),
            content: Mutex::new(Content {
                uses: 0,
                slots: BTreeMap::new(),
            }),
        }
    }

    /// The slot of `key`, empty if it is new.
    pub(super) fn slot(&self, key: &K) -> Slot<V> {
        let mut content = self.lock();
        content.uses += 1;
        let now = content.uses;
        if let Some((used, slot)) = content.slots.get_mut(key) {
            *used = now;
            return Arc::clone(slot);
        }
        if content.slots.len() >= self.capacity {
            let oldest = content
                .slots
                .iter()
                .min_by_key(|(_, (used, _))| *used)
                .map(|(key, _)| key.clone());
            if let Some(oldest) = oldest {
                content.slots.remove(&oldest);
            }
        }
        let slot = Slot::default();
        content.slots.insert(key.clone(), (now, Arc::clone(&slot)));
        slot
    }

    pub(super) fn remove(&self, key: &K) {
        self.lock().slots.remove(key);
    }

    fn lock(&self) -> MutexGuard<'_, Content<K, V>> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn fill(cache: &SlotCache<&str, u8>, key: &'static str) {
        *cache.slot(&key).lock().await = Some(1);
    }

    #[tokio::test]
    async fn the_slot_used_longest_ago_goes_first() {
        let cache = SlotCache::new(2);
        fill(&cache, "a").await;
        fill(&cache, "b").await;
        assert_eq!(*cache.slot(&"a").lock().await, Some(1));
        fill(&cache, "c").await;
        assert_eq!(*cache.slot(&"a").lock().await, Some(1));
        assert_eq!(*cache.slot(&"b").lock().await, None);
    }

    #[tokio::test]
    async fn a_removed_slot_is_empty_when_it_returns() {
        let cache = SlotCache::new(2);
        fill(&cache, "a").await;
        cache.remove(&"a");
        assert_eq!(*cache.slot(&"a").lock().await, None);
    }
}
