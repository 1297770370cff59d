//! The server's side of a service whose rpcs are of the standard kinds: operations, get and query.
//! Such a service needs no code of its own: `Standard` implements tonic's trait for it. What a
//! service has besides, if it is unary, is a trait of its own, and the rest stays as it is.

use std::fmt::Write as _;

use prost_build::Service;
use prost_reflect::{DescriptorPool, MessageDescriptor, MethodDescriptor};

use crate::{
    names::snake,
    traits::{is_operation_response, is_resource},
};

/// The implementation, with a trait for rpcs of other kinds; nothing if none of its rpcs is
/// standard, or it streams something else.
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
    let kinds: Vec<_> = descriptor.methods().map(|method| kind(&method)).collect();
    let is_standard = kinds.iter().any(Option::is_some);
    let mut others = descriptor
        .methods()
        .zip(&kinds)
        .filter(|(_, kind)| kind.is_none());
    if !is_standard || others.any(|(method, _)| method.is_server_streaming()) {
        return Ok(String::new());
    }
    let own_trait = format!("{short}OwnRpcs");
    let (bound, standard) = match kinds.contains(&None) {
        true => (own_trait.as_str(), "self.0.standard()"),
        false => ("crate::serve::Serve", "&self.0"),
    };
    let (mut body, mut own) = (String::new(), String::new());
    for (index, method) in service.methods.iter().enumerate() {
        let (name, input, output) = (&method.name, &method.input_type, &method.output_type);
        let (returns, code) = match &kinds[index] {
            None => {
                let doc = method
                    .comments
                    .leading
                    .join("\n")
                    .trim()
                    .replace('\n', "\n    /// ");
                writeln!(
                    own,
                    "    /// {doc}\n    async fn {name}(&self, request: {input}) -> \
                     std::result::Result<{output}, tonic::Status>;"
                )
                .map_err(|e| e.to_string())?;
                (
                    output.clone(),
                    format!("{own_trait}::{name}(&self.0, request.into_inner()).await?"),
                )
            }
            Some(Kind::Operation) => {
                writeln!(
                    body,
                    "    type {}Stream = tonic::codegen::BoxStream<{output}>;",
                    method.proto_name
                )
                .map_err(|e| e.to_string())?;
                (
                    format!("Self::{}Stream", method.proto_name),
                    format!(
                        "crate::serve::Serve::operate({standard}, &{short}Client::METHODS[{index}], request.into_inner()).await?"
                    ),
                )
            }
            Some(Kind::Get { field }) => (
                output.clone(),
                format!(
                    "{output} {{ {field}: Some(crate::serve::Serve::get({standard}, &request.into_inner().uuid).await?) }}"
                ),
            ),
            Some(Kind::Query { field }) => (
                output.clone(),
                format!(
                    "{{ let (found, total) = crate::serve::Serve::query({standard}, request.into_inner().query.unwrap_or_default()).await?; \
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
    let name = &service.name;
    let own = match own.as_str() {
        "" => own,
        rpcs => format!(
            "/// What [`{name}`]({module}_server::{name}) has beside the standard rpcs; the rest of it \
             follows.\n\
             #[tonic::async_trait]\npub trait {own_trait}: crate::serve::OverStandard {{\n{rpcs}}}\n"
        ),
    };
    Ok(format!(
        "{own}#[tonic::async_trait]\n\
         impl<S: {bound}> {module}_server::{name} for crate::serve::Standard<S> {{\n{body}}}\n"
    ))
}

#[derive(PartialEq)]
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
