//! Protos that exist only in a test.

use cairn_proto::DESCRIPTORS;
use protox::{
    Compiler,
    file::{ChainFileResolver, DescriptorSetFileResolver, File, FileResolver, GoogleFileResolver},
};

const NAME: &str = "test.proto";

/// Compiles the text of a proto file, which may import Cairn's, to an encoded
/// `FileDescriptorSet` with its options, as a plugin brings it for
/// [`Catalog::with`](cairn_proto::meta::Catalog::with).
///
/// # Panics
/// If the text is wrong.
#[must_use]
pub fn proto_set(text: &str) -> Vec<u8> {
    let mut resolver = ChainFileResolver::new();
    resolver.add(Text(text.to_owned()));
    resolver.add(GoogleFileResolver::new());
    resolver.add(DescriptorSetFileResolver::decode(DESCRIPTORS).expect("Cairn's descriptors"));
    let mut compiler = Compiler::with_file_resolver(resolver);
    compiler
        .include_imports(false)
        .open_file(NAME)
        .unwrap_or_else(|error| panic!("{error:?}"));
    compiler.encode_file_descriptor_set()
}

struct Text(String);

impl FileResolver for Text {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        if name == NAME {
            File::from_source(name, &self.0)
        } else {
            Err(protox::Error::file_not_found(name))
        }
    }
}
