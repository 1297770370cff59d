//! Compiles `proto/` without protoc, and writes beside tonic's code what the mesh needs: for
//! each service a client over the mesh and a dispatcher, for each resource and each operation's
//! response the trait that lets one piece of code serve them all.

use std::{
    env,
    error::Error,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use prost::Message as _;
use prost_build::{Service, ServiceGenerator};
use prost_reflect::{DescriptorPool, MessageDescriptor, ReflectMessage as _, Value};

fn main() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("../../proto");
    println!("cargo::rerun-if-changed={}", root.display());
    let out = PathBuf::from(env::var("OUT_DIR")?);

    let mut files = Vec::new();
    collect(&root, &mut files)?;
    let mut compiler = protox::Compiler::new([&root])?;
    compiler
        .include_source_info(true)
        .include_imports(true)
        .open_files(&files)?;
    // Encoded by protox: prost's own types would drop our options.
    let bytes = compiler.encode_file_descriptor_set();
    fs::write(out.join("descriptors.bin"), &bytes)?;

    let pool = DescriptorPool::decode(bytes.as_slice())?;
    let mut config = prost_build::Config::new();
    config.enable_type_names();
    config.bytes(["."]);
    config.include_file("packages.rs");
    config.service_generator(Box::new(Generator {
        tonic: tonic_prost_build::configure().service_generator(),
        pool: pool.clone(),
    }));
    config.compile_fds(prost_types_set(&bytes)?)?;

    let mut traits = String::new();
    for message in pool.all_messages() {
        message_traits(&message, &mut traits)?;
    }
    fs::write(out.join("traits.rs"), traits)?;
    Ok(())
}

fn prost_types_set(bytes: &[u8]) -> Result<tonic_prost_build::FileDescriptorSet, Box<dyn Error>> {
    Ok(tonic_prost_build::FileDescriptorSet::decode(bytes)?)
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) -> Result<(), Box<dyn Error>> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|e| e == "proto") {
            files.push(path);
        }
    }
    files.sort();
    Ok(())
}

struct Generator {
    tonic: Box<dyn ServiceGenerator>,
    pool: DescriptorPool,
}

impl ServiceGenerator for Generator {
    fn generate(&mut self, service: Service, buf: &mut String) {
        let full_name = format!("{}.{}", service.package, service.proto_name);
        let text = mesh_code(&service, &full_name, &self.pool)
            .unwrap_or_else(|problem| format!("compile_error!({problem:?});\n"));
        self.tonic.generate(service, buf);
        buf.push_str(&text);
    }

    fn finalize(&mut self, buf: &mut String) {
        self.tonic.finalize(buf);
    }
}

/// The routing key of a request: its field's Rust name, number, and whether it may be assigned.
struct Key {
    field: String,
    number: u32,
    assigned: bool,
}

fn key_of(message: &MessageDescriptor) -> Result<Option<Key>, String> {
    let mut key = None;
    for field in message.fields() {
        let options = field.options();
        let Some(rules) = option(&options, "cairn.meta.v1alpha1.field") else {
            continue;
        };
        let flag = |name| {
            rules
                .get_field_by_name(name)
                .and_then(|v| v.as_bool())
                .unwrap_or(false)
        };
        if !flag("routing_key") {
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
            assigned: flag("assigned"),
        });
    }
    Ok(key)
}

fn option(
    options: &prost_reflect::DynamicMessage,
    name: &str,
) -> Option<prost_reflect::DynamicMessage> {
    let extension = options
        .descriptor()
        .parent_pool()
        .get_extension_by_name(name)?;
    if !options.has_extension(&extension) {
        return None;
    }
    match options.get_extension(&extension).into_owned() {
        Value::Message(message) => Some(message),
        _ => None,
    }
}

fn mesh_code(service: &Service, full_name: &str, pool: &DescriptorPool) -> Result<String, String> {
    let descriptor = pool
        .get_service_by_name(full_name)
        .ok_or("a service is not in the pool")?;
    let short = service
        .name
        .strip_suffix("Service")
        .ok_or("a service's name ends in Service")?;
    let module = snake(&service.name);
    let internal = service.package.contains(".internal.");
    let mut statics = String::new();
    let mut client = String::new();
    let mut arms = String::new();
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
"#,
        name = service.name,
        count = service.methods.len(),
    ))
}

/// `Resource` for resources, `OperationResponse` for the events of operations.
fn message_traits(message: &MessageDescriptor, out: &mut String) -> Result<(), Box<dyn Error>> {
    let path = rust_path(message);
    if let Some(resource) = option(&message.options(), "cairn.meta.v1alpha1.resource") {
        let name = resource
            .get_field_by_name("name")
            .and_then(|v| v.as_str().map(str::to_owned));
        let name = name.ok_or("a resource has a name")?;
        writeln!(
            out,
            "impl crate::meta::Resource for {path} {{\n    \
             const NOUN: &'static str = {name:?};\n    \
             fn uuid(&self) -> &str {{ &self.uuid }}\n    \
             fn name_mut(&mut self) -> &mut String {{ &mut self.name }}\n    \
             fn description_mut(&mut self) -> &mut String {{ &mut self.description }}\n    \
             fn stamp(&mut self, now: prost_types::Timestamp) {{\n        \
             self.create_time.get_or_insert(now);\n        \
             self.last_operation_time = Some(now);\n    }}\n}}"
        )?;
    }
    let event = |name: &str| {
        message
            .oneofs()
            .find(|oneof| oneof.name() == "event")
            .and_then(|oneof| oneof.fields().find(|field| field.name() == name))
    };
    if let (Some(accepted), Some(_), Some(result)) =
        (event("accepted"), event("progress"), event("result"))
        && accepted
            .kind()
            .as_message()
            .is_some_and(|m| m.full_name() == "cairn.operation.v1alpha1.Accepted")
        && let Some(result) = result.kind().as_message()
    {
        let module = format!("{}::{}", parent_path(message), snake(message.name()));
        let result = rust_path(result);
        writeln!(
            out,
            "impl crate::event::OperationResponse for {path} {{\n    \
             type Result = {result};\n    \
             fn from_event(event: crate::event::Event<{result}>) -> Self {{\n        \
             Self {{ event: Some(match event {{\n            \
             crate::event::Event::Accepted(a) => {module}::Event::Accepted(a),\n            \
             crate::event::Event::Progress(p) => {module}::Event::Progress(p),\n            \
             crate::event::Event::Result(r) => {module}::Event::Result(r),\n        }}) }}\n    }}\n    \
             fn into_event(self) -> Option<crate::event::Event<{result}>> {{\n        \
             Some(match self.event? {{\n            \
             {module}::Event::Accepted(a) => crate::event::Event::Accepted(a),\n            \
             {module}::Event::Progress(p) => crate::event::Event::Progress(p),\n            \
             {module}::Event::Result(r) => crate::event::Event::Result(r),\n        }})\n    }}\n}}"
        )?;
    }
    Ok(())
}

fn parent_path(message: &MessageDescriptor) -> String {
    format!("crate::{}", message.package_name().replace('.', "::"))
}

fn rust_path(message: &MessageDescriptor) -> String {
    format!("{}::{}", parent_path(message), message.name())
}

/// As prost names modules: `L2NetworkService` is `l2_network_service`.
fn snake(name: &str) -> String {
    let mut out = String::new();
    let chars: Vec<char> = name.chars().collect();
    for (i, c) in chars.iter().enumerate() {
        let before = i.checked_sub(1).map(|b| chars[b]);
        let after_lower = chars.get(i + 1).is_some_and(|n| n.is_lowercase());
        if c.is_uppercase()
            && before.is_some_and(|b| {
                b.is_lowercase() || b.is_numeric() || (b.is_uppercase() && after_lower)
            })
        {
            out.push('_');
        }
        out.extend(c.to_lowercase());
    }
    out
}
