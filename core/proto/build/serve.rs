//! The server's side of a service whose rpcs are all of the standard kinds: operations, get and
//! query. Such a service needs no code of its own: `Standard` implements tonic's trait for it.

use std::fmt::Write as _;

use prost_build::Service;
use prost_reflect::{DescriptorPool, MessageDescriptor, MethodDescriptor};

use crate::{
    names::snake,
    traits::{is_operation_response, is_resource},
};

/// The implementation, or nothing if the service has an rpc of another kind.
pub(crate) fn code(
    service: &Service,
    full_name: &str,
    pool: &DescriptorPool,
) -> Result<String, String> {
    let descriptor = pool
        .get_service_by_name(full_name)
        .ok_or("a service is not in the pool")?;
    let short = service
        .name
        .strip_suffix("Service")
        .ok_or("a service's name ends in Service")?;
    let module = snake(&service.name);
    let mut body = String::new();
    for (index, (method, described)) in service.methods.iter().zip(descriptor.methods()).enumerate()
    {
        let Some(kind) = kind(&described) else {
            return Ok(String::new());
        };
        let (name, input, output) = (&method.name, &method.input_type, &method.output_type);
        let (returns, code) = match kind {
            Kind::Operation => {
                writeln!(
                    body,
                    "    type {}Stream = tonic::codegen::BoxStream<{output}>;",
                    method.proto_name
                )
                .map_err(|e| e.to_string())?;
                (
                    format!("Self::{}Stream", method.proto_name),
                    format!(
                        "self.0.operate(&{short}Client::METHODS[{index}], request.into_inner()).await?"
                    ),
                )
            }
            Kind::Get { field } => (
                output.clone(),
                format!(
                    "{output} {{ {field}: Some(self.0.get(&request.into_inner().uuid).await?) }}"
                ),
            ),
            Kind::Query { field } => (
                output.clone(),
                format!(
                    "{{ let (found, total) = self.0.query(request.into_inner().query.unwrap_or_default()).await?; \
                     {output} {{ {field}: found, total }} }}"
                ),
            ),
        };
        writeln!(
            body,
            "    async fn {name}(&self, request: tonic::Request<{input}>) -> \
             std::result::Result<tonic::Response<{returns}>, tonic::Status> {{\n        \
             Ok(tonic::Response::new({code}))\n    }}"
        )
        .map_err(|e| e.to_string())?;
    }
    Ok(format!(
        "#[tonic::async_trait]\n\
         impl<S: crate::serve::Serve> {module}_server::{} for crate::serve::Standard<S> {{\n{body}}}\n",
        service.name
    ))
}

enum Kind {
    Operation,
    Get { field: String },
    Query { field: String },
}

fn kind(method: &MethodDescriptor) -> Option<Kind> {
    let output = method.output();
    if method.is_server_streaming() {
        return is_operation_response(&output).then_some(Kind::Operation);
    }
    let (field, resource) = resource_field(&output)?;
    let noun = resource.name();
    let fields = output.fields().len();
    match method.name() {
        name if name == format!("Get{noun}") && fields == 1 => Some(Kind::Get { field }),
        name if name == format!("Query{noun}") && fields == 2 => Some(Kind::Query { field }),
        _ => None,
    }
}

fn resource_field(message: &MessageDescriptor) -> Option<(String, MessageDescriptor)> {
    message.fields().find_map(|field| {
        let resource = field
            .kind()
            .as_message()
            .filter(|m| is_resource(m))?
            .clone();
        Some((field.name().to_owned(), resource))
    })
}
