//! gRPC server reflection over a descriptor pool. tonic's own decodes descriptors with prost's
//! types and so loses our options, which the CLI lives on.

use std::{collections::BTreeMap, pin::Pin, sync::Arc};

use cairn_proto::meta::option;
use futures::{Stream, StreamExt as _};
use prost_reflect::{DescriptorPool, FileDescriptor};
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_reflection::pb::v1::{
    ErrorResponse, ExtensionNumberResponse, FileDescriptorResponse, ListServiceResponse,
    ServerReflectionRequest, ServerReflectionResponse, ServiceResponse,
    server_reflection_request::MessageRequest,
    server_reflection_response::MessageResponse,
    server_reflection_server::{ServerReflection, ServerReflectionServer},
};

const QUERY_SERVICE: &str = "cairn.query.v1alpha1.QueryService";

pub(super) fn service(
    pool: DescriptorPool,
    services: Vec<String>,
) -> ServerReflectionServer<impl ServerReflection> {
    ServerReflectionServer::new(Reflection(Arc::new(Known { pool, services })))
}

struct Reflection(Arc<Known>);

struct Known {
    pool: DescriptorPool,
    services: Vec<String>,
}

#[tonic::async_trait]
impl ServerReflection for Reflection {
    type ServerReflectionInfoStream =
        Pin<Box<dyn Stream<Item = Result<ServerReflectionResponse, Status>> + Send>>;

    async fn server_reflection_info(
        &self,
        request: Request<Streaming<ServerReflectionRequest>>,
    ) -> Result<Response<Self::ServerReflectionInfoStream>, Status> {
        let known = Arc::clone(&self.0);
        let answers = request.into_inner().map(move |request| {
            let request = request?;
            Ok(ServerReflectionResponse {
                valid_host: request.host.clone(),
                message_response: Some(known.answer(request.message_request.as_ref())),
                original_request: Some(request),
            })
        });
        Ok(Response::new(Box::pin(answers)))
    }
}

impl Known {
    fn answer(&self, request: Option<&MessageRequest>) -> MessageResponse {
        match request {
            Some(MessageRequest::ListServices(_)) => {
                let service = self
                    .services
                    .iter()
                    .cloned()
                    .map(|name| ServiceResponse { name });
                MessageResponse::ListServicesResponse(ListServiceResponse {
                    service: service.collect(),
                })
            }
            Some(MessageRequest::FileByFilename(name)) => {
                files(self.pool.get_file_by_name(name), "file", name)
            }
            // Who asks for the generic query wants to know what there is to query, also what no
            // service of its own imports.
            Some(MessageRequest::FileContainingSymbol(name)) if name == QUERY_SERVICE => {
                let query = self.file_of_symbol(name);
                with_imports(query.into_iter().chain(self.files_of_resources()).collect())
            }
            Some(MessageRequest::FileContainingSymbol(name)) => {
                files(self.file_of_symbol(name), "symbol", name)
            }
            Some(MessageRequest::FileContainingExtension(wanted)) => {
                let message = self.pool.get_message_by_name(&wanted.containing_type);
                let number = u32::try_from(wanted.extension_number).ok();
                let extension = message.zip(number).and_then(|(m, n)| m.get_extension(n));
                files(
                    extension.map(|e| e.parent_file()),
                    "extension of",
                    &wanted.containing_type,
                )
            }
            Some(MessageRequest::AllExtensionNumbersOfType(name)) => {
                match self.pool.get_message_by_name(name) {
                    Some(message) => {
                        MessageResponse::AllExtensionNumbersResponse(ExtensionNumberResponse {
                            base_type_name: name.clone(),
                            extension_number: message
                                .extensions()
                                .filter_map(|extension| i32::try_from(extension.number()).ok())
                                .collect(),
                        })
                    }
                    None => missing("type", name),
                }
            }
            None => error(
                Code::InvalidArgument,
                "the request asks for nothing".to_owned(),
            ),
        }
    }

    fn files_of_resources(&self) -> impl Iterator<Item = FileDescriptor> {
        let messages = self.pool.all_messages();
        messages
            .filter(|message| option(&message.options(), "cairn.meta.v1alpha1.resource").is_some())
            .map(|message| message.parent_file())
    }

    fn file_of_symbol(&self, name: &str) -> Option<FileDescriptor> {
        let pool = &self.pool;
        let (parent, _) = name.rsplit_once('.').unwrap_or((name, ""));
        pool.get_service_by_name(name)
            .or_else(|| pool.get_service_by_name(parent))
            .map(|service| service.parent_file())
            .or_else(|| {
                let message = pool.get_message_by_name(name);
                message
                    .or_else(|| pool.get_message_by_name(parent))
                    .map(|m| m.parent_file())
            })
            .or_else(|| pool.get_enum_by_name(name).map(|e| e.parent_file()))
            .or_else(|| pool.get_extension_by_name(name).map(|e| e.parent_file()))
    }
}

/// A file and all that it imports, so that one answer is enough to build it.
fn files(file: Option<FileDescriptor>, kind: &str, name: &str) -> MessageResponse {
    match file {
        Some(file) => with_imports(vec![file]),
        None => missing(kind, name),
    }
}

fn with_imports(roots: Vec<FileDescriptor>) -> MessageResponse {
    let first = roots
        .first()
        .map(|file| file.name().to_owned())
        .unwrap_or_default();
    let mut all = BTreeMap::new();
    let mut open = roots;
    while let Some(file) = open.pop() {
        if all.contains_key(file.name()) {
            continue;
        }
        all.insert(file.name().to_owned(), file.encode_to_vec());
        open.extend(file.dependencies());
    }
    // What was asked for comes first.
    let asked = all.remove(&first);
    let file_descriptor_proto = asked.into_iter().chain(all.into_values()).collect();
    MessageResponse::FileDescriptorResponse(FileDescriptorResponse {
        file_descriptor_proto,
    })
}

fn missing(kind: &str, name: &str) -> MessageResponse {
    error(Code::NotFound, format!("there is no {kind} {name}"))
}

fn error(code: Code, error_message: String) -> MessageResponse {
    MessageResponse::ErrorResponse(ErrorResponse {
        error_code: code as i32,
        error_message,
    })
}
