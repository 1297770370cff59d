//! Calls to the server in messages that are known only at run time.

use std::{error::Error as _, str::FromStr as _, time::Duration};

use bytes::{Buf as _, BufMut as _};
use http::uri::PathAndQuery;
use prost::Message as _;
use prost_reflect::{DynamicMessage, MessageDescriptor, MethodDescriptor};
use tonic::{
    Code, Request, Status, Streaming,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    metadata::{Ascii, MetadataValue},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint},
};
use tonic_types::StatusExt as _;

use crate::{credential::Credential, error::CliError};

/// A query may answer ten thousand rows.
const LARGEST_ANSWER: usize = 256 << 20;
/// A peer that does not answer pings is gone; without them a wait would outlive it.
const PING_EVERY: Duration = Duration::from_secs(20);

/// A channel that connects again by itself, and who calls on it.
#[derive(Debug, Clone)]
pub(crate) struct Connection {
    pub(crate) channel: Channel,
    authorization: MetadataValue<Ascii>,
}

impl Connection {
    /// Connects, so that an unreachable server is known before anything is asked of it.
    pub(crate) async fn open(
        credential: &Credential,
        patience: Duration,
    ) -> Result<Self, CliError> {
        let address = credential.endpoint.clone();
        let problem = |problem: String| CliError::Endpoint {
            endpoint: address.clone(),
            problem,
        };
        if !address.starts_with("https://") {
            return Err(problem("it does not begin with https://".to_owned()));
        }
        let ca = Certificate::from_pem(&credential.ca_certificate);
        let endpoint = Endpoint::from_shared(address.clone())
            .and_then(|e| e.tls_config(ClientTlsConfig::new().ca_certificate(ca)))
            .map_err(|cause| problem(cairn_types::chain(&cause)))?
            .connect_timeout(patience)
            .http2_keep_alive_interval(PING_EVERY)
            .keep_alive_while_idle(true);
        let authorization = format!("Bearer {}", credential.token).parse();
        let mut authorization: MetadataValue<Ascii> = authorization.map_err(|_| CliError::Token)?;
        authorization.set_sensitive(true);
        let channel = endpoint
            .connect()
            .await
            .map_err(|cause| CliError::Connect {
                endpoint: address.clone(),
                cause,
            })?;
        Ok(Self {
            channel,
            authorization,
        })
    }

    /// A request in the caller's name.
    pub(crate) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request
            .metadata_mut()
            .insert("authorization", self.authorization.clone());
        request
    }

    /// A call with one answer.
    pub(crate) async fn unary(
        &self,
        method: &MethodDescriptor,
        message: DynamicMessage,
        key: Option<&MetadataValue<Ascii>>,
    ) -> Result<DynamicMessage, Status> {
        let (mut grpc, request, path) = self.prepare(method, message, key).await?;
        let codec = DynamicCodec::decoding(method.output());
        Ok(grpc.unary(request, path, codec).await?.into_inner())
    }

    /// A call with a stream of answers.
    pub(crate) async fn stream(
        &self,
        method: &MethodDescriptor,
        message: DynamicMessage,
        key: Option<&MetadataValue<Ascii>>,
    ) -> Result<Streaming<DynamicMessage>, Status> {
        let (mut grpc, request, path) = self.prepare(method, message, key).await?;
        let codec = DynamicCodec::decoding(method.output());
        let answer = grpc.server_streaming(request, path, codec).await?;
        Ok(answer.into_inner())
    }

    async fn prepare(
        &self,
        method: &MethodDescriptor,
        message: DynamicMessage,
        key: Option<&MetadataValue<Ascii>>,
    ) -> Result<(Grpc<Channel>, Request<DynamicMessage>, PathAndQuery), Status> {
        let mut request = self.request(message);
        if let Some(key) = key {
            request
                .metadata_mut()
                .insert("idempotency-key", key.clone());
        }
        let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
        let path = PathAndQuery::from_str(&path)
            .map_err(|cause| Status::internal(format!("{path} is no path: {cause}")))?;
        let mut grpc = Grpc::new(self.channel.clone()).max_decoding_message_size(LARGEST_ANSWER);
        grpc.ready()
            .await
            .map_err(|cause| Status::from_error(cause.into()))?;
        Ok((grpc, request, path))
    }
}

/// Whether the call did not end but was cut, so that its outcome is not known. The server's own
/// `UNAVAILABLE` is an outcome: it comes with a code of ours.
pub(crate) fn is_cut(status: &Status) -> bool {
    let foreign = status.get_details_error_info().is_none();
    status.source().is_some()
        || (foreign && matches!(status.code(), Code::Unavailable | Code::Unknown))
}

/// A message of which only the descriptor is known.
#[derive(Debug, Clone)]
pub struct DynamicCodec(MessageDescriptor);

impl DynamicCodec {
    /// Encodes any message, decodes messages of this type.
    #[must_use]
    pub fn decoding(descriptor: MessageDescriptor) -> Self {
        Self(descriptor)
    }
}

impl Codec for DynamicCodec {
    type Encode = DynamicMessage;
    type Decode = DynamicMessage;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        self.clone()
    }

    fn decoder(&mut self) -> Self {
        self.clone()
    }
}

impl Encoder for DynamicCodec {
    type Item = DynamicMessage;
    type Error = Status;

    fn encode(&mut self, item: DynamicMessage, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put_slice(&item.encode_to_vec());
        Ok(())
    }
}

impl Decoder for DynamicCodec {
    type Item = DynamicMessage;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<DynamicMessage>, Status> {
        let bytes = from.copy_to_bytes(from.remaining());
        DynamicMessage::decode(self.0.clone(), bytes)
            .map(Some)
            .map_err(|cause| {
                let name = self.0.full_name();
                Status::internal(format!("the message is no {name}: {cause}"))
            })
    }
}
