//! What an expression reads and calls.

use std::collections::{BTreeMap, BTreeSet};

use cel::common::ast::{CallExpr, EntryExpr, Expr, IdedExpr, LiteralValue};
use cel::common::types::CelString;

use super::attributes::{self, ROOTS};

/// The attributes that an expression reads: by root, the names of its fields; all of them if the root is
/// used as a whole.
pub(super) type Attributes = BTreeMap<&'static str, Fields>;

/// The fields of a root.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Fields {
    All,
    Some(BTreeSet<&'static str>),
}

/// Checks an expression.
///
/// # Errors
/// It uses something that Envoy or Corvoy does not have.
pub(super) fn check(expression: &mut IdedExpr) -> Result<Attributes, String> {
    let mut attributes = Attributes::new();
    visit(&mut expression.expr, &mut attributes)?;
    Ok(attributes)
}

fn visit(expr: &mut Expr, found: &mut Attributes) -> Result<(), String> {
    match expr {
        Expr::Unspecified | Expr::Literal(_) => Ok(()),
        Expr::Ident(name) => {
            if let Some(root) = root(name)? {
                found.insert(root, Fields::All);
            }
            Ok(())
        }
        Expr::Select(select) => {
            if let Expr::Ident(name) = &select.operand.expr
                && let Some(root) = root(name)?
            {
                return field(root, &select.field, found);
            }
            visit(&mut select.operand.expr, found)
        }
        Expr::Call(call) => {
            if !FUNCTIONS.contains(&call.func_name.as_str()) {
                return Err(format!("there is no function '{}'", shown(&call.func_name)));
            }
            literal(call)?;
            if let Some(target) = &mut call.target {
                visit(&mut target.expr, found)?;
            }
            call.args.iter_mut().try_for_each(|argument| visit(&mut argument.expr, found))
        }
        Expr::List(list) => {
            list.elements.iter_mut().try_for_each(|element| visit(&mut element.expr, found))
        }
        Expr::Map(map) => map.entries.iter_mut().try_for_each(|entry| match &mut entry.expr {
            EntryExpr::MapEntry(entry) => {
                visit(&mut entry.key.expr, found)?;
                visit(&mut entry.value.expr, found)
            }
            EntryExpr::StructField(field) => visit(&mut field.value.expr, found),
        }),
        Expr::Comprehension(_) => {
            Err("comprehensions (all, exists, exists_one, filter, map) are disabled, as in Envoy"
                .to_owned())
        }
        Expr::Struct(message) => {
            Err(format!("messages, such as '{}', are not implemented by Corvoy", message.type_name))
        }
    }
}

fn root(name: &str) -> Result<Option<&'static str>, String> {
    if attributes::LACKING_ROOTS.contains(&name) {
        return Err(format!("the attribute '{name}' is not implemented by Corvoy"));
    }
    Ok(ROOTS.into_iter().find(|root| *root == name))
}

/// Reads the literal that a call ends with: a regular expression must be valid, and the case of the name of
/// a header does not matter.
fn literal(call: &mut CallExpr) -> Result<(), String> {
    let is_header = match call.args.as_slice() {
        [map, _] if call.func_name == "_[_]" => is_headers(&map.expr),
        _ => false,
    };
    let last = call.args.last_mut().map(|argument| &mut argument.expr);
    if let Some(Expr::Literal(LiteralValue::String(text))) = last {
        if is_header {
            *text = CelString::from(text.inner().to_ascii_lowercase());
        } else if call.func_name == "matches" {
            let regex = regex::Regex::new(text.inner());
            regex.map_err(|error| format!("invalid regular expression: {error}"))?;
        }
    }
    Ok(())
}

/// Whether this is `request.headers`, or those of a response.
fn is_headers(expr: &Expr) -> bool {
    let Expr::Select(select) = expr else { return false };
    matches!(&select.operand.expr, Expr::Ident(root) if root == "request" || root == "response")
        && matches!(&*select.field, "headers" | "trailers")
}

fn field(root: &'static str, name: &str, found: &mut Attributes) -> Result<(), String> {
    if attributes::LACKING.contains(&(root, name)) {
        return Err(format!("the attribute '{root}.{name}' is not implemented by Corvoy"));
    }
    // As in Envoy any other has no value.
    let known = attributes::FIELDS.iter().find(|known| **known == (root, name));
    let fields = found.entry(root).or_insert_with(|| Fields::Some(BTreeSet::new()));
    if let (Fields::Some(fields), Some((_, name))) = (fields, known) {
        fields.insert(name);
    }
    Ok(())
}

/// An operator without the underscores of its name.
fn shown(function: &str) -> &str {
    function.trim_matches('_')
}

/// Those of the standard library that Envoy has.
const FUNCTIONS: &[&str] = &[
    "!_",
    "-_",
    "@in",
    "_!=_",
    "_%_",
    "_&&_",
    "_*_",
    "_+_",
    "_-_",
    "_/_",
    "_<=_",
    "_<_",
    "_==_",
    "_>=_",
    "_>_",
    "_?_:_",
    "_[_]",
    "_||_",
    "bytes",
    "contains",
    "double",
    "duration",
    "dyn",
    "endsWith",
    "getDate",
    "getDayOfMonth",
    "getDayOfWeek",
    "getDayOfYear",
    "getFullYear",
    "getHours",
    "getMilliseconds",
    "getMinutes",
    "getMonth",
    "getSeconds",
    "int",
    "matches",
    "size",
    "startsWith",
    "timestamp",
    "type",
    "uint",
];
