//! The caller's side of an extension point: a service of a package `….ext.…`, which any number of
//! others implement. Its client calls all of them.

use std::fmt::Write as _;

use prost_build::Service;
use prost_reflect::DescriptorPool;

use crate::{mesh::key_of, names::snake};

/// The client of all implementers, or nothing if the service is no extension point.
pub(crate) fn code(
    service: &Service,
    full_name: &str,
    pool: &DescriptorPool,
) -> Result<String, String> {
    if !service.package.contains(".ext.") {
        return Ok(String::new());
    }
    let descriptor = pool
        .get_service_by_name(full_name)
        .ok_or("a service is not in the pool")?;
    let point = service
        .name
        .strip_suffix("Service")
        .ok_or("a service's name ends in Service")?;
    let mut methods = String::new();
    for (method, described) in service.methods.iter().zip(descriptor.methods()) {
        // An implementer is found by its name, and has one answer.
        if method.server_streaming || key_of(&described.input())?.is_some() {
            return Err(format!(
                "{}: an extension point streams nothing and has no routing key",
                described.full_name()
            ));
        }
        let doc = method.comments.leading.join("\n");
        let doc = doc.trim().replace('\n', "\n    /// ");
        let (name, input, output) = (&method.name, &method.input_type, &method.output_type);
        writeln!(
            methods,
            "    /// {doc}\n    ///\n    /// # Errors\n    \
             /// That of the first implementer that fails, with its name; those after it are not \
             called.\n    \
             pub async fn {name}(&self, request: {input}) -> \
             std::result::Result<Vec<{output}>, tonic::Status> {{\n        \
             crate::call::each(&self.0, request).await\n    }}"
        )
        .map_err(|e| e.to_string())?;
    }
    let module = snake(&service.name);
    let trait_name = &service.name;
    Ok(format!(
        r#"
/// All who implement [`{trait_name}`]({module}_server::{trait_name}), called one after the other in
/// the order of their names. Where nobody does, nothing happens.
#[derive(Clone, Debug)]
pub struct {point}Extensions(crate::call::Mesh);

impl {point}Extensions {{
    /// A client that calls through `mesh`.
    #[must_use]
    pub fn new(mesh: crate::call::Mesh) -> Self {{
        Self(mesh)
    }}

{methods}}}
"#
    ))
}
