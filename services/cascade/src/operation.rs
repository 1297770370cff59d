//! What a plan begins with: the rpc that is done to its first resource.

use cairn_proto::{
    fault::Fault,
    meta::{Catalog, Operation},
};

/// The operation of that name on resources of that noun; a deletion if it has no name.
///
/// # Errors
/// A fault of the field `operation`, with those that there are.
pub(crate) fn named(catalog: &Catalog, noun: &str, name: &str) -> Result<Operation, Fault> {
    let resource = catalog.resource(noun);
    let resource = resource.ok_or_else(|| Fault::field("resource_type", format!("is `{noun}`")))?;
    match catalog.operation(resource, name) {
        Some(operation) => Ok(operation.clone()),
        None if name.is_empty() => Ok(catalog.delete(resource)),
        None => {
            let known: Vec<_> = catalog.operations(resource).collect();
            let problem = match known.as_slice() {
                [] => format!("is `{name}`; a {noun} can only be deleted, leave it out"),
                _ => format!("is `{name}`; for a {noun} give one of {}", known.join(", ")),
            };
            Err(Fault::field("operation", problem))
        }
    }
}

/// What an operation is called: its rpc's name, if there is one.
pub(crate) fn name(operation: &Operation) -> String {
    let method = operation.method();
    method.map_or_else(String::new, |method| method.name().to_owned())
}
