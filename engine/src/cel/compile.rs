//! Schema → expressions: those that the configuration has as a syntax tree.

use cel::common::ast::{CallExpr, Expr, IdedExpr, ListExpr, LiteralValue, SelectExpr};
use corvoy_config::{self as config, Path, Problems};

use super::Program;

/// Compiles the expression at `at`; none if there is an error.
pub(crate) fn program(
    schema: &config::CelExpr,
    at: &Path,
    problems: &mut Problems,
) -> Option<Program> {
    let expression = expression(schema, at, problems)?;
    Program::of_expression(expression).map_err(|error| problems.error(at, error)).ok()
}

fn expression(schema: &config::CelExpr, at: &Path, problems: &mut Problems) -> Option<IdedExpr> {
    let config::CelExpr { const_expr, ident_expr, select_expr, call_expr, list_expr } = schema;
    let expr = if let Some(schema) = const_expr {
        Expr::Literal(literal(schema))
    } else if let Some(config::CelIdent { name }) = ident_expr {
        Expr::Ident(name.clone())
    } else if let Some(schema) = select_expr {
        let config::CelSelect { operand, field, test_only } = schema;
        let at = at.field("select_expr").field("operand");
        let operand = Box::new(part(operand.as_deref(), &at, problems)?);
        Expr::Select(SelectExpr { operand, field: field.clone(), test: *test_only })
    } else if let Some(schema) = call_expr {
        let config::CelCall { target, function, args } = schema;
        let at = at.field("call_expr");
        let target = match target {
            Some(schema) => Some(Box::new(expression(schema, &at.field("target"), problems)?)),
            None => None,
        };
        let args = list(args, &at.field("args"), problems)?;
        Expr::Call(CallExpr { func_name: function.clone(), target, args })
    } else if let Some(config::CelList { elements }) = list_expr {
        let at = at.field("list_expr").field("elements");
        Expr::List(ListExpr { elements: list(elements, &at, problems)?, ..ListExpr::default() })
    } else {
        problems.missing(at, "the expression is empty");
        return None;
    };
    Some(IdedExpr { id: 0, expr })
}

fn part(schema: Option<&config::CelExpr>, at: &Path, problems: &mut Problems) -> Option<IdedExpr> {
    match schema {
        Some(schema) => expression(schema, at, problems),
        None => {
            problems.missing(at, "the expression is empty");
            None
        }
    }
}

fn list(schemas: &[config::CelExpr], at: &Path, problems: &mut Problems) -> Option<Vec<IdedExpr>> {
    let each = schemas.iter().enumerate();
    let compiled: Vec<_> =
        each.map(|(i, schema)| expression(schema, &at.index(i), problems)).collect();
    compiled.into_iter().collect()
}

/// A constant without a value is `null`.
fn literal(schema: &config::CelConstant) -> LiteralValue {
    let config::CelConstant {
        bool_value,
        int64_value,
        uint64_value,
        double_value,
        string_value,
        bytes_value,
    } = schema;
    if let Some(value) = bool_value {
        LiteralValue::Boolean((*value).into())
    } else if let Some(value) = int64_value {
        LiteralValue::Int((*value).into())
    } else if let Some(value) = uint64_value {
        LiteralValue::UInt((*value).into())
    } else if let Some(value) = double_value {
        LiteralValue::Double((*value).into())
    } else if let Some(value) = string_value {
        LiteralValue::String(value.clone().into())
    } else if let Some(value) = bytes_value {
        LiteralValue::Bytes(value.clone().into())
    } else {
        LiteralValue::Null
    }
}
