//! Sums that a host may scrape, for those that bring no registry of their own.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

/// Counters by name and labels; clones share them. `Display` is the text that Prometheus scrapes.
///
/// ```
/// use kurator_core::counters::Counters;
///
/// let counters = Counters::new("shop");
/// counters.add("orders", &[("country", "no")], 2.0);
/// counters.add("orders", &[("country", "fr")], 1.0);
/// assert_eq!(counters.sum("orders"), 3.0);
/// let text = counters.to_string();
/// let lines: Vec<&str> = text.lines().collect();
/// assert_eq!(lines, [
///     "# TYPE shop_orders_total counter",
///     r#"shop_orders_total{country="fr"} 1"#,
///     r#"shop_orders_total{country="no"} 2"#,
/// ]);
/// ```
#[derive(Clone, Debug)]
pub struct Counters {
    prefix: &'static str,
    sums: Arc<Mutex<BTreeMap<(&'static str, String), f64>>>,
}

impl Counters {
    /// Counters whose names begin with `prefix` and an underscore, and end with `_total`.
    #[must_use]
    pub fn new(prefix: &'static str) -> Self {
        Self {
            prefix,
            sums: Arc::default(),
        }
    }

    /// Adds to a counter, by its name without prefix and ending. Values of labels are escaped as Prometheus wants.
    pub fn add(&self, name: &'static str, labels: &[(&str, &str)], value: f64) {
        let mut text = String::new();
        for (index, (label, value)) in labels.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            let value = value
                .replace('\\', r"\\")
                .replace('"', r#"\""#)
                .replace('\n', r"\n");
            text.push_str(&format!("{comma}{label}=\"{value}\""));
        }
        let mut sums = self.sums.lock().unwrap_or_else(PoisonError::into_inner);
        *sums.entry((name, text)).or_default() += value;
    }

    /// The sum of one counter over all its labels, by its name without prefix and ending.
    #[must_use]
    pub fn sum(&self, name: &str) -> f64 {
        let sums = self.sums.lock().unwrap_or_else(PoisonError::into_inner);
        let of_name = sums.iter().filter(|((counter, _), _)| *counter == name);
        of_name.map(|(_, value)| value).sum()
    }
}

impl fmt::Display for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sums = self.sums.lock().unwrap_or_else(PoisonError::into_inner);
        let mut last = "";
        for ((name, labels), value) in sums.iter() {
            if *name != last {
                writeln!(f, "# TYPE {}_{name}_total counter", self.prefix)?;
                last = name;
            }
            writeln!(f, "{}_{name}_total{{{labels}}} {value}", self.prefix)?;
        }
        Ok(())
    }
}
