//! Compiles `proto/` without protoc, and writes beside tonic's code what Cairn needs of it: for
//! each service a client over the mesh and a dispatcher ([`mesh`]), for each extension point a
//! client of all who implement it ([`ext`]), and for each resource, its requests and its responses
//! the traits that let one piece of code serve all ([`traits`]).

mod ext;
mod mesh;
mod names;
mod serve;
mod traits;

use std::{
    env,
    error::Error,
    fs,
    path::{Path, PathBuf},
};

use prost::Message as _;
use prost_build::{Service, ServiceGenerator};
use prost_reflect::DescriptorPool;

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
    config.compile_fds(tonic_prost_build::FileDescriptorSet::decode(
        bytes.as_slice(),
    )?)?;
    fs::write(out.join("traits.rs"), traits::of_all(&pool)?)?;
    Ok(())
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
        let code = mesh::code(&service, &full_name, &self.pool).and_then(|mesh| {
            let serve = serve::code(&service, &full_name, &self.pool)?;
            Ok(mesh + &serve + &ext::code(&service, &full_name, &self.pool)?)
        });
        self.tonic.generate(service, buf);
        // What a proto breaks is told where the code would be.
        buf.push_str(&code.unwrap_or_else(|problem| format!("compile_error!({problem:?});\n")));
    }

    fn finalize(&mut self, buf: &mut String) {
        self.tonic.finalize(buf);
    }
}
