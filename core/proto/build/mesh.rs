//! The mesh's side of a service: a client, and a dispatcher to an implementation.

use std::fmt::Write as _;

use prost_build::Service;
use prost_reflect::{DescriptorPool, MessageDescriptor};

use crate::names::{flag, option, snake};

/// The routing key of a request: its field's Rust name, number, and whether it may be assigned.
pub(crate) struct Key {
    field: String,
    number: u32,
    assigned: bool,
}

pub(crate) fn key_of(message: &MessageDescriptor) -> Result<Option<Key>, String> {
    let mut key = None;
    for field in message.fields() {
        let options = field.options();
        let Some(rules) = option(&options, "cairn.meta.v1alpha1.field") else {
            continue;
        };
        if !flag(&rules, "routing_key") {
            continue;
        }
        if key.is_some() {
            return Err(format!("{} has two routing keys", message.full_name()));
        }
        if field.kind() != prost_reflect::Kind::String || field.supports_presence() {
            return Err(format!(
                "{}: a routing key is a plain string",
                field.full_name()
            ));
        }
        key = Some(Key {
            field: field.name().to_owned(),
            number: field.number(),
            assigned: flag(&rules, "assigned"),
        });
    }
    Ok(key)
}

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
    let internal = [".internal.", ".ext."]
        .iter()
        .any(|p| service.package.contains(p));
    let mut statics = String::new();
    let mut client = String::new();
    let mut arms = String::new();
    let mut rpcs = String::new();
    for (index, (method, described)) in service.methods.iter().zip(descriptor.methods()).enumerate()
    {
        if method.client_streaming {
            return Err(format!(
                "{}: the mesh carries no client streams",
                described.full_name()
            ));
        }
        let key = key_of(&described.input())?;
        let streaming = method.server_streaming;
        let key_static = key.as_ref().map_or("None".to_owned(), |k| {
            format!(
                "Some(crate::call::KeyField {{ number: {}, assigned: {} }})",
                k.number, k.assigned
            )
        });
        let doc = method
            .comments
            .leading
            .join("\n")
            .trim()
            .replace('\n', "\n    /// ");
        let (name, input, output) = (&method.name, &method.input_type, &method.output_type);
        writeln!(
            statics,
            "    crate::call::Method {{ service: {full_name:?}, name: {:?}, path: \"/{full_name}/{}\", \
             streaming: {streaming}, internal: {internal}, key: {key_static} }},",
            method.proto_name, method.proto_name
        )
        .map_err(|e| e.to_string())?;
        let take_key = match &key {
            None => "let key = None;".to_owned(),
            Some(k) if k.assigned => format!(
                "let mut request = request;\n        \
                 crate::call::assign_key(&mut request.{});\n        \
                 let key = Some(request.{}.clone());",
                k.field, k.field
            ),
            Some(k) => format!("let key = Some(request.{}.clone());", k.field),
        };
        let (returns, finish) = if streaming {
            (
                format!("tonic::codegen::BoxStream<{output}>"),
                format!("crate::call::typed_stream::<{output}>(answer)"),
            )
        } else {
            (
                output.clone(),
                format!("crate::call::typed::<{output}>(answer)"),
            )
        };
        writeln!(
            client,
            "    /// {doc}\n    pub async fn {name}(&self, request: {input}) -> \
             std::result::Result<{returns}, tonic::Status> {{\n        \
             {take_key}\n        \
             let answer = self.0.call(crate::call::Call::new(&Self::METHODS[{index}], key, request)).await?;\n        \
             {finish}\n    }}"
        )
        .map_err(|e| e.to_string())?;
        writeln!(
            rpcs,
            "impl crate::call::Rpc for {input} {{\n    type Response = {output};\n    \
             const METHOD: &'static crate::call::Method = &{short}Client::METHODS[{index}];\n}}"
        )
        .map_err(|e| e.to_string())?;
        let answer = if streaming { "stream" } else { "one" };
        writeln!(
            arms,
            "                {:?} => {{\n                    \
             let request = payload.into_message::<{input}>()?;\n                    \
             let response = {module}_server::{}::{name}(&*service, tonic::Request::new(request)).await?;\n                    \
             Ok(crate::call::Answer::{answer}(response.into_inner()))\n                }}",
            method.proto_name, service.name
        )
        .map_err(|e| e.to_string())?;
    }
    Ok(format!(
        r#"
/// [`{name}`]({module}_server::{name}) through the mesh, wherever its owner is.
#[derive(Clone, Debug)]
pub struct {short}Client(crate::call::Mesh);

impl {short}Client {{
    /// What this service offers, in the order of its proto.
    pub const METHODS: &'static [crate::call::Method] = &Self::ALL;
    const ALL: [crate::call::Method; {count}] = [
{statics}    ];

    /// A client that calls through `mesh`.
    #[must_use]
    pub fn new(mesh: crate::call::Mesh) -> Self {{
        Self(mesh)
    }}

{client}}}

/// Hands calls of the mesh to an implementation of [`{name}`]({module}_server::{name}).
pub struct {short}Dispatch<T>(pub std::sync::Arc<T>);

impl<T: {module}_server::{name}> crate::call::Dispatch for {short}Dispatch<T> {{
    fn methods(&self) -> &'static [crate::call::Method] {{
        {short}Client::METHODS
    }}

    fn dispatch(
        &self,
        method: &'static crate::call::Method,
        payload: crate::call::Payload,
    ) -> crate::call::BoxFuture<std::result::Result<crate::call::Answer, tonic::Status>> {{
        let service = self.0.clone();
        Box::pin(async move {{
            match method.name {{
{arms}                other => Err(tonic::Status::unimplemented(other)),
            }}
        }})
    }}
}}

{rpcs}"#,
        name = service.name,
        count = service.methods.len(),
    ))
}
