//! Values and rows, independent of the database that holds them.

use bytes::Bytes;
use cairn_types::{AccountUuid, ClusterUuid, HostUuid, OperationUuid, TaskUuid, Uuid, ZoneUuid};

use crate::StoreError;

/// A value of a column, or one bound to a statement.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// No value.
    Null,
    /// TEXT
    Text(String),
    /// BIGINT
    Int(i64),
    /// DOUBLE PRECISION
    Double(f64),
    /// BYTEA
    Bytes(Bytes),
}

impl Value {
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Text(_) => "text",
            Self::Int(_) => "an integer",
            Self::Double(_) => "a double",
            Self::Bytes(_) => "bytes",
        }
    }
}

macro_rules! from {
    ($($from:ty, $value:ident => $to:expr;)*) => {$(
        impl From<$from> for Value {
            fn from($value: $from) -> Self {
                $to
            }
        }
    )*};
}

from! {
    &str, v => Self::Text(v.to_owned());
    String, v => Self::Text(v);
    &String, v => Self::Text(v.clone());
    i64, v => Self::Int(v);
    i32, v => Self::Int(v.into());
    u32, v => Self::Int(v.into());
    bool, v => Self::Int(v.into());
    f64, v => Self::Double(v);
    Bytes, v => Self::Bytes(v);
    Vec<u8>, v => Self::Bytes(v.into());
    Uuid, v => Self::Text(v.to_string());
    AccountUuid, v => Self::Text(v.to_string());
    ZoneUuid, v => Self::Text(v.to_string());
    ClusterUuid, v => Self::Text(v.to_string());
    HostUuid, v => Self::Text(v.to_string());
    OperationUuid, v => Self::Text(v.to_string());
    TaskUuid, v => Self::Text(v.to_string());
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// A row of a result, read by the place of its columns, from 0.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Row(Vec<Value>);

macro_rules! readers {
    ($($name:ident, $opt:ident, $variant:ident => $type:ty, $doc:literal;)*) => {$(
        #[doc = $doc]
        ///
        /// # Errors
        /// [`StoreError::Column`] if the column is something else.
        pub fn $name(&self, column: usize) -> Result<$type, StoreError> {
            match self.0.get(column) {
                Some(Value::$variant(value)) => Ok(value.to_owned()),
                other => Err(mismatch(column, $doc, other)),
            }
        }

        #[doc = concat!($doc, " or null")]
        ///
        /// # Errors
        /// [`StoreError::Column`] if the column is something else.
        pub fn $opt(&self, column: usize) -> Result<Option<$type>, StoreError> {
            match self.0.get(column) {
                Some(Value::Null) => Ok(None),
                _ => self.$name(column).map(Some),
            }
        }
    )*};
}

impl Row {
    pub(crate) fn new(values: Vec<Value>) -> Self {
        Self(values)
    }

    /// Its values, made so many: those that are there stay.
    pub(crate) fn of_columns(&mut self, columns: usize) -> &mut [Value] {
        self.0.resize(columns, Value::Null);
        &mut self.0
    }

    readers! {
        text, opt_text, Text => String, "text";
        int, opt_int, Int => i64, "an integer";
        double, opt_double, Double => f64, "a double";
        bytes, opt_bytes, Bytes => Bytes, "bytes";
    }

    /// Takes a text out of the row, which has an empty one there afterwards.
    ///
    /// # Errors
    /// [`StoreError::Column`] if the column is something else.
    pub fn take_text(&mut self, column: usize) -> Result<String, StoreError> {
        match self.0.get_mut(column) {
            Some(Value::Text(text)) => Ok(std::mem::take(text)),
            other => Err(mismatch(column, "text", other.as_deref())),
        }
    }

    /// A text, where it is.
    ///
    /// # Errors
    /// [`StoreError::Column`] if the column is something else.
    pub fn text_ref(&self, column: usize) -> Result<&str, StoreError> {
        match self.0.get(column) {
            Some(Value::Text(text)) => Ok(text),
            other => Err(mismatch(column, "text", other)),
        }
    }

    /// As [`text_ref`](Self::text_ref), or null.
    ///
    /// # Errors
    /// [`StoreError::Column`] if the column is something else.
    pub fn opt_text_ref(&self, column: usize) -> Result<Option<&str>, StoreError> {
        match self.0.get(column) {
            Some(Value::Null) => Ok(None),
            _ => self.text_ref(column).map(Some),
        }
    }

    pub(crate) fn bytes_ref(&self, column: usize) -> Result<&[u8], StoreError> {
        match self.0.get(column) {
            Some(Value::Bytes(bytes)) => Ok(bytes),
            other => Err(mismatch(column, "bytes", other)),
        }
    }

    /// A boolean, which is stored as 0 or 1.
    ///
    /// # Errors
    /// [`StoreError::Column`] if the column is no integer.
    pub fn bool(&self, column: usize) -> Result<bool, StoreError> {
        self.int(column).map(|value| value != 0)
    }

    /// All values, in the order of the columns.
    #[must_use]
    pub fn values(&self) -> &[Value] {
        &self.0
    }
}

fn mismatch(column: usize, expected: &'static str, found: Option<&Value>) -> StoreError {
    StoreError::Column {
        column,
        expected,
        found: found.map_or("absent", Value::kind),
    }
}
