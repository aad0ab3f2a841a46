//! The compiler and linker that build lb-ebpf: what is on this machine, and which of it is usable.
//!
//! The BPF target has no ready-made `core`, and its objects are linked by bpf-linker. So a usable
//! compiler brings the sources of its own `core` and a shared libLLVM, and a usable linker was
//! built against exactly that libLLVM. This file only looks; `install` puts things there.
//!
//! # Why
//! Only std is used, because lb-userspace's build script includes this file: after one set-up
//! plain `cargo build` and `cargo clippy` find the same toolchain that `cargo xtask` found.

use std::{
    env,
    ffi::OsString,
    fmt, fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Release of bpf-linker that is built for each compiler.
pub(crate) const LINKER_VERSION: &str = "0.13.0";
/// LLVM releases that this bpf-linker can be built against.
const LINKER_LLVM: std::ops::RangeInclusive<u32> = 21..=23;
/// Oldest usable compiler: the `rust-version` of the workspace.
const MINIMUM: Version = Version {
    major: 1,
    minor: 88,
    patch: 0,
};

/// A compiler for lb-ebpf and the linker built for it.
#[derive(Debug)]
pub(crate) struct Toolchain {
    pub(crate) compiler: Compiler,
    pub(crate) linker: PathBuf,
}

/// A usable rustc: new enough, with the sources of its own `core` and a shared libLLVM.
#[derive(Debug)]
pub(crate) struct Compiler {
    pub(crate) rustc: PathBuf,
    /// The cargo of the same release, where the toolchain has one.
    pub(crate) cargo: Option<PathBuf>,
    pub(crate) version: Version,
    /// The shared library itself, for example `…/lib/libLLVM.so.22.1`.
    pub(crate) libllvm: PathBuf,
    /// Major release of LLVM, which selects the feature of bpf-linker.
    pub(crate) llvm: u32,
    /// Folders that rustc and bpf-linker need in `LD_LIBRARY_PATH`.
    pub(crate) libraries: OsString,
}

/// Where to look. A value of its own, so that tests can look into a tree that they made.
#[derive(Debug)]
pub(crate) struct Places {
    /// `VEER_EBPF_RUSTC`: this compiler and no other.
    pub(crate) chosen: Option<PathBuf>,
    /// veer's own folder for what it downloads and builds.
    pub(crate) cache: PathBuf,
    /// rustup's folder.
    pub(crate) rustup: PathBuf,
    /// The distribution's files; `/` except in tests.
    pub(crate) system: PathBuf,
}

/// A release of rustc.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version {
    major: u32,
    minor: u32,
    patch: u32,
}

/// A compiler that exists but cannot build lb-ebpf, and why.
#[derive(Debug)]
pub(crate) struct Rejected {
    rustc: PathBuf,
    why: String,
}

/// What has to be installed before lb-ebpf can be built.
#[derive(Debug)]
pub(crate) enum Missing {
    /// `VEER_EBPF_RUSTC` names a compiler that cannot be used.
    Chosen(Rejected),
    /// No usable compiler; these were looked at.
    Compiler(Vec<Rejected>),
    /// There is a compiler, but no bpf-linker for its LLVM.
    Linker(Box<Compiler>),
}

/// How a compiler is asked something: its path, the arguments, folders of its libraries.
type Ask = fn(&Path, &[&str], &[PathBuf]) -> Result<String, String>;

/// Gives the first usable compiler and its linker, or says what is missing.
pub(crate) fn find(places: &Places) -> Result<Toolchain, Missing> {
    find_by_asking(ask, places)
}

fn find_by_asking(ask: Ask, places: &Places) -> Result<Toolchain, Missing> {
    let compiler = find_compiler(ask, places)?;
    let linker = linker_folder(places, &compiler).join("bin/bpf-linker");
    if linker.is_file() {
        Ok(Toolchain { compiler, linker })
    } else {
        Err(Missing::Linker(Box::new(compiler)))
    }
}

/// The folder in the cache that holds, or will hold, the linker for `compiler`.
///
/// Its name changes with everything that the linker was built against: two compilers of one
/// release can come with different libLLVMs.
pub(crate) fn linker_folder(places: &Places, compiler: &Compiler) -> PathBuf {
    let library = hash(compiler.libllvm.as_os_str().as_encoded_bytes());
    let name = format!("{LINKER_VERSION}-llvm{}-{library:016x}", compiler.llvm);
    places.cache.join("bpf-linker").join(name)
}

/// The folder in the cache where toolchains are unpacked, one folder each.
pub(crate) fn unpacked_folder(places: &Places) -> PathBuf {
    places.cache.join("toolchain")
}

fn find_compiler(ask: Ask, places: &Places) -> Result<Compiler, Missing> {
    if let Some(rustc) = &places.chosen {
        return inspect(ask, rustc).map_err(Missing::Chosen);
    }
    let mut rejected = Vec::new();
    for rustc in candidates(places) {
        match inspect(ask, &rustc) {
            Ok(compiler) => return Ok(compiler),
            Err(why) => rejected.push(why),
        }
    }
    Err(Missing::Compiler(rejected))
}

/// Every compiler on this machine, in the order in which they are tried.
fn candidates(places: &Places) -> Vec<PathBuf> {
    let system = places.system.join("usr/bin/rustc");
    let versioned = children(&places.system.join("usr/lib"), |name| {
        name.starts_with("rust-1.")
    });
    let rustup = children(&places.rustup.join("toolchains"), |_| true);
    // A leading dot marks a toolchain that is still being unpacked.
    let unpacked = children(&unpacked_folder(places), |name| !name.starts_with('.'));
    unpacked
        .iter()
        .map(|folder| folder.join("usr/bin/rustc"))
        .chain(rustup.iter().map(|folder| folder.join("bin/rustc")))
        .chain([system])
        .chain(versioned.iter().map(|folder| folder.join("bin/rustc")))
        .filter(|rustc| rustc.is_file())
        .collect()
}

/// The accepted entries of `folder`, newest first, and nightlies last: those change under the
/// user's feet.
fn children(folder: &Path, accept: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| accept(name))
        .collect();
    names.sort_by_key(|name| {
        (
            name.starts_with("nightly"),
            std::cmp::Reverse(numbers(name)),
        )
    });
    names.iter().map(|name| folder.join(name)).collect()
}

/// The numbers in a name, so that 1.100 sorts after 1.99.
fn numbers(name: &str) -> Vec<u32> {
    name.split(|c: char| !c.is_ascii_digit())
        .filter_map(|digits| digits.parse().ok())
        .collect()
}

/// Asks `rustc` what it is and looks for what has to lie beside it.
fn inspect(ask: Ask, rustc: &Path) -> Result<Compiler, Rejected> {
    inspect_or_why(ask, rustc).map_err(|why| Rejected {
        rustc: rustc.to_owned(),
        why,
    })
}

fn inspect_or_why(ask: Ask, rustc: &Path) -> Result<Compiler, String> {
    // Unpacked packages are not on the loader's path, so the driver must be found before the
    // first question is asked.
    let real = fs::canonicalize(rustc).map_err(|error| error.to_string())?;
    let beside = real
        .ancestors()
        .nth(2)
        .map(library_folders)
        .unwrap_or_default();
    let sysroot = PathBuf::from(ask(rustc, &["--print", "sysroot"], &beside)?.trim());
    let release = ask(rustc, &["-vV"], &beside)?;

    let version = field(&release, "release: ")
        .and_then(Version::parse)
        .ok_or("no release")?;
    if version < MINIMUM {
        return Err(format!("{version} is older than {MINIMUM}"));
    }
    let llvm = field(&release, "LLVM version: ").and_then(|llvm| numbers(llvm).first().copied());
    let llvm = llvm
        .filter(|major| LINKER_LLVM.contains(major))
        .ok_or_else(|| {
            let (first, last) = (LINKER_LLVM.start(), LINKER_LLVM.end());
            format!(
                "its LLVM is none of those that bpf-linker {LINKER_VERSION} knows, {first}-{last}"
            )
        })?;
    if !sysroot
        .join("lib/rustlib/src/rust/library/core/src/lib.rs")
        .is_file()
    {
        return Err("it comes without the sources of core (component rust-src)".into());
    }
    let folders = library_folders(&sysroot);
    let libllvm = folders.iter().find_map(|folder| shared_llvm(folder, llvm));
    let libllvm = libllvm.ok_or("it comes without a shared libLLVM")?;
    let own_cargo = sysroot.join("bin/cargo");
    Ok(Compiler {
        rustc: sysroot.join("bin/rustc"),
        cargo: own_cargo.is_file().then_some(own_cargo),
        version,
        libllvm,
        llvm,
        libraries: joined(&folders),
    })
}

/// Folders of `sysroot` that hold shared libraries: `lib`, and Debian's `lib/<triple>`.
fn library_folders(sysroot: &Path) -> Vec<PathBuf> {
    let lib = sysroot.join("lib");
    let mut folders = children(&lib, |name| name.ends_with("-linux-gnu"));
    folders.push(lib);
    folders
}

fn shared_llvm(folder: &Path, major: u32) -> Option<PathBuf> {
    let exact = format!("libLLVM.so.{major}");
    let prefix = format!("{exact}.");
    children(folder, |name| name == exact || name.starts_with(&prefix))
        .into_iter()
        .next()
}

fn ask(rustc: &Path, question: &[&str], libraries: &[PathBuf]) -> Result<String, String> {
    let mut command = Command::new(rustc);
    command
        .args(question)
        .env("LD_LIBRARY_PATH", joined(libraries));
    let output = command
        .output()
        .map_err(|error| format!("it does not start: {error}"))?;
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        return Err(format!(
            "it fails: {}",
            error.lines().next().unwrap_or("no message")
        ));
    }
    String::from_utf8(output.stdout).map_err(|error| error.to_string())
}

fn joined(folders: &[PathBuf]) -> OsString {
    env::join_paths(folders).unwrap_or_default()
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name))
}

/// FNV-1a: the same for every release of the compiler, unlike std's hashers.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    })
}

// === impl Places ===

impl Places {
    /// The places of this machine, read from the environment by `variable`.
    ///
    /// `None` if there is neither a home nor a cache folder to put things into.
    pub(crate) fn from_env(variable: impl Fn(&str) -> Option<OsString>) -> Option<Self> {
        let path = |name: &str| {
            variable(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        let home = path("HOME");
        let under_home = |folder: &str| home.as_ref().map(|home| home.join(folder));
        let cache = path("XDG_CACHE_HOME")
            .or_else(|| under_home(".cache"))?
            .join("veer");
        let rustup = path("RUSTUP_HOME")
            .or_else(|| under_home(".rustup"))
            .unwrap_or_default();
        Some(Self {
            chosen: path("VEER_EBPF_RUSTC"),
            cache,
            rustup,
            system: "/".into(),
        })
    }
}

// === impl Version ===

impl Version {
    /// Reads `1.96.0`, `1.97.0-nightly` and the like.
    fn parse(text: &str) -> Option<Self> {
        let number = text.trim().split(['-', '+', ' ']).next()?;
        let mut parts = number.split('.').map(|part| part.parse().ok());
        let version = Self {
            major: parts.next()??,
            minor: parts.next()??,
            patch: parts.next()??,
        };
        parts.next().is_none().then_some(version)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

// === impl Missing ===

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Chosen(rejected) => {
                let Rejected { rustc, why } = rejected;
                write!(
                    f,
                    "VEER_EBPF_RUSTC={} cannot build lb-ebpf: {why}",
                    rustc.display()
                )
            }
            Self::Compiler(rejected) => {
                write!(f, "no compiler on this machine can build lb-ebpf")?;
                for Rejected { rustc, why } in rejected {
                    write!(f, "\n  {}: {why}", rustc.display())?;
                }
                Ok(())
            }
            Self::Linker(compiler) => {
                let Compiler {
                    rustc,
                    version,
                    llvm,
                    ..
                } = &**compiler;
                let rustc = rustc.display();
                write!(
                    f,
                    "no bpf-linker for LLVM {llvm} of rustc {version} ({rustc})"
                )
            }
        }
    }
}

// The path is spelled out because build scripts include this file from elsewhere.
#[cfg(test)]
#[path = "toolchain/tests.rs"]
mod tests;
