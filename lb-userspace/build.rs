//! Builds lb-ebpf's kernel programs, so that they can be embedded, and gives their object's path
//! to the crate in `VEER_EBPF_OBJECT`.
//!
//! Looks for the toolchain but never installs one: a build script that downloads 160 MB would be a
//! surprise. `VEER_EBPF_SKIP=1` gives an empty object, for lints, documentation and unit tests.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

#[path = "../xtask/src/object.rs"]
mod object;
#[path = "../xtask/src/toolchain.rs"]
mod toolchain;

fn main() -> ExitCode {
    match embed() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            for line in message.lines() {
                println!("cargo::error={line}");
            }
            ExitCode::FAILURE
        }
    }
}

fn embed() -> Result<(), String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let root = fs::canonicalize(&root).map_err(|error| format!("find the workspace: {error}"))?;
    watch(&root);

    let out = env::var_os("OUT_DIR")
        .map(PathBuf::from)
        .ok_or("OUT_DIR is not set: run cargo")?;
    let embedded = out.join("veer-ebpf");
    let written = if env::var_os("VEER_EBPF_SKIP").is_some_and(|value| value == "1") {
        fs::write(&embedded, b"")
    } else {
        fs::copy(build(&root)?, &embedded).map(drop)
    };
    written.map_err(|error| format!("write {}: {error}", embedded.display()))?;
    println!("cargo::rustc-env=VEER_EBPF_OBJECT={}", embedded.display());
    Ok(())
}

fn build(root: &Path) -> Result<PathBuf, String> {
    let places = toolchain::Places::from_env(|name| env::var_os(name))
        .ok_or("neither HOME nor XDG_CACHE_HOME is set: there is no cache to find a compiler in")?;
    let toolchain = toolchain::find(&places).map_err(|missing| {
        format!(
            "{missing}\n\
             Run `cargo xtask ebpf` once: it finds or installs what is missing.\n\
             Or set VEER_EBPF_SKIP=1 to build without the kernel programs."
        )
    })?;
    object::build(root, &toolchain).map_err(|failed| failed.to_string())
}

/// Tells cargo what the object depends on. The build script itself is watched by default.
fn watch(root: &Path) {
    for path in [
        "lb-ebpf/src",
        "lb-ebpf/Cargo.toml",
        "lb-common/src",
        "lb-common/Cargo.toml",
    ] {
        println!("cargo::rerun-if-changed={}", root.join(path).display());
    }
    for path in [
        "Cargo.toml",
        "Cargo.lock",
        "xtask/src/object.rs",
        "xtask/src/toolchain.rs",
    ] {
        println!("cargo::rerun-if-changed={}", root.join(path).display());
    }
    for variable in ["VEER_EBPF_SKIP", "VEER_EBPF_RUSTC", "XDG_CACHE_HOME"] {
        println!("cargo::rerun-if-env-changed={variable}");
    }
}
