use serde_json::Value;

use crate::api::{
    CommandArgsOverrider, FieldOverrider, LabelAnnotationOverrider, OverrideOperator, OverrideRule,
    Overriders,
};

use super::{
    Dialect,
    error::OverrideError,
    fault::Fault,
    patch::{Action, Operation},
    pointer::Pointer,
    report::PolicyName,
    select::ClusterMatcher,
    steps::{Step, TextFormat},
};

/// One rule, compiled.
#[derive(Debug)]
pub(super) struct CompiledRule {
    pub(super) number: usize,
    pub(super) clusters: Option<ClusterMatcher>,
    /// Each with its name in the policy.
    pub(super) steps: Vec<(String, Step)>,
}

pub(super) fn compile_rules(
    policy: &PolicyName,
    rules: &[OverrideRule],
    dialect: Dialect,
) -> Result<Vec<CompiledRule>, OverrideError> {
    rules
        .iter()
        .enumerate()
        .map(|(number, rule)| compile_rule(policy, number, rule, dialect))
        .collect()
}

fn compile_rule(
    policy: &PolicyName,
    number: usize,
    rule: &OverrideRule,
    dialect: Dialect,
) -> Result<CompiledRule, OverrideError> {
    let clusters = rule
        .target_clusters
        .as_ref()
        .map(|affinity| ClusterMatcher::compile(affinity, dialect));
    let clusters = clusters.transpose().map_err(|source| OverrideError::Clusters {
        policy: policy.clone(),
        rule: number,
        source: Box::new(source),
    })?;
    let mut steps = Steps {
        dialect,
        compiled: Vec::new(),
    };
    steps
        .add_rule(rule)
        .map_err(|(step, fault)| OverrideError::Rule {
            policy: policy.clone(),
            rule: number,
            step,
            fault: Box::new(fault),
        })?;
    Ok(CompiledRule {
        number,
        clusters,
        steps: steps.compiled,
    })
}

struct Steps {
    dialect: Dialect,
    compiled: Vec<(String, Step)>,
}

type At<T> = Result<T, (String, Fault)>;

impl Steps {
    /// The order of the steps is the order of their effects.
    fn add_rule(&mut self, rule: &OverrideRule) -> At<()> {
        let none = Overriders::default();
        let overriders = rule.overriders.as_ref().unwrap_or(&none);
        self.add_each(
            "overriders.imageOverrider",
            &overriders.image_overrider,
            |steps, image| {
                let predicate = image
                    .predicate
                    .as_ref()
                    .map(|at| steps.pointer(&at.path))
                    .transpose()?;
                if steps.dialect == Dialect::Kurator
                    && image.operator != OverrideOperator::Remove
                    && image.value.as_deref().unwrap_or_default().is_empty()
                {
                    return Err(Fault::NoValue);
                }
                Ok(Step::Image {
                    predicate,
                    component: image.component,
                    operator: image.operator,
                    value: image.value.clone().unwrap_or_default(),
                })
            },
        )?;
        for (name, field, overriders) in [
            (
                "overriders.commandOverrider",
                "command",
                &overriders.command_overrider,
            ),
            ("overriders.argsOverrider", "args", &overriders.args_overrider),
        ] {
            self.add_each(name, overriders, |steps, words| steps.words(field, words))?;
        }
        self.add_each("overriders.envOverrider", &overriders.env_overrider, |_, env| {
            Ok(Step::Env {
                container: env.container_name.clone(),
                operator: env.operator,
                variables: env.value.clone(),
            })
        })?;
        for (name, field, overriders) in [
            (
                "overriders.labelsOverrider",
                "labels",
                &overriders.labels_overrider,
            ),
            (
                "overriders.annotationsOverrider",
                "annotations",
                &overriders.annotations_overrider,
            ),
        ] {
            self.add_each(name, overriders, |_, meta| Ok(Self::meta(field, meta)))?;
        }
        self.add_each(
            "overriders.fieldOverrider",
            &overriders.field_overrider,
            Self::text,
        )?;
        self.add_each("overriders.plaintext", &overriders.plaintext, |steps, patch| {
            steps
                .operation(&patch.path, Some(patch.operator), patch.value.as_ref())
                .map(Step::Patch)
        })?;
        self.add_each("overrides", &rule.overrides, |steps, patch| {
            steps
                .operation(&patch.path, patch.operator, patch.value.as_ref())
                .map(Step::Patch)
        })?;
        match &overriders.merge_patch {
            None => Ok(()),
            Some(Value::Object(patch)) => {
                self.compiled
                    .push(("overriders.mergePatch".to_owned(), Step::Merge(patch.clone())));
                Ok(())
            }
            Some(_) => Err(("overriders.mergePatch".to_owned(), Fault::MergeNotObject)),
        }
    }

    fn add_each<T>(
        &mut self,
        name: &str,
        overriders: &[T],
        compile: impl Fn(&Self, &T) -> Result<Step, Fault>,
    ) -> At<()> {
        for (place, overrider) in overriders.iter().enumerate() {
            let name = format!("{name}[{place}]");
            match compile(self, overrider) {
                Ok(step) => self.compiled.push((name, step)),
                Err(fault) => return Err((name, fault)),
            }
        }
        Ok(())
    }

    fn pointer(&self, path: &str) -> Result<Pointer, Fault> {
        let pointer = match self.dialect {
            Dialect::Kurator => Pointer::parse(path),
            Dialect::Karmada => Pointer::parse_lenient(path),
        };
        pointer.map_err(|source| Fault::Pointer {
            path: path.to_owned(),
            source,
        })
    }

    fn operation(
        &self,
        path: &str,
        operator: Option<OverrideOperator>,
        value: Option<&Value>,
    ) -> Result<Operation, Fault> {
        let pointer = self.pointer(path)?;
        let value = || match (value, self.dialect) {
            (Some(value), _) => Ok(value.clone()),
            (None, Dialect::Karmada) => Ok(Value::Null),
            (None, Dialect::Kurator) => Err(Fault::NoValue),
        };
        let action = match operator {
            None => Action::Set(value()?),
            Some(OverrideOperator::Add) => Action::Add(value()?),
            Some(OverrideOperator::Remove) => Action::Remove,
            Some(OverrideOperator::Replace) => Action::Replace(value()?),
        };
        Ok(Operation { pointer, action })
    }

    fn words(&self, field: &'static str, words: &CommandArgsOverrider) -> Result<Step, Fault> {
        if self.dialect == Dialect::Kurator && words.operator == OverrideOperator::Replace {
            return Err(Fault::Operator);
        }
        Ok(Step::Words {
            field,
            container: words.container_name.clone(),
            operator: words.operator,
            words: words.value.clone(),
        })
    }

    fn meta(field: &'static str, meta: &LabelAnnotationOverrider) -> Step {
        Step::Meta {
            field,
            operator: meta.operator,
            values: meta.value.clone(),
        }
    }

    fn text(&self, text: &FieldOverrider) -> Result<Step, Fault> {
        let (format, patches) = match (self.dialect, text.json.is_empty(), text.yaml.is_empty()) {
            (Dialect::Kurator, true, true) | (Dialect::Kurator, false, false) => return Err(Fault::NoFormat),
            (Dialect::Karmada, true, true) => (TextFormat::Nothing, &text.json),
            (_, _, false) if !cfg!(feature = "yaml") => return Err(Fault::NoYaml),
            (_, _, false) => (TextFormat::Yaml, &text.yaml),
            (_, false, true) => (TextFormat::Json, &text.json),
        };
        let operations = patches
            .iter()
            .map(|patch| self.operation(&patch.sub_path, Some(patch.operator), patch.value.as_ref()))
            .collect::<Result<_, _>>()?;
        // The field itself is found by a library that reads pointers strictly, for Karmada too.
        let pointer = Pointer::parse(&text.field_path).map_err(|source| Fault::Pointer {
            path: text.field_path.clone(),
            source,
        })?;
        Ok(Step::Text {
            pointer,
            format,
            operations,
        })
    }
}
