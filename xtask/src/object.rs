//! How lb-ebpf's kernel programs become an object file: one cargo command.
//!
//! Only std is used, because lb-userspace's build script includes this file. Cargo decides what
//! has to be rebuilt; `target/ebpf` is a target folder of its own, so that this cargo never waits
//! for a lock that the cargo around it holds.

use std::{
    env,
    ffi::OsStr,
    fmt, io,
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
};

use crate::toolchain::Toolchain;

const TARGET: &str = "bpfel-unknown-none";
const BINARY: &str = "veer-ebpf";

/// Why there is no object file.
#[derive(Debug)]
pub(crate) enum Failed {
    /// cargo did not start.
    Start(io::Error),
    /// cargo ran, reported errors on stderr, and ended like this.
    Build(ExitStatus),
}

/// Builds the kernel programs of the workspace at `root` and gives the object's path.
pub(crate) fn build(root: &Path, toolchain: &Toolchain) -> Result<PathBuf, Failed> {
    let mut command = command(&cargo(toolchain), "build", root, toolchain);
    let status = command.status().map_err(Failed::Start)?;
    if !status.success() {
        return Err(Failed::Build(status));
    }
    Ok(target_folder(root)
        .join(TARGET)
        .join("release")
        .join(BINARY))
}

/// The cargo that fits the compiler: its own if it has one, otherwise the one that runs now.
pub(crate) fn cargo(toolchain: &Toolchain) -> PathBuf {
    match &toolchain.compiler.cargo {
        Some(own) => own.clone(),
        None => env::var_os("CARGO").map_or_else(|| "cargo".into(), PathBuf::from),
    }
}

/// A command that makes `cargo` build (or check, or lint: `verb`) the kernel programs.
///
/// The BPF target is tier 3: `core` is built from source, and `RUSTC_BOOTSTRAP` lets a stable
/// compiler do so.
pub(crate) fn command(cargo: &Path, verb: &str, root: &Path, toolchain: &Toolchain) -> Command {
    let compiler = &toolchain.compiler;
    let mut command = Command::new(cargo);
    without_outer_cargo(&mut command);
    command
        .current_dir(root)
        .args([verb, "--locked", "--release"])
        .args(["--package", "lb-ebpf", "--bin", BINARY])
        .args(["--target", TARGET, "-Z", "build-std=core", "--target-dir"])
        .arg(target_folder(root))
        .env("RUSTC", &compiler.rustc)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTC_WRAPPER", "")
        .env("LD_LIBRARY_PATH", &compiler.libraries)
        .env("CARGO_ENCODED_RUSTFLAGS", rustflags(&toolchain.linker));
    command
}

/// Removes what an outer cargo left in the environment, and everything that would give this
/// build other flags than the ones chosen here. Settings of network and terminal stay.
pub(crate) fn without_outer_cargo(command: &mut Command) {
    for (name, _) in env::vars_os() {
        if describes_outer_build(&name) {
            command.env_remove(name);
        }
    }
}

fn describes_outer_build(name: &OsStr) -> bool {
    let Some(name) = name.to_str() else {
        return false;
    };
    let kept = [
        "CARGO_HOME",
        "CARGO_NET_",
        "CARGO_HTTP_",
        "CARGO_TERM_",
        "CARGO_REGISTR",
    ];
    let removed = ["CARGO", "RUSTC", "RUSTDOC", "RUSTFLAGS", "DEP_"];
    let exactly = [
        "TARGET",
        "HOST",
        "PROFILE",
        "OUT_DIR",
        "NUM_JOBS",
        "OPT_LEVEL",
        "DEBUG",
    ];
    let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix));
    (starts(&removed) && !starts(&kept)) || exactly.contains(&name)
}

fn target_folder(root: &Path) -> PathBuf {
    root.join("target/ebpf")
}

/// Flags for the target's code, in cargo's encoding: separated by the byte 0x1f.
fn rustflags(linker: &Path) -> String {
    let arch = env::consts::ARCH;
    let flags = [
        format!("--cfg=bpf_target_arch=\"{arch}\""),
        // The names and types in the debug information are what BTF is made of.
        "-Cdebuginfo=2".into(),
        "-Clink-arg=--btf".into(),
        // Atomic operations that return the old value need the third instruction set.
        "-Ctarget-cpu=v3".into(),
        "-Clink-arg=-O3".into(),
        format!("-Clinker={}", linker.display()),
    ];
    flags.join("\x1f")
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start(error) => write!(f, "start cargo to build lb-ebpf: {error}"),
            Self::Build(status) => write!(f, "build lb-ebpf's kernel programs: {status}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outer_build_does_not_leak_in_but_network_settings_stay() {
        for name in [
            "CARGO_PKG_NAME",
            "RUSTFLAGS",
            "RUSTC_WORKSPACE_WRAPPER",
            "CARGO",
            "TARGET",
        ] {
            assert!(describes_outer_build(OsStr::new(name)), "{name}");
        }
        for name in [
            "CARGO_HOME",
            "CARGO_NET_OFFLINE",
            "CARGO_TERM_COLOR",
            "PATH",
            "RUSTUP_HOME",
        ] {
            assert!(!describes_outer_build(OsStr::new(name)), "{name}");
        }
    }

    #[test]
    fn flags_with_spaces_stay_one_flag() {
        let flags = rustflags(Path::new("/a b/bpf-linker"));

        assert!(
            flags
                .split('\x1f')
                .any(|flag| flag == "-Clinker=/a b/bpf-linker")
        );
    }
}
