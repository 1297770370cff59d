//! Rows from messages and messages from rows, by the numbers and kinds in the descriptor.
//!
//! Both ways go through the encoded message, so that a generated type and a plugin's message that
//! is known only at run time take the same path.

use bytes::{Buf as _, Bytes};
use cairn_proto::meta::{Field, FieldKind, ResourceType, Width};
use prost::{
    DecodeError,
    encoding::{self, DecodeContext, WireType},
};
use prost_reflect::Kind;
use prost_types::Timestamp;

use crate::{Row, StoreError, Value};

const MICROS: i64 = 1_000_000;

/// The values of an encoded message, in the order of the resource's fields.
pub(crate) fn values(resource: &ResourceType, message: &[u8]) -> Result<Vec<Value>, StoreError> {
    let decode = |cause| StoreError::Decode {
        resource: resource.name.clone(),
        cause,
    };
    let mut found: Vec<Option<Value>> = vec![None; resource.fields.len()];
    let mut buf = message;
    while buf.has_remaining() {
        let (number, wire) = encoding::decode_key(&mut buf).map_err(decode)?;
        let place = resource.fields.iter().position(|f| f.number == number);
        let Some((field, slot)) = place.map(|i| (&resource.fields[i], &mut found[i])) else {
            return Err(StoreError::Field {
                resource: resource.name.clone(),
                field: format!("number {number}"),
                problem: "is unknown here and would be lost; a newer program wrote it".to_owned(),
            });
        };
        let value = value(resource, field, wire, &mut buf).map_err(decode)?;
        *slot = Some(value.map_err(|problem| field_error(resource, field, problem))?);
    }
    let fields = resource.fields.iter().zip(found);
    let values = fields.map(|(field, value)| value.unwrap_or_else(|| absent(field)));
    Ok(values.collect())
}

/// What a column holds when the message does not have the field.
fn absent(field: &Field) -> Value {
    if field.nullable {
        return Value::Null;
    }
    match &field.kind {
        FieldKind::Text => Value::Text(String::new()),
        FieldKind::Enum(names) => Value::Text(names.name(0).unwrap_or_default().to_owned()),
        FieldKind::Signed(_) | FieldKind::Unsigned(_) | FieldKind::Bool | FieldKind::Time => {
            Value::Int(0)
        }
        FieldKind::Double => Value::Double(0.0),
        FieldKind::Bytes => Value::Bytes(Bytes::new()),
    }
}

/// One field's value from the wire; the inner error says why the database cannot hold it.
fn value(
    resource: &ResourceType,
    field: &Field,
    wire: WireType,
    buf: &mut &[u8],
) -> Result<Result<Value, String>, DecodeError> {
    macro_rules! read {
        ($codec:ident, $type:ty) => {{
            let mut value = <$type>::default();
            encoding::$codec::merge(wire, &mut value, buf, DecodeContext::default())?;
            value
        }};
    }
    let value = match &field.kind {
        FieldKind::Text => text(read!(string, String)),
        FieldKind::Enum(names) => {
            let number = read!(int32, i32);
            match names.name(number) {
                Some(name) => Ok(Value::Text(name.to_owned())),
                None => Err(format!("is {number}, which is no value of its enum")),
            }
        }
        FieldKind::Signed(Width::W32) => Ok(Value::Int(read!(int32, i32).into())),
        FieldKind::Signed(Width::W64) => Ok(Value::Int(read!(int64, i64))),
        FieldKind::Unsigned(Width::W32) => Ok(Value::Int(read!(uint32, u32).into())),
        FieldKind::Unsigned(Width::W64) => {
            let number = read!(uint64, u64);
            i64::try_from(number)
                .map(Value::Int)
                .map_err(|_| format!("is {number}; the database holds at most {}", i64::MAX))
        }
        FieldKind::Bool => Ok(Value::Int(read!(bool, bool).into())),
        FieldKind::Double if is_float(resource, field) => double(read!(float, f32).into()),
        FieldKind::Double => double(read!(double, f64)),
        FieldKind::Time => micros(&read!(message, Timestamp)),
        FieldKind::Bytes => Ok(Value::Bytes(read!(bytes, Bytes))),
    };
    Ok(value.and_then(|value| match (field.secret, value) {
        (true, Value::Text(text)) if !text.is_empty() => Err(CLEAR_SECRET.to_owned()),
        (true, Value::Bytes(bytes)) if !bytes.is_empty() => Err(CLEAR_SECRET.to_owned()),
        (_, value) => Ok(value),
    }))
}

const CLEAR_SECRET: &str = "is secret and would be stored in clear";

fn text(text: String) -> Result<Value, String> {
    // PostgreSQL refuses it; what one database takes the other must take.
    if text.contains('\0') {
        return Err("contains a zero character".to_owned());
    }
    Ok(Value::Text(text))
}

fn double(number: f64) -> Result<Value, String> {
    // SQLite would store NULL.
    if number.is_nan() {
        return Err("is not a number".to_owned());
    }
    Ok(Value::Double(number))
}

/// Rounds down to the microsecond.
fn micros(time: &Timestamp) -> Result<Value, String> {
    let micros = time.seconds.checked_mul(MICROS);
    let micros = micros.and_then(|m| m.checked_add((time.nanos / 1000).into()));
    let micros = micros.filter(|_| (0..1_000_000_000).contains(&time.nanos));
    micros
        .map(Value::Int)
        .ok_or_else(|| format!("is no time: {} s and {} ns", time.seconds, time.nanos))
}

/// A row's columns, which hold these fields in this order, as an encoded message. A field that
/// is not among them is absent in it.
///
/// # Errors
/// If a column does not hold what its field wants.
pub fn encode_row<'f>(
    resource: &ResourceType,
    fields: impl IntoIterator<Item = &'f Field>,
    row: &Row,
) -> Result<Bytes, StoreError> {
    let mut out = Vec::with_capacity(256);
    for (column, field) in fields.into_iter().enumerate() {
        encode(resource, field, row, column, &mut out)?;
    }
    Ok(out.into())
}

fn encode(
    resource: &ResourceType,
    field: &Field,
    row: &Row,
    column: usize,
    out: &mut Vec<u8>,
) -> Result<(), StoreError> {
    if field.nullable && row.values().get(column) == Some(&Value::Null) {
        return Ok(());
    }
    let broken = || {
        let problem = format!("has {:?} in the database", row.values().get(column));
        field_error(resource, field, problem)
    };
    let number = field.number;
    // A field without presence is not encoded when it has its default, as prost does it.
    macro_rules! put {
        ($codec:ident, $value:expr) => {{
            let value = $value;
            if field.nullable || !is_default(&value) {
                encoding::$codec::encode(number, &value, out);
            }
        }};
    }
    match &field.kind {
        FieldKind::Text => put_bytes(field, row.text_ref(column)?.as_bytes(), out),
        FieldKind::Enum(names) => {
            put!(
                int32,
                names.number(row.text_ref(column)?).ok_or_else(broken)?
            );
        }
        FieldKind::Signed(Width::W32) => {
            put!(
                int32,
                i32::try_from(row.int(column)?).map_err(|_| broken())?
            );
        }
        FieldKind::Signed(Width::W64) => put!(int64, row.int(column)?),
        FieldKind::Unsigned(Width::W32) => {
            put!(
                uint32,
                u32::try_from(row.int(column)?).map_err(|_| broken())?
            );
        }
        FieldKind::Unsigned(Width::W64) => {
            put!(
                uint64,
                u64::try_from(row.int(column)?).map_err(|_| broken())?
            );
        }
        FieldKind::Bool => put!(bool, row.bool(column)?),
        FieldKind::Double if is_float(resource, field) => {
            #[expect(
                clippy::cast_possible_truncation,
                reason = "it was written from a float, which a double holds exactly"
            )]
            let value = row.double(column)? as f32;
            put!(float, value);
        }
        FieldKind::Double => put!(double, row.double(column)?),
        FieldKind::Time => {
            let micros = row.int(column)?;
            let nanos = i32::try_from(micros.rem_euclid(MICROS) * 1000).map_err(|_| broken())?;
            let seconds = micros.div_euclid(MICROS);
            encoding::message::encode(number, &Timestamp { seconds, nanos }, out);
        }
        FieldKind::Bytes => put_bytes(field, row.bytes_ref(column)?, out),
    }
    Ok(())
}

/// A text or bytes, which are the same on the wire, without a copy in between.
fn put_bytes(field: &Field, bytes: &[u8], out: &mut Vec<u8>) {
    if field.nullable || !bytes.is_empty() {
        encoding::encode_key(field.number, WireType::LengthDelimited, out);
        encoding::encode_varint(bytes.len() as u64, out);
        out.extend_from_slice(bytes);
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// The two have one kind of column, but not one form on the wire.
fn is_float(resource: &ResourceType, field: &Field) -> bool {
    let descriptor = resource.message.get_field(field.number);
    descriptor.is_some_and(|d| d.kind() == Kind::Float)
}

fn field_error(resource: &ResourceType, field: &Field, problem: String) -> StoreError {
    StoreError::Field {
        resource: resource.name.clone(),
        field: field.name.clone(),
        problem,
    }
}
