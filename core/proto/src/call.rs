//! A call of one service to another, before anybody knows where the other is.
//!
//! Generated clients make a [`Call`] and hand it to the [`Mesh`]; the mesh hands it to the
//! [`Dispatch`] of the service, in this process or, encoded, in another one. A message stays
//! typed as long as it stays in the process.

mod context;
mod payload;

use std::{fmt, future::Future, pin::Pin, sync::Arc};

use bytes::Bytes;
use futures::{StreamExt as _, stream::BoxStream};
use prost::Message;
use tonic::Status;

use crate::fault::Fault;

pub use context::Context;
pub use payload::{KeyError, Payload, assign_key_encoded, key_encoded};

/// A future on the heap that may move between threads.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send + 'static>>;

/// One rpc, as its proto declares it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Method {
    /// `cairn.compute.v1alpha1.ZoneService`
    pub service: &'static str,
    /// `CreateZone`
    pub name: &'static str,
    /// `/cairn.compute.v1alpha1.ZoneService/CreateZone`
    pub path: &'static str,
    /// The answer is a stream.
    pub streaming: bool,
    /// Only for services, as an extension point is; the public listener does not serve it.
    pub internal: bool,
    /// The request's field that the call is routed by.
    pub key: Option<KeyField>,
}

/// Where the routing key of a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyField {
    /// The number of a string field.
    pub number: u32,
    /// An empty one is given a new uuid before the call is routed: the request creates.
    pub assigned: bool,
}

/// A request, which belongs to exactly one rpc; implemented by generated code.
pub trait Rpc: Message + Default + Clone + 'static {
    /// What it is answered with, or each message of the stream.
    type Response: Message + Default + 'static;
    /// Its rpc.
    const METHOD: &'static Method;
}

/// A call on its way.
#[derive(Debug)]
pub struct Call {
    /// What is called.
    pub method: &'static Method,
    /// The bytes that decide the owner; none: any node that runs the service.
    pub key: Option<String>,
    /// Who of those that implement an extension point is called.
    pub implementer: Option<Arc<str>>,
    /// For whom, until when, on behalf of what.
    pub context: Context,
    /// The request.
    pub payload: Payload,
}

impl Call {
    /// A call with a typed request, in the context of the code that makes it.
    pub fn new<M: Message + 'static>(
        method: &'static Method,
        key: Option<String>,
        request: M,
    ) -> Self {
        Self {
            method,
            key,
            implementer: None,
            context: Context::current(),
            payload: Payload::typed(request),
        }
    }

    /// A call with an encoded request: from the wire. Fills an assigned key in.
    ///
    /// # Errors
    /// [`KeyError`] if the bytes are no message, or the key is not text.
    pub fn from_bytes(
        method: &'static Method,
        context: Context,
        bytes: Bytes,
    ) -> Result<Self, KeyError> {
        let (key, bytes) = match method.key {
            None => (None, bytes),
            Some(field) => match key_encoded(&bytes, field.number)? {
                Some(key) if !key.is_empty() => (Some(key), bytes),
                _ if field.assigned => {
                    let uuid = context.new_key();
                    let bytes = assign_key_encoded(&bytes, field.number, &uuid);
                    (Some(uuid), bytes)
                }
                // An empty key names nothing: any node may say so.
                _ => (None, bytes),
            },
        };
        Ok(Self {
            method,
            key,
            implementer: None,
            context,
            payload: Payload::Encoded(bytes),
        })
    }
}

/// What a service answers.
pub enum Answer {
    /// One message.
    One(Payload),
    /// A stream of messages.
    Stream(BoxStream<'static, Result<Payload, Status>>),
}

impl Answer {
    /// The answer of a unary rpc.
    pub fn one<M: Message + 'static>(message: M) -> Self {
        Self::One(Payload::typed(message))
    }

    /// The answer of a streaming rpc.
    pub fn stream<M, S>(stream: S) -> Self
    where
        M: Message + 'static,
        S: futures::Stream<Item = Result<M, Status>> + Send + 'static,
    {
        Self::Stream(stream.map(|item| item.map(Payload::typed)).boxed())
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::One(_) => "Answer::One",
            Self::Stream(_) => "Answer::Stream",
        })
    }
}

/// Hands calls to one service's implementation. Generated for every service.
pub trait Dispatch: Send + Sync + 'static {
    /// What the service offers.
    fn methods(&self) -> &'static [Method];

    /// Runs one call.
    fn dispatch(
        &self,
        method: &'static Method,
        payload: Payload,
    ) -> BoxFuture<Result<Answer, Status>>;
}

/// An implementation of an extension point: a service of a package `….ext.…`.
pub struct Extension {
    /// Its name, by which it is called, and in whose order: `flat-dhcp`.
    pub implementer: &'static str,
    /// The implementation.
    pub dispatch: Arc<dyn Dispatch>,
}

/// Takes a call to its service. Implemented once, by the mesh.
pub trait Caller: Send + Sync + 'static {
    /// Makes the call.
    fn call(&self, call: Call) -> BoxFuture<Result<Answer, Status>>;

    /// Who implements an extension point, in the order of their names. From outside of the cloud
    /// nobody is seen to.
    fn implementers(&self, _service: &str) -> Vec<Arc<str>> {
        Vec::new()
    }

    /// The rpc of that path, `/cairn.compute.v1alpha1.ZoneService/CreateZone`, if its service runs
    /// somewhere; for those who know what they call at run time only.
    fn method(&self, _path: &str) -> Option<&'static Method> {
        None
    }
}

/// The way to every service of the cloud; cheap to clone.
#[derive(Clone)]
pub struct Mesh(Arc<dyn Caller>);

impl Mesh {
    /// A handle to `caller`.
    pub fn new(caller: impl Caller) -> Self {
        Self(Arc::new(caller))
    }

    /// Makes a call. Generated clients do this for you.
    ///
    /// # Errors
    /// The status that the service, or a layer on the way to it, answers.
    pub fn call(&self, call: Call) -> BoxFuture<Result<Answer, Status>> {
        self.0.call(call)
    }

    /// Who implements an extension point, in the order of their names.
    #[must_use]
    pub fn implementers(&self, service: &str) -> Vec<Arc<str>> {
        self.0.implementers(service)
    }

    /// The rpc of that path, `/cairn.compute.v1alpha1.ZoneService/CreateZone`, if its service runs
    /// somewhere; for those who know what they call at run time only.
    #[must_use]
    pub fn method(&self, path: &str) -> Option<&'static Method> {
        self.0.method(path)
    }
}

impl fmt::Debug for Mesh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mesh")
    }
}

/// Fills an empty key with a new uuid; for generated code.
pub fn assign_key(key: &mut String) {
    if key.is_empty() {
        *key = Context::current().new_key();
    }
}

/// Calls every implementer of an extension point, one after the other; for generated code.
///
/// # Errors
/// That of the first that fails, with its name.
pub async fn each<M: Rpc>(mesh: &Mesh, request: M) -> Result<Vec<M::Response>, Status> {
    let mut answers = Vec::new();
    for implementer in mesh.implementers(M::METHOD.service) {
        let mut call = Call::new(M::METHOD, None, request.clone());
        call.implementer = Some(Arc::clone(&implementer));
        let answer = mesh.call(call).await.and_then(typed::<M::Response>);
        answers.push(answer.map_err(|status| {
            let mut fault = Fault::from_status(&status);
            fault.message = format!("{implementer}: {}", fault.message);
            fault
        })?);
    }
    Ok(answers)
}

/// The typed answer of a unary rpc; for generated code.
///
/// # Errors
/// `Internal` if the service answered something else.
pub fn typed<M: Message + Default + 'static>(answer: Answer) -> Result<M, Status> {
    match answer {
        Answer::One(payload) => payload.into_message(),
        Answer::Stream(_) => Err(Status::internal("a stream in answer to a unary call")),
    }
}

/// The typed answer of a streaming rpc; for generated code.
///
/// # Errors
/// `Internal` if the service answered something else.
pub fn typed_stream<M: Message + Default + 'static>(
    answer: Answer,
) -> Result<BoxStream<'static, Result<M, Status>>, Status> {
    match answer {
        Answer::Stream(stream) => Ok(stream.map(|item| item?.into_message()).boxed()),
        Answer::One(_) => Err(Status::internal(
            "one message in answer to a streaming call",
        )),
    }
}
