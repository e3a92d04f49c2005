//! CEL: expressions over the attributes of a request or a connection, compiled once.
//!
//! As in Envoy there are no comprehensions (`map`, `exists`, …) and no functions outside the standard library;
//! an attribute without a value, or of the wrong type, leaves the expression without a value. An attribute
//! that Corvoy does not have is an error when the configuration is loaded.
//!
//! `check` reads an expression, `attributes` finds the values, `print` writes a result.

mod attributes;
mod check;
pub(crate) mod compile;
mod print;

use std::sync::Arc;

use cel::common::ast::IdedExpr;
use cel::common::types::{CelBool, CelString};
use cel::common::value::CowVal;
use cel::parser::Expression;
use cel::{Context, Env, Value};

use self::check::Attributes;
use crate::format::json_text::write_string;
use crate::format::stream_info::Inputs;
use crate::untrusted::escape_controls;

/// A compiled expression.
#[derive(Clone, Debug)]
pub struct Program {
    expression: Arc<Expression>,
    /// The attributes that it reads.
    attributes: Arc<Attributes>,
}

impl Program {
    /// Compiles an expression.
    ///
    /// # Errors
    /// What is wrong with it, as text for the user.
    pub fn new(text: &str) -> Result<Self, String> {
        let parsed = environment().parser().parse(text);
        Self::of_expression(parsed.map_err(|errors| format!("invalid expression: {errors}"))?)
    }

    fn of_expression(mut expression: IdedExpr) -> Result<Self, String> {
        let attributes = check::check(&mut expression)?;
        Ok(Self { expression: Arc::new(expression), attributes: Arc::new(attributes) })
    }

    /// Whether the value is `true`.
    #[must_use]
    pub fn holds(&self, inputs: &Inputs<'_>) -> bool {
        self.evaluate(inputs, |value| {
            value.downcast_ref::<CelBool>().is_some_and(|value| *value.inner())
        })
        .unwrap_or(false)
    }

    /// Writes the value as text; none if there is no value. Control characters are escaped: the client may
    /// have chosen them, in a PROXY header for example.
    pub fn write(&self, inputs: &Inputs<'_>, out: &mut Vec<u8>) -> Option<()> {
        let start = out.len();
        self.evaluate(inputs, |value| print::text(&*value, out))?;
        escape_controls(out, start);
        Some(())
    }

    /// Writes the value as text, cut to so many bytes, in a JSON string; none if there is no value.
    pub fn write_text_as_json(
        &self,
        inputs: &Inputs<'_>,
        bytes_max: Option<usize>,
        out: &mut Vec<u8>,
    ) -> Option<()> {
        let mut text = Vec::new();
        self.evaluate(inputs, |value| print::text(&*value, &mut text))?;
        text.truncate(bytes_max.unwrap_or(usize::MAX));
        write_string(&text, out);
        Some(())
    }

    /// Writes the value as JSON of its type, a text cut to so many bytes; none if there is no value.
    pub fn write_json(
        &self,
        inputs: &Inputs<'_>,
        bytes_max: Option<usize>,
        out: &mut Vec<u8>,
    ) -> Option<()> {
        self.evaluate(inputs, |value| match (value.downcast_ref::<CelString<'_>>(), bytes_max) {
            (Some(text), Some(max)) => {
                let text = text.inner().as_bytes();
                write_string(text.get(..max).unwrap_or(text), out);
                Some(())
            }
            _ => print::typed(&*value, out),
        })?
    }

    fn evaluate<T>(
        &self,
        inputs: &Inputs<'_>,
        with: impl FnOnce(CowVal<'_, '_>) -> T,
    ) -> Option<T> {
        let mut context = Context::with_env(environment());
        attributes::bind(&self.attributes, inputs, &mut context);
        let value = Value::resolve_val(&self.expression, &context).ok()?;
        Some(with(value))
    }
}

/// The functions of an expression. Each thread has its own, so that no request counts references on
/// behalf of another thread.
fn environment() -> Arc<Env> {
    thread_local! {
        static ENVIRONMENT: Arc<Env> = Arc::new(Env::stdlib().with_optional_support(false));
    }
    ENVIRONMENT.with(Arc::clone)
}

#[cfg(test)]
mod tests;
