//! What the unit tests share: a catalog with a plugin's resources in it.

use std::sync::Arc;

use cairn_proto::meta::Catalog;

/// The built-in resources, and those of `tests/proto`.
pub(crate) fn catalog() -> Arc<Catalog> {
    let here = env!("CARGO_MANIFEST_DIR");
    let mut compiler =
        protox::Compiler::new([format!("{here}/tests/proto"), format!("{here}/../../proto")])
            .unwrap();
    compiler.include_source_info(true).include_imports(true);
    compiler.open_file("acme/v1/gadget.proto").unwrap();
    let set = compiler.encode_file_descriptor_set();
    Arc::new(Catalog::with(&[&set]).unwrap())
}

/// The arguments of a command line without quotes.
pub(crate) fn words(line: &str) -> Vec<String> {
    line.split(' ').map(str::to_owned).collect()
}
