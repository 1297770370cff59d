//! The mesh clients over the public door: tests call a node from outside with the clients that
//! services use inside.

use std::path::Path;

use bytes::{Buf as _, BufMut as _, Bytes};
use cairn_proto::call::{Answer, BoxFuture, Call, Caller, Mesh, Payload};
use futures::StreamExt as _;
use http::{StatusCode, header::AUTHORIZATION, uri::PathAndQuery};
use http_body_util::BodyExt as _;
use serde::Deserialize;
use tonic::{
    Request, Status,
    body::Body,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    metadata::MetadataValue,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint},
};
use tower::ServiceExt as _;

/// The content of a credential file.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Access {
    /// `https://127.0.0.1:7070`
    pub endpoint: String,
    /// PEM.
    pub ca_certificate: String,
    /// The bearer token; none calls without.
    pub token: Option<String>,
}

impl Access {
    /// Reads a credential file.
    #[must_use]
    pub fn read(path: &Path) -> Self {
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    }

    /// A channel that trusts the cloud's CA; it connects at the first call.
    #[must_use]
    pub fn channel(&self) -> Channel {
        let ca = Certificate::from_pem(&self.ca_certificate);
        let tls = ClientTlsConfig::new().ca_certificate(ca);
        Endpoint::from_shared(self.endpoint.clone())
            .unwrap()
            .tls_config(tls)
            .unwrap()
            .connect_lazy()
    }
}

impl Access {
    /// `GET /metrics`, with whatever token this has: the status, and the text.
    pub async fn metrics(&self) -> (StatusCode, String) {
        let mut request = http::Request::get("/metrics");
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request.body(Body::empty()).unwrap();
        let answer = self.channel().oneshot(request).await.unwrap();
        let status = answer.status();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }
}

/// A mesh that calls a node through its public door.
#[must_use]
pub fn remote(access: &Access) -> Mesh {
    Mesh::new(Remote {
        channel: access.channel(),
        token: access.token.clone(),
    })
}

struct Remote {
    channel: Channel,
    token: Option<String>,
}

impl Caller for Remote {
    fn call(&self, call: Call) -> BoxFuture<Result<Answer, Status>> {
        let channel = self.channel.clone();
        let bearer = self.token.as_ref().map(|token| format!("Bearer {token}"));
        Box::pin(async move {
            let mut grpc = Grpc::new(channel);
            grpc.ready()
                .await
                .map_err(|error| Status::unavailable(format!("{error:?}")))?;
            let mut request = Request::new(call.payload.into_bytes());
            let metadata = request.metadata_mut();
            if let Some(bearer) = bearer {
                metadata.insert("authorization", bearer.parse::<MetadataValue<_>>().unwrap());
            }
            if let Some(key) = call.context.idempotency_key {
                metadata.insert("idempotency-key", key.parse::<MetadataValue<_>>().unwrap());
            }
            let path = PathAndQuery::from_static(call.method.path);
            if call.method.streaming {
                let stream = grpc
                    .server_streaming(request, path, BytesCodec)
                    .await?
                    .into_inner();
                Ok(Answer::Stream(
                    stream.map(|item| item.map(Payload::Encoded)).boxed(),
                ))
            } else {
                let answer = grpc.unary(request, path, BytesCodec).await?.into_inner();
                Ok(Answer::One(Payload::Encoded(answer)))
            }
        })
    }
}

#[derive(Clone, Copy)]
struct BytesCodec;

impl Codec for BytesCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for BytesCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for BytesCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}
