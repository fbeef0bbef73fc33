//! PodDisruptionBudgets: what they ask for, and what their status last said.

use std::sync::Arc;

use k8s_openapi::{
    api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus},
    apimachinery::pkg::util::intstr::IntOrString,
};

use super::{Model, ModelError, key_of, labels::Selector, symbols::Sym};

/// How many pods must stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    MaxUnavailable(Amount),
    MinAvailable(Amount),
    /// Neither is given: the disruption controller expects no pod, and so allows no disruption.
    Neither,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Amount {
    Count(i64),
    Percent(i64),
}

impl Amount {
    /// A share of `total`, rounded up as the disruption controller does for both fields.
    pub(crate) fn of(self, total: i64) -> i64 {
        match self {
            Self::Count(count) => count,
            Self::Percent(percent) => (total * percent + 99) / 100,
        }
    }
}

/// What the disruption controller last wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Status {
    /// It is about an older spec: the API server refuses every eviction until the controller has caught up.
    pub(crate) stale: bool,
    pub(crate) desired: i64,
    pub(crate) expected: i64,
    pub(crate) allowed: i64,
    /// The controller could not find the scale of an owner, and allows nothing.
    pub(crate) sync_failed: bool,
    /// Evicted pods the controller has not seen go, with the second of the eviction.
    pub(crate) disrupted: Box<[(Arc<str>, i64)]>,
}

#[derive(Clone, Debug)]
pub(crate) struct BudgetRecord {
    pub(crate) namespace: Sym,
    pub(crate) name: Arc<str>,
    /// `None` selects no pod.
    pub(crate) selector: Option<Selector>,
    pub(crate) rule: Rule,
    /// `unhealthyPodEvictionPolicy: AlwaysAllow`.
    pub(crate) always_allow_unhealthy: bool,
    /// `None` if the controller has never written one.
    pub(crate) status: Option<Status>,
    /// The groups of pods it selects.
    pub(crate) groups: Vec<u32>,
}

impl Model {
    /// Takes in a PodDisruptionBudget.
    ///
    /// # Errors
    /// [`ModelError`] for what the API server would refuse; what the model knew of the budget stays then.
    pub fn upsert_budget(&mut self, budget: &PodDisruptionBudget) -> Result<(), ModelError> {
        let (namespace, name) = key_of("PodDisruptionBudget", &budget.metadata)?;
        let spec = budget.spec.as_ref();
        let problem = |problem: String| ModelError::Budget {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            problem,
        };
        let max = spec.and_then(|spec| spec.max_unavailable.as_ref());
        let min = spec.and_then(|spec| spec.min_available.as_ref());
        let rule = match (max, min) {
            (Some(_), Some(_)) => {
                return Err(problem(
                    "minAvailable and maxUnavailable exclude each other; keep one".into(),
                ));
            }
            (Some(max), None) => Rule::MaxUnavailable(amount("maxUnavailable", max).map_err(problem)?),
            (None, Some(min)) => Rule::MinAvailable(amount("minAvailable", min).map_err(problem)?),
            (None, None) => Rule::Neither,
        };
        let selector = spec
            .and_then(|spec| spec.selector.as_ref())
            .map(|selector| Selector::new(selector, &mut self.symbols))
            .transpose()
            .map_err(|problem| ModelError::Selector {
                object: format!("PodDisruptionBudget {namespace}/{name}"),
                field: "spec.selector".into(),
                problem,
            })?;
        let record = BudgetRecord {
            namespace: self.symbols.intern(namespace),
            name: name.into(),
            selector,
            rule,
            always_allow_unhealthy: spec.and_then(|spec| spec.unhealthy_pod_eviction_policy.as_deref())
                == Some("AlwaysAllow"),
            status: budget
                .status
                .as_ref()
                .and_then(|status| read_status(status, budget.metadata.generation.unwrap_or_default())),
            groups: Vec::new(),
        };
        let key = (record.namespace, Arc::clone(&record.name));
        match self.budget_ids.get(&key).copied() {
            Some(at) => {
                // The status changes often, the selector hardly ever: keep the matches then.
                if let Some(old) = self.budgets.get_mut(at)
                    && old.selector == record.selector
                {
                    let groups = std::mem::take(&mut old.groups);
                    *old = BudgetRecord { groups, ..record };
                } else {
                    self.detach(at);
                    self.budgets.set(at, record);
                    self.attach(at);
                }
            }
            None => {
                let at = self.budgets.push(record);
                let by_name = (self.symbols.text(key.0), Arc::clone(&key.1));
                self.budgets_by_name.insert(by_name, at);
                self.budget_ids.insert(key, at);
                self.attach(at);
            }
        }
        Ok(())
    }

    /// Forgets a budget.
    pub fn remove_budget(&mut self, namespace: &str, name: &str) {
        let Some(namespace) = self.symbols.find(namespace) else {
            return;
        };
        let key = (namespace, name.into());
        if let Some(at) = self.budget_ids.remove(&key) {
            self.budgets_by_name
                .remove(&(self.symbols.text(namespace), key.1));
            self.detach(at);
            self.budgets.clear(at);
        }
    }
}

fn amount(field: &str, value: &IntOrString) -> Result<Amount, String> {
    match value {
        IntOrString::Int(count) if *count >= 0 => Ok(Amount::Count(i64::from(*count))),
        IntOrString::Int(count) => Err(format!("{field} is {count}; it must be 0 or more")),
        IntOrString::String(text) => text
            .strip_suffix('%')
            .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|digits| digits.parse::<i64>().ok())
            .filter(|percent| *percent <= 100)
            .map(Amount::Percent)
            .ok_or_else(|| format!("{field} is {text:?}; it must be a whole number, or 0% to 100%")),
    }
}

fn read_status(status: &PodDisruptionBudgetStatus, generation: i64) -> Option<Status> {
    let observed = status.observed_generation;
    let number = |field: Option<i32>| i64::from(field.unwrap_or_default());
    if observed.is_none() && number(status.expected_pods) == 0 && status.conditions.is_none() {
        return None;
    }
    Some(Status {
        stale: observed.unwrap_or(generation) < generation,
        desired: number(status.desired_healthy),
        expected: number(status.expected_pods),
        allowed: number(status.disruptions_allowed),
        sync_failed: status
            .conditions
            .iter()
            .flatten()
            .any(|condition| condition.type_ == "DisruptionAllowed" && condition.reason == "SyncFailed"),
        disrupted: status
            .disrupted_pods
            .iter()
            .flatten()
            .map(|(name, time)| (Arc::from(name.as_str()), time.0.as_second()))
            .collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_round_up() {
        for (percent, total, expected) in [
            (30, 7, 3),
            (30, 3, 1),
            (25, 10, 3),
            (50, 1, 1),
            (1, 1, 1),
            (100, 3, 3),
            (0, 9, 0),
        ] {
            assert_eq!(
                Amount::Percent(percent).of(total),
                expected,
                "{percent}% of {total}"
            );
        }
    }

    #[test]
    fn malformed_amounts_are_refused() {
        for text in ["101%", "5", "%", "-5%", "5.5%", ""] {
            assert!(
                amount("minAvailable", &IntOrString::String(text.into())).is_err(),
                "{text}"
            );
        }
        assert!(amount("minAvailable", &IntOrString::Int(-1)).is_err());
        assert_eq!(
            amount("minAvailable", &IntOrString::String("0%".into())),
            Ok(Amount::Percent(0))
        );
    }
}
