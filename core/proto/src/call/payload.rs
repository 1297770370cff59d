//! A message on its way: typed inside a process, encoded between processes.

use std::{any::Any, fmt};

use bytes::{Bytes, BytesMut};
use prost::{
    Message,
    encoding::{WireType, decode_key, decode_varint, encode_key, encode_varint, skip_field},
};
use tonic::Status;

/// A request or an answer.
pub enum Payload {
    /// A message of some type that both ends know.
    Typed(Box<dyn TypedMessage>),
    /// Its encoding.
    Encoded(Bytes),
}

/// Any message, kept so that it can become itself again, or bytes.
pub trait TypedMessage: Send {
    /// The message as something to downcast.
    fn into_any(self: Box<Self>) -> Box<dyn Any>;
    /// Its encoding.
    fn encoded(&self) -> Bytes;
}

impl<M: Message + 'static> TypedMessage for M {
    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }

    fn encoded(&self) -> Bytes {
        self.encode_to_vec().into()
    }
}

impl Payload {
    /// A typed message.
    pub fn typed<M: Message + 'static>(message: M) -> Self {
        Self::Typed(Box::new(message))
    }

    /// The message, moved or decoded.
    ///
    /// # Errors
    /// `Internal` if it is a message of another type, `InvalidArgument` if the bytes are not
    /// one of this type.
    pub fn into_message<M: Message + Default + 'static>(self) -> Result<M, Status> {
        match self {
            Self::Typed(message) => message
                .into_any()
                .downcast::<M>()
                .map(|message| *message)
                .map_err(|_| Status::internal("a message of another type than the method's")),
            Self::Encoded(bytes) => M::decode(bytes).map_err(|e| {
                Status::invalid_argument(format!("the request cannot be decoded: {e}"))
            }),
        }
    }

    /// Its encoding.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        match self {
            Self::Typed(message) => message.encoded(),
            Self::Encoded(bytes) => bytes,
        }
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Typed(_) => f.write_str("Payload::Typed"),
            Self::Encoded(bytes) => write!(f, "Payload::Encoded({} bytes)", bytes.len()),
        }
    }
}

/// A request whose key cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The bytes are not a protobuf message.
    #[error("the request cannot be decoded")]
    Malformed(#[source] prost::DecodeError),
    /// The key's field is not text in UTF-8.
    #[error("field {0} of the request, its key, is not text in UTF-8")]
    NotText(u32),
}

/// The string in field `number` of an encoded message, without decoding the rest; the last one
/// counts, as in any protobuf parser.
///
/// # Errors
/// [`KeyError`], as its variants say.
pub fn key_encoded(message: &Bytes, number: u32) -> Result<Option<String>, KeyError> {
    let mut rest = message.clone();
    let mut key = None;
    while !rest.is_empty() {
        let (tag, wire) = decode_key(&mut rest).map_err(KeyError::Malformed)?;
        if tag != number {
            skip_field(wire, tag, &mut rest, Default::default()).map_err(KeyError::Malformed)?;
            continue;
        }
        if wire != WireType::LengthDelimited {
            return Err(KeyError::NotText(number));
        }
        let length = decode_varint(&mut rest).map_err(KeyError::Malformed)?;
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length > rest.len() {
            return Err(KeyError::NotText(number));
        }
        let text = rest.split_to(length);
        key = Some(String::from_utf8(text.to_vec()).map_err(|_| KeyError::NotText(number))?);
    }
    Ok(key)
}

/// The message with `key` in field `number`: appended, since the last value of a field counts.
#[must_use]
pub fn assign_key_encoded(message: &Bytes, number: u32, key: &str) -> Bytes {
    let mut out = BytesMut::with_capacity(message.len() + key.len() + 8);
    out.extend_from_slice(message);
    encode_key(number, WireType::LengthDelimited, &mut out);
    encode_varint(key.len() as u64, &mut out);
    out.extend_from_slice(key.as_bytes());
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compute::v1alpha1::CreateZoneRequest;

    fn request(uuid: &str) -> Bytes {
        let request = CreateZoneRequest {
            uuid: uuid.into(),
            name: "east".into(),
            ..Default::default()
        };
        request.encode_to_vec().into()
    }

    #[test]
    fn the_key_is_read_and_assigned_without_decoding() {
        assert_eq!(key_encoded(&request("k"), 1).unwrap().as_deref(), Some("k"));
        assert_eq!(key_encoded(&request(""), 1).unwrap(), None);
        let assigned = assign_key_encoded(&request("k"), 1, "new");
        assert_eq!(key_encoded(&assigned, 1).unwrap().as_deref(), Some("new"));
        let decoded = CreateZoneRequest::decode(assigned).unwrap();
        assert_eq!(
            (decoded.uuid.as_str(), decoded.name.as_str()),
            ("new", "east")
        );
    }

    #[test]
    fn what_is_no_message_is_refused() {
        for bad in [
            &[0xff_u8, 0xff, 0xff][..],
            &[0x0a, 0x05, b'a'],
            &[0x08, 0x01],
            &[0x0a, 0x01, 0xff],
        ] {
            assert!(
                key_encoded(&Bytes::copy_from_slice(bad), 1).is_err(),
                "{bad:?}"
            );
        }
    }
}
