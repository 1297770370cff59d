//! What the server says it offers, by gRPC reflection: its own version of the contract, and the
//! resources of its plugins.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::Bytes;
use cairn_proto::meta::Catalog;
use futures::StreamExt as _;
use prost::{Message as _, encoding};
use prost_reflect::DescriptorPool;
use tonic::{Code, Status};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

use crate::{connection::Connection, error::CliError};

/// The server's descriptors; the built-in ones if it has no reflection.
pub(crate) async fn catalog(connection: &Connection) -> Result<Arc<Catalog>, CliError> {
    let files = match files(connection).await {
        Ok(files) => files,
        Err(status) if status.code() == Code::Unimplemented => return Ok(Catalog::built_in()),
        Err(status) => return Err(CliError::called(&status)),
    };
    let unreadable = |cause| CliError::Descriptors { cause };
    // The files that no service mentions hold resources that can be queried all the same. Those
    // that contradict the server's own are of another version and go.
    let mut all = files.clone();
    for file in Catalog::built_in().pool().files() {
        let name = file.name().to_owned();
        all.entry(name)
            .or_insert_with(|| file.encode_to_vec().into());
    }
    let catalog = pool(&all).or_else(|_| pool(&files)).map_err(unreadable)?;
    Ok(Arc::new(catalog))
}

fn pool(files: &BTreeMap<String, Bytes>) -> Result<Catalog, cairn_proto::meta::CatalogError> {
    // A FileDescriptorSet, written by hand: prost's own types would lose our options.
    let mut set = Vec::new();
    for file in files.values() {
        encoding::bytes::encode(1, file, &mut set);
    }
    let mut pool = DescriptorPool::new();
    pool.decode_file_descriptor_set(set.as_slice())
        .map_err(cairn_proto::meta::CatalogError::Descriptors)?;
    Catalog::of(pool)
}

/// Every file that the server tells of, by name.
async fn files(connection: &Connection) -> Result<BTreeMap<String, Bytes>, Status> {
    let mut services = Vec::new();
    for answer in ask(
        connection,
        vec![MessageRequest::ListServices(String::new())],
    )
    .await?
    {
        if let MessageResponse::ListServicesResponse(list) = answer {
            services.extend(list.service.into_iter().map(|service| service.name));
        }
    }
    let symbols = services.into_iter();
    let symbols = symbols.map(MessageRequest::FileContainingSymbol).collect();
    // The answers repeat what several services import; each is decoded once.
    let mut distinct = BTreeSet::new();
    for answer in ask(connection, symbols).await? {
        // Services of the machinery itself may have no file; that is no failure.
        if let MessageResponse::FileDescriptorResponse(found) = answer {
            distinct.extend(found.file_descriptor_proto);
        }
    }
    let mut files = BTreeMap::new();
    for file in distinct {
        let proto = prost_types::FileDescriptorProto::decode(file.as_slice());
        let proto = proto.map_err(|cause| Status::internal(cause.to_string()))?;
        files.insert(proto.name.unwrap_or_default(), Bytes::from(file));
    }
    Ok(files)
}

async fn ask(
    connection: &Connection,
    questions: Vec<MessageRequest>,
) -> Result<Vec<MessageResponse>, Status> {
    let questions: Vec<_> = questions
        .into_iter()
        .map(|question| ServerReflectionRequest {
            host: String::new(),
            message_request: Some(question),
        })
        .collect();
    let mut client = ServerReflectionClient::new(connection.channel.clone());
    let request = connection.request(futures::stream::iter(questions));
    let mut stream = client.server_reflection_info(request).await?.into_inner();
    let mut answers = Vec::new();
    while let Some(answer) = stream.next().await {
        answers.extend(answer?.message_response);
    }
    Ok(answers)
}
