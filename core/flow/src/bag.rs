//! What the steps of a run hand on: one message of each type, by its full name.

use std::collections::BTreeMap;

use prost::{Message, Name};

/// Messages by their full names. A later one replaces an earlier one of its type.
#[derive(Clone, PartialEq, Message)]
pub struct Bag {
    #[prost(btree_map = "string, bytes", tag = "1")]
    messages: BTreeMap<String, Vec<u8>>,
}

impl Bag {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// One with `message`.
    #[must_use]
    pub fn of<M: Name>(message: &M) -> Self {
        Self::new().with(message)
    }

    /// The same with `message`.
    #[must_use]
    pub fn with<M: Name>(mut self, message: &M) -> Self {
        self.messages
            .insert(M::full_name(), message.encode_to_vec());
        self
    }

    /// The message of that type. `None` if there is none or it cannot be decoded.
    #[must_use]
    pub fn get<M: Name + Default>(&self) -> Option<M> {
        let bytes = self.messages.get(&M::full_name())?;
        M::decode(bytes.as_slice()).ok()
    }

    /// There is a message of that name.
    #[must_use]
    pub fn holds(&self, full_name: &str) -> bool {
        self.messages.contains_key(full_name)
    }

    /// The message of that name, encoded.
    pub(crate) fn encoded(&self, full_name: &str) -> Option<&[u8]> {
        self.messages.get(full_name).map(Vec::as_slice)
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.messages.keys().map(String::as_str)
    }

    pub(crate) fn take(&mut self, more: Self) {
        self.messages.extend(more.messages);
    }
}
