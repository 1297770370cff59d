//! One comparison: from an operator and its texts to SQL and its values.

use std::{fmt::Display, str::FromStr};

use cairn_proto::{
    meta::{Field, FieldKind, ResourceType, Width},
    query::v1alpha1::Operator,
};
use cairn_store::Value;
use prost_reflect::Kind;
use prost_types::Timestamp;

use crate::MAX_VALUES;

/// The longest pattern, in bytes: matching costs its length times that of the text.
const MAX_PATTERN: usize = 1_000;

/// What stands behind the column's name, and the values of its `?`.
pub(crate) struct Comparison {
    pub(crate) sql: String,
    pub(crate) values: Vec<Value>,
}

/// What is wrong, and in which part of the condition.
pub(crate) enum Wrong {
    Operator(String),
    Values(String),
}

/// The operator, as people write it.
fn symbol(operator: Operator) -> &'static str {
    match operator {
        Operator::Unspecified => "?",
        Operator::Eq => "=",
        Operator::Ne => "!=",
        Operator::Gt => ">",
        Operator::Ge => ">=",
        Operator::Lt => "<",
        Operator::Le => "<=",
        Operator::In => "?=",
        Operator::NotIn => "!?=",
        Operator::IsNull => "=null",
        Operator::IsNotNull => "!=null",
        Operator::Like => "~=",
        Operator::NotLike => "!~=",
    }
}

/// What the kinds compare by, besides `=null` and `!=null`.
fn operators(kind: &FieldKind) -> &'static [Operator] {
    use Operator::{Eq, Ge, Gt, In, Le, Like, Lt, Ne, NotIn, NotLike};
    match kind {
        FieldKind::Text => &[Eq, Ne, Gt, Ge, Lt, Le, In, NotIn, Like, NotLike],
        FieldKind::Signed(_) | FieldKind::Unsigned(_) | FieldKind::Double | FieldKind::Time => {
            &[Eq, Ne, Gt, Ge, Lt, Le, In, NotIn]
        }
        FieldKind::Enum(_) | FieldKind::Bool => &[Eq, Ne, In, NotIn],
        FieldKind::Bytes => &[],
    }
}

pub(crate) fn compare(
    resource: &ResourceType,
    field: &Field,
    operator: i32,
    texts: &[String],
) -> Result<Comparison, Wrong> {
    let operator = match Operator::try_from(operator) {
        Ok(Operator::Unspecified) => {
            return Err(Wrong::Operator("is missing; EQ, for instance".to_owned()));
        }
        Ok(operator) => operator,
        Err(_) => {
            let most = Operator::NotLike as i32;
            let problem = format!("{operator} is no operator; they are 1 to {most}");
            return Err(Wrong::Operator(problem));
        }
    };
    let mark = symbol(operator);
    let applicable = operators(&field.kind);
    let null = matches!(operator, Operator::IsNull | Operator::IsNotNull);
    if !null && !applicable.contains(&operator) {
        let name = &field.name;
        let all = applicable.iter().copied();
        let all = all.chain([Operator::IsNull, Operator::IsNotNull]);
        let all: Vec<_> = all.map(symbol).collect();
        let problem = format!(
            "`{mark}` does not compare `{name}`, which is {}; use {}",
            described(&field.kind),
            all.join(" ")
        );
        return Err(Wrong::Operator(problem));
    }
    count(operator, texts.len()).map_err(Wrong::Values)?;
    let pattern = matches!(operator, Operator::Like | Operator::NotLike);
    let mut values = Vec::with_capacity(texts.len());
    for text in texts {
        let value = if pattern {
            like(text)
        } else {
            parse(resource, field, text)
        };
        values.push(value.map_err(Wrong::Values)?);
    }
    let sql = match operator {
        Operator::In | Operator::NotIn => {
            let not = if operator == Operator::NotIn {
                "NOT "
            } else {
                ""
            };
            format!("{not}IN ({})", vec!["?"; values.len()].join(", "))
        }
        Operator::IsNull => "IS NULL".to_owned(),
        Operator::IsNotNull => "IS NOT NULL".to_owned(),
        Operator::Like => r"LIKE ? ESCAPE '\'".to_owned(),
        Operator::NotLike => r"NOT LIKE ? ESCAPE '\'".to_owned(),
        Operator::Ne => "<> ?".to_owned(),
        _ => format!("{mark} ?"),
    };
    Ok(Comparison { sql, values })
}

fn count(operator: Operator, given: usize) -> Result<(), String> {
    let mark = symbol(operator);
    match operator {
        Operator::IsNull | Operator::IsNotNull if given > 0 => {
            Err(format!("`{mark}` takes no value, {given} given"))
        }
        Operator::IsNull | Operator::IsNotNull => Ok(()),
        Operator::In | Operator::NotIn if (1..=MAX_VALUES).contains(&given) => Ok(()),
        Operator::In | Operator::NotIn => Err(format!(
            "`{mark}` takes 1 to {MAX_VALUES} values, {given} given"
        )),
        _ if given == 1 => Ok(()),
        _ => Err(format!("`{mark}` takes one value, {given} given")),
    }
}

fn described(kind: &FieldKind) -> &'static str {
    match kind {
        FieldKind::Text => "text",
        FieldKind::Enum(_) => "one of a few names",
        FieldKind::Signed(_) | FieldKind::Unsigned(_) | FieldKind::Double => "a number",
        FieldKind::Bool => "true or false",
        FieldKind::Time => "a time",
        FieldKind::Bytes => "bytes",
    }
}

fn parse(resource: &ResourceType, field: &Field, text: &str) -> Result<Value, String> {
    let value = match &field.kind {
        FieldKind::Text => return plain(text),
        FieldKind::Enum(names) => {
            let name = names.number(text).and_then(|number| names.name(number));
            return name.map(Value::from).ok_or_else(|| {
                let all: Vec<_> = names.names().collect();
                format!(
                    "`{text}` is no value of `{}`; use {}",
                    field.name,
                    all.join(", ")
                )
            });
        }
        FieldKind::Signed(Width::W32) => integer(text, i32::MIN, i32::MAX),
        FieldKind::Signed(Width::W64) => integer(text, i64::MIN, i64::MAX),
        FieldKind::Unsigned(Width::W32) => integer(text, u32::MIN, u32::MAX),
        // Also in the database there is none above.
        FieldKind::Unsigned(Width::W64) => integer(text, 0, i64::MAX),
        FieldKind::Bool => match text {
            "true" => Ok(Value::Int(1)),
            "false" => Ok(Value::Int(0)),
            _ => Err("true or false".to_owned()),
        },
        FieldKind::Double => double(resource, field, text),
        FieldKind::Time => time(text),
        // No operator that takes a value compares it.
        FieldKind::Bytes => Err("no value".to_owned()),
    };
    value.map_err(|right| format!("`{text}` is not right for `{}`; write {right}", field.name))
}

fn plain(text: &str) -> Result<Value, String> {
    if text.contains('\0') {
        return Err("contains a zero character, which no text does".to_owned());
    }
    Ok(Value::from(text))
}

fn integer<T>(text: &str, least: T, most: T) -> Result<Value, String>
where
    T: FromStr + Display + PartialOrd + TryInto<i64>,
{
    let number = text.parse().ok().filter(|n| (&least..=&most).contains(&n));
    let number = number.and_then(|number: T| number.try_into().ok());
    number
        .map(Value::Int)
        .ok_or_else(|| format!("a whole number from {least} to {most}"))
}

fn double(resource: &ResourceType, field: &Field, text: &str) -> Result<Value, String> {
    let descriptor = resource.message.get_field(field.number);
    let float = descriptor.is_some_and(|d| d.kind() == Kind::Float);
    // 0.1 as a float and as a double are two numbers; the column holds what the field can.
    let number = if float {
        text.parse::<f32>().ok().map(f64::from)
    } else {
        text.parse().ok()
    };
    let number = number.filter(|number| !number.is_nan());
    number
        .map(Value::Double)
        .ok_or_else(|| "a number, such as 0.5".to_owned())
}

fn time(text: &str) -> Result<Value, String> {
    let right = || "a time as in 2026-01-31T23:59:59Z".to_owned();
    let time = Timestamp::from_str(text).map_err(|_| right())?;
    let micros = time.seconds.checked_mul(1_000_000);
    let micros = micros.and_then(|m| m.checked_add((time.nanos / 1_000).into()));
    micros.map(Value::Int).ok_or_else(right)
}

fn like(pattern: &str) -> Result<Value, String> {
    if pattern.len() > MAX_PATTERN {
        let length = pattern.len();
        return Err(format!(
            "the pattern has {length} bytes; at most {MAX_PATTERN}"
        ));
    }
    let escapes = pattern.chars().rev().take_while(|c| *c == '\\').count();
    if escapes % 2 == 1 {
        return Err(r"the pattern ends in a single `\`; write `\\` for the character".to_owned());
    }
    plain(pattern)
}
