//! How an operation ended, and how that is stored.

use std::sync::Arc;

use bytes::Bytes;
use cairn_proto::{
    fault::Fault,
    operation::v1alpha1::{Operation, OperationState},
};
use cairn_types::ErrorCode;
use prost::Message;
use tonic::{Code, Status};

use crate::{OperationError, time};

/// The committed end of an operation. Only a commit of this crate makes one.
#[derive(Debug, Clone)]
pub struct Ending {
    pub(crate) operation: Operation,
    /// The encoded result, or why there is none.
    pub(crate) outcome: Result<Bytes, Fault>,
}

impl Ending {
    /// Fills the end in.
    pub(crate) fn of(mut operation: Operation, outcome: Result<Bytes, Fault>) -> Self {
        let now = time::timestamp(time::now());
        operation.last_operation_time = Some(now);
        operation.end_time = Some(now);
        let state = match &outcome {
            Ok(_) => OperationState::Succeeded,
            Err(fault) => {
                operation.error_code = Some(fault.code.as_str().to_owned());
                operation.error_message = Some(fault.message.clone());
                if operation.cancel_requested && fault.code == ErrorCode::Cancelled {
                    OperationState::Cancelled
                } else {
                    OperationState::Failed
                }
            }
        };
        operation.set_state(state);
        Self { operation, outcome }
    }

    /// The end as a watcher sees it.
    #[must_use]
    pub fn operation(&self) -> &Operation {
        &self.operation
    }

    /// The result, or why there is none.
    pub(crate) fn result<R: Message + Default>(&self) -> Result<R, Fault> {
        let bytes = self.outcome.clone()?;
        R::decode(bytes).map_err(|_| {
            OperationError::Unreadable {
                operation: self.operation.uuid.clone(),
                what: "result",
            }
            .into()
        })
    }
}

/// The proof that an operation ended in its result, in one transaction with what it changed.
#[derive(Debug, Clone)]
pub struct Ended<R> {
    result: R,
    ending: Arc<Ending>,
}

impl<R: Message + Default> Ended<R> {
    /// Reads the result of a committed end.
    ///
    /// # Errors
    /// The fault that the operation ended with.
    pub fn of(ending: Arc<Ending>) -> Result<Self, Fault> {
        let result = ending.result()?;
        Ok(Self { result, ending })
    }

    /// The result.
    #[must_use]
    pub fn result(&self) -> &R {
        &self.result
    }

    pub(crate) fn into_ending(self) -> Arc<Ending> {
        self.ending
    }
}

/// A `google.rpc.Status`, of which only what the details do not repeat is read.
#[derive(Clone, PartialEq, Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
}

/// A fault as it is stored: as an encoded `google.rpc.Status` with all details.
#[must_use]
pub fn encode_fault(fault: &Fault) -> Vec<u8> {
    Status::from(fault.clone()).details().to_vec()
}

/// Reads a stored fault back.
///
/// # Errors
/// If the bytes are none.
pub fn decode_fault(bytes: &[u8]) -> Result<Fault, prost::DecodeError> {
    let RpcStatus { code, message } = RpcStatus::decode(bytes)?;
    let details = Bytes::copy_from_slice(bytes);
    let status = Status::with_details(Code::from_i32(code), message, details);
    Ok(Fault::from_status(&status))
}
