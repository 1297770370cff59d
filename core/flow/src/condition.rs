//! When a step is left out of a run, by what its flow says: a field of a message that is there, and
//! what it is.

use cairn_proto::meta::EnumNames;
use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, Value,
};

use crate::Bag;

/// A field and what it is, which decides whether a step runs.
#[derive(Debug, Clone)]
pub(crate) struct Condition {
    message: MessageDescriptor,
    /// From the message to the field; it has one at least.
    path: Vec<FieldDescriptor>,
    wanted: Wanted,
    /// Whether the step runs if it is so, or if it is not.
    runs: bool,
}

#[derive(Debug, Clone, PartialEq)]
enum Wanted {
    Set(bool),
    Is(Value),
}

/// What a field is compared with, as a file has it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(untagged)]
pub(crate) enum Literal {
    Bool(bool),
    Int(i64),
    Text(String),
}

impl Condition {
    /// That a field has a value, or has none. `runs` says whether the step runs then.
    ///
    /// # Errors
    /// What there is no such field for.
    pub(crate) fn set(
        pool: &DescriptorPool,
        (message, field): (&str, &str),
        set: bool,
        runs: bool,
    ) -> Result<Self, String> {
        let (message, path) = path(pool, message, field)?;
        Ok(Self {
            message,
            path,
            wanted: Wanted::Set(set),
            runs,
        })
    }

    /// That a field has this value; one that was never set has its default. `runs` says whether
    /// the step runs then.
    ///
    /// # Errors
    /// What there is no such field for, or no such value.
    pub(crate) fn is(
        pool: &DescriptorPool,
        (message, field): (&str, &str),
        value: &Literal,
        runs: bool,
    ) -> Result<Self, String> {
        let (message, path) = path(pool, message, field)?;
        let value = match path.last() {
            Some(field) => typed(field, value)?,
            None => return Err("names no field".to_owned()),
        };
        Ok(Self {
            message,
            path,
            wanted: Wanted::Is(value),
            runs,
        })
    }

    /// The full name of the message.
    pub(crate) fn message(&self) -> &str {
        self.message.full_name()
    }

    /// The step is left out of a run that has these messages.
    pub(crate) fn leaves_out(&self, bag: &Bag) -> bool {
        self.holds(bag) != self.runs
    }

    fn holds(&self, bag: &Bag) -> bool {
        let unset = self.wanted == Wanted::Set(false);
        let bytes = bag.encoded(self.message.full_name());
        let decode = |bytes| DynamicMessage::decode(self.message.clone(), bytes).ok();
        let Some(mut message) = bytes.and_then(decode) else {
            return unset;
        };
        let Some((last, before)) = self.path.split_last() else {
            return unset;
        };
        for field in before {
            let inner = match message.has_field(field) {
                true => message.get_field(field).as_message().cloned(),
                false => None,
            };
            match inner {
                Some(inner) => message = inner,
                None => return unset,
            }
        }
        match &self.wanted {
            Wanted::Set(set) => message.has_field(last) == *set,
            Wanted::Is(value) => *message.get_field(last) == *value,
        }
    }
}

fn path(
    pool: &DescriptorPool,
    message: &str,
    field: &str,
) -> Result<(MessageDescriptor, Vec<FieldDescriptor>), String> {
    let first = pool.get_message_by_name(message);
    let first =
        first.ok_or_else(|| format!("there is no message `{message}`; give its full name"))?;
    let (mut at, mut path) = (Some(first.clone()), Vec::new());
    for name in field.split('.') {
        let Some(message) = at else {
            return Err(format!(
                "`{field}` goes on after a field that is no message"
            ));
        };
        let found = message.get_field_by_name(name).ok_or_else(|| {
            let known: Vec<_> = message.fields().map(|it| it.name().to_owned()).collect();
            let (message, known) = (message.name(), known.join(", "));
            format!("{message} has no field `{name}`; it has {known}")
        })?;
        at = match found.kind() {
            Kind::Message(inner) if !found.is_list() && !found.is_map() => Some(inner),
            _ => None,
        };
        path.push(found);
    }
    Ok((first, path))
}

/// The value as the field has it.
fn typed(field: &FieldDescriptor, value: &Literal) -> Result<Value, String> {
    let name = field.name();
    if field.is_list() || field.is_map() {
        return Err(format!("`{name}` has many values; use `set`"));
    }
    let wrong = |right: &str| format!("`{name}` is {right}, and `is` is not");
    let integer = || match value {
        Literal::Int(int) => Ok(*int),
        _ => Err(wrong("an integer")),
    };
    let fits = |value: Option<Value>| value.ok_or_else(|| wrong("smaller, or has no sign"));
    match (field.kind(), value) {
        (Kind::String, Literal::Text(text)) => Ok(Value::String(text.clone())),
        (Kind::String, _) => Err(wrong("a text")),
        (Kind::Bool, Literal::Bool(bool)) => Ok(Value::Bool(*bool)),
        (Kind::Bool, _) => Err(wrong("true or false")),
        (Kind::Int32 | Kind::Sint32 | Kind::Sfixed32, _) => {
            fits(i32::try_from(integer()?).ok().map(Value::I32))
        }
        (Kind::Int64 | Kind::Sint64 | Kind::Sfixed64, _) => Ok(Value::I64(integer()?)),
        (Kind::Uint32 | Kind::Fixed32, _) => fits(u32::try_from(integer()?).ok().map(Value::U32)),
        (Kind::Uint64 | Kind::Fixed64, _) => fits(u64::try_from(integer()?).ok().map(Value::U64)),
        (Kind::Enum(descriptor), _) => {
            let names = EnumNames::of(&descriptor);
            let number = match value {
                Literal::Text(text) => names.number(text),
                _ => None,
            };
            let number = number.ok_or_else(|| {
                let known: Vec<_> = names.names().collect();
                wrong(&format!("one of {}", known.join(", ")))
            })?;
            Ok(Value::EnumNumber(number))
        }
        _ => Err(format!("`{name}` can only be `set` or not")),
    }
}
