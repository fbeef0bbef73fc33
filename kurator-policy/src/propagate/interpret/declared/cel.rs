//! Expressions in the Common Expression Language.

use std::fmt;

use cel::{Context, Program};
use serde_json::Value;

/// A compiled expression over one object.
pub(super) struct Expression {
    program: Program,
    text: String,
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Expression").field(&self.text).finish()
    }
}

impl Expression {
    pub(super) fn compile(text: &str) -> Result<Self, String> {
        let program = Program::compile(text).map_err(|errors| errors.to_string())?;
        Ok(Self {
            program,
            text: text.to_owned(),
        })
    }

    /// The value for an object; `None` where the expression fails on it.
    pub(super) fn evaluate(&self, object: &Value) -> Option<Value> {
        let mut context = Context::default();
        context.add_variable("self", object).ok()?;
        self.program.execute(&context).ok()?.json().ok()
    }
}
