//! Strings and values that occur many times, kept once.

use std::{
    borrow::Borrow,
    collections::HashMap,
    hash::{Hash, Hasher},
    ops::Index,
    sync::Arc,
};

/// A string the model has seen. Its number depends on the order of arrival, so it never decides an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Sym(pub(crate) u32);

/// Every [`Sym`] of a model.
#[derive(Clone, Debug)]
pub(crate) struct Symbols {
    ids: HashMap<Arc<str>, Sym, Quick>,
    texts: Vec<Arc<str>>,
}

impl Default for Symbols {
    fn default() -> Self {
        let mut symbols = Self {
            ids: HashMap::default(),
            texts: Vec::new(),
        };
        symbols.intern("");
        symbols.intern("node.kubernetes.io/unschedulable");
        symbols
    }
}

impl Symbols {
    /// The empty string.
    pub(crate) const EMPTY: Sym = Sym(0);
    /// The key of the taint a cordoned node has.
    pub(crate) const UNSCHEDULABLE: Sym = Sym(1);

    /// The string itself, to be kept elsewhere.
    pub(crate) fn text(&self, sym: Sym) -> Arc<str> {
        Arc::clone(&self.texts[sym.0 as usize])
    }

    pub(crate) fn intern(&mut self, text: &str) -> Sym {
        if let Some(sym) = self.ids.get(text) {
            return *sym;
        }
        let sym = Sym(id(self.texts.len()));
        let text: Arc<str> = text.into();
        self.texts.push(Arc::clone(&text));
        self.ids.insert(text, sym);
        sym
    }

    /// The symbol of a string seen before.
    pub(crate) fn find(&self, text: &str) -> Option<Sym> {
        self.ids.get(text).copied()
    }
}

impl Index<Sym> for Symbols {
    type Output = str;

    fn index(&self, sym: Sym) -> &str {
        &self.texts[sym.0 as usize]
    }
}

/// Values kept once, with a dense number for each.
#[derive(Clone, Debug)]
pub(crate) struct Pool<T> {
    ids: HashMap<Arc<T>, u32, Quick>,
    values: Vec<Arc<T>>,
}

impl<T> Default for Pool<T> {
    fn default() -> Self {
        Self {
            ids: HashMap::default(),
            values: Vec::new(),
        }
    }
}

impl<T: Eq + Hash> Pool<T> {
    pub(crate) fn intern(&mut self, value: T) -> u32 {
        if let Some(id) = self.ids.get(&value as &T) {
            return *id;
        }
        let number = id(self.values.len());
        let value = Arc::new(value);
        self.values.push(Arc::clone(&value));
        self.ids.insert(value, number);
        number
    }

    pub(crate) fn find<Q>(&self, value: &Q) -> Option<u32>
    where
        Arc<T>: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.ids.get(value).copied()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        (0u32..).zip(self.values.iter().map(AsRef::as_ref))
    }
}

impl<T> Index<u32> for Pool<T> {
    type Output = T;

    fn index(&self, id: u32) -> &T {
        &self.values[id as usize]
    }
}

/// A table of four thousand million rows does not fit in memory, so the cast holds.
#[expect(clippy::cast_possible_truncation, reason = "see above")]
pub(crate) fn id(len: usize) -> u32 {
    len as u32
}

/// The hash function of the model's maps: multiply and rotate, four times as fast as the standard one for the
/// short keys here. Iteration order of these maps is never used.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Quick;

impl std::hash::BuildHasher for Quick {
    type Hasher = QuickHasher;

    fn build_hasher(&self) -> QuickHasher {
        QuickHasher(0)
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct QuickHasher(u64);

impl QuickHasher {
    fn add(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
    }
}

impl Hasher for QuickHasher {
    fn write(&mut self, bytes: &[u8]) {
        let mut words = bytes.chunks_exact(8);
        for word in &mut words {
            self.add(word.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)));
        }
        let rest = words.remainder();
        if !rest.is_empty() {
            self.add(rest.iter().fold(1, |sum, byte| sum << 8 | u64::from(*byte)));
        }
    }

    fn write_u8(&mut self, value: u8) {
        self.add(u64::from(value));
    }

    fn write_u32(&mut self, value: u32) {
        self.add(u64::from(value));
    }

    fn write_u64(&mut self, value: u64) {
        self.add(value);
    }

    fn write_usize(&mut self, value: usize) {
        self.add(value as u64);
    }

    fn finish(&self) -> u64 {
        // The table takes its control bits from the top, its bucket from the bottom: mix both.
        self.0 ^ (self.0 >> 29)
    }
}

/// A map whose iteration order is never used.
pub(crate) type Map<K, V> = HashMap<K, V, Quick>;
