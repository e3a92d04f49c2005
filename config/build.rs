//! Compiles Envoy's own `.proto` files to descriptors, so that the schema is Envoy's, not a copy.
//!
//! The files come with the crate `envoy-types`, but for a few that it lacks (`proto/`); nothing derived
//! from them is committed. Written to OUT_DIR: `descriptors.bin` (the messages reachable from `proto-roots.txt`, with their validation
//! rules) and `known_types.txt` (the full name of every message of Envoy's API, to distinguish an
//! extension that Corvoy lacks from a name that does not exist).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::{env, error, fs, io};

use protox::Compiler;
use protox::file::{
    ChainFileResolver, File, FileResolver, GoogleFileResolver, IncludeFileResolver,
};

type Result<T> = std::result::Result<T, Box<dyn error::Error>>;

fn main() -> Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={ROOTS}");
    println!("cargo::rerun-if-changed=Cargo.toml");
    println!("cargo::rerun-if-changed={OWN}");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let includes = include_paths()?;

    let mut descriptors = Vec::new();
    let mut files = BTreeSet::new();
    // The groups are compiled one by one: a package of one group must not capture the relative names
    // in the files of another.
    for group in fs::read_to_string(ROOTS)?.split("\n\n") {
        let mut compiler = Compiler::with_file_resolver(resolver(&includes));
        compiler.include_imports(true);
        compiler.open_files(group.lines().filter(|line| !line.is_empty()))?;
        // Already encoded: prost's descriptor types would drop the validation rules.
        for file in each_file(&compiler.encode_file_descriptor_set())? {
            if files.insert(file.to_vec()) {
                descriptors.extend_from_slice(file);
            }
        }
    }
    fs::write(out.join("descriptors.bin"), descriptors)?;

    let mut types = BTreeSet::new();
    for include in &includes {
        message_names(include, &mut types)?;
    }
    fs::write(out.join("known_types.txt"), types.into_iter().collect::<Vec<_>>().join("\n"))?;
    Ok(())
}

fn resolver(includes: &[PathBuf]) -> ChainFileResolver {
    let mut resolver = ChainFileResolver::new();
    resolver.add(Ambiguous(includes.to_vec()));
    for include in includes {
        resolver.add(IncludeFileResolver::new(include.clone()));
    }
    resolver.add(GoogleFileResolver::new());
    resolver
}

/// Reads the files of `dynamic_forward_proxy`, which call a package `common`. So are packages nearer to them that
/// they do not import, and that protoc does not see.
struct Ambiguous(Vec<PathBuf>);

impl FileResolver for Ambiguous {
    fn open_file(&self, name: &str) -> std::result::Result<File, protox::Error> {
        const RELATIVE: &str = " common.dynamic_forward_proxy.v3.";
        const FULL: &str = " .envoy.extensions.common.dynamic_forward_proxy.v3.";
        let missing = || protox::Error::file_not_found(name);
        if !name.contains("/dynamic_forward_proxy/") {
            return Err(missing());
        }
        let read = |folder: &PathBuf| fs::read_to_string(folder.join(name)).ok();
        let text = self.0.iter().find_map(read).ok_or_else(missing)?;
        File::from_source(name, &text.replace(RELATIVE, FULL))
    }
}

/// The encoded files of an encoded `FileDescriptorSet`, each with its tag and length: the set has no
/// other field.
fn each_file(mut set: &[u8]) -> Result<Vec<&[u8]>> {
    const FILE: u8 = 0x0A; // field 1, a message
    let mut files = Vec::new();
    while let Some((&FILE, rest)) = set.split_first() {
        let (mut length, mut prefix) = (0, 1);
        for (shift, byte) in (0..).step_by(7).zip(rest.iter().take(5)) {
            length |= usize::from(byte & 0x7F) << shift;
            prefix += 1;
            if byte & 0x80 == 0 {
                break;
            }
        }
        let (file, rest) = set.split_at_checked(prefix + length).ok_or("a truncated file")?;
        files.push(file);
        set = rest;
    }
    if set.is_empty() { Ok(files) } else { Err("not a FileDescriptorSet".into()) }
}

/// The folders in envoy-types that `import` lines are relative to.
fn include_paths() -> Result<Vec<PathBuf>> {
    let mut command = cargo_metadata::MetadataCommand::new();
    command.manifest_path(stand_in()?);
    let mut options =
        vec!["--filter-platform".to_owned(), env::var("HOST")?, "--offline".to_owned()];
    command.other_options(options.clone());
    let metadata = command.exec().or_else(|_| {
        // In a first build cargo has not downloaded crates that it does not compile. `cargo fetch`
        // does.
        options.pop();
        command.other_options(options).exec()
    })?;
    let package = metadata
        .packages
        .iter()
        .find(|package| package.name.as_str() == "envoy-types")
        .ok_or("envoy-types is not among the dependencies")?;
    let proto = package.manifest_path.with_file_name("proto");
    let mut folders = Vec::new();
    for entry in fs::read_dir(&proto)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            // CEL has its files one folder below.
            let below = entry.path().join("proto");
            folders.push(if below.is_dir() { below } else { entry.path() });
        }
    }
    folders.push(OWN.into());
    folders.sort();
    Ok(folders)
}

/// A manifest that depends only on envoy-types, in the version of the lock file. With the
/// workspace's manifest, cargo would require all packages, but a first build has downloaded only
/// those that it needs.
fn stand_in() -> Result<PathBuf> {
    let folder = PathBuf::from(env::var("OUT_DIR")?).join("stand-in");
    fs::create_dir_all(&folder)?;
    let here = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    // Copies the text but not the permissions: cargo removes the unused packages from it.
    fs::write(folder.join("Cargo.lock"), fs::read(here.with_file_name("Cargo.lock"))?)?;
    fs::write(folder.join("lib.rs"), "")?;
    let manifest = folder.join("Cargo.toml");
    fs::write(&manifest, STAND_IN)?;
    Ok(manifest)
}

const STAND_IN: &str = r#"
[package]
name = "stand-in"
edition = "2024"

[lib]
path = "lib.rs"

[dependencies]
envoy-types = "*"

[workspace]
"#;

/// Collects `package.Message` for every message at the top level of every file below `folder`.
fn message_names(folder: &Path, names: &mut BTreeSet<String>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            message_names(&path, names)?;
        } else if path.extension().is_some_and(|extension| extension == "proto") {
            let text = fs::read_to_string(&path)?;
            let package = text.lines().find_map(|line| line.strip_prefix("package "));
            let package = package.unwrap_or_default().trim_end_matches(';');
            for line in text.lines().filter_map(|line| line.strip_prefix("message ")) {
                let name = line.split([' ', '{']).next().unwrap_or_default();
                names.insert(format!("{package}.{name}"));
            }
        }
    }
    Ok(())
}

const ROOTS: &str = "proto-roots.txt";

/// Files of Envoy's API that `envoy-types` lacks.
const OWN: &str = "proto";
