//! Puts a compiler and a linker for lb-ebpf onto this machine, where `toolchain` finds none.
//!
//! Everything goes into veer's cache folder and appears there by one rename, so an interrupted
//! set-up leaves nothing half done. Only where Debian's packages are not to be had, rustup is
//! asked for one more toolchain.

use std::{
    env,
    fs::{self, File},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, anyhow};
use nix::fcntl::{Flock, FlockArg};

use crate::{
    apt::{self, Apt},
    object, process,
    toolchain::{self, Compiler, LINKER_VERSION, Missing, Places, Toolchain},
};

/// Debian's newest compiler, which it carries for its browsers.
const PACKAGES: [&str; 4] = ["rustc-web", "cargo-web", "rust-web-src", "rust-web-clippy"];
/// Of the packages above, what no build reads. The sources of the compiler itself are 400 MB.
const UNREAD: [&str; 7] = [
    "./usr/share/doc",
    "./usr/share/man",
    "./usr/share/lintian",
    "./usr/src/*/compiler",
    "./usr/src/*/debian",
    "./usr/src/*/src/tools",
    "./usr/src/*/vendor",
];
/// What veer is compared with besides proxies, and what loads it.
const PEERS: [&str; 8] = [
    "aardvark-dns",
    "dnsmasq-base",
    "dnsperf",
    "ipvsadm",
    "redis-server",
    "redis-tools",
    "unbound",
    "wrk",
];
/// What rustup installs: the release that Debian carries.
const RUSTUP_RELEASE: &str = "1.96.0";

/// The places of this machine, from its environment.
pub(crate) fn places() -> Result<Places> {
    Places::from_env(|name| env::var_os(name))
        .context("find a folder for veer's cache: set HOME or XDG_CACHE_HOME")
}

/// Gives the toolchain for lb-ebpf, after installing what is missing of it.
///
/// Safe to call from several processes at once: one installs, the others wait and find it.
pub(crate) fn toolchain(places: &Places) -> Result<Toolchain> {
    if let Ok(found) = toolchain::find(places) {
        return Ok(found);
    }
    let _lock = lock(&places.cache, "toolchain")?;
    if let Err(missing @ Missing::Compiler(_)) = toolchain::find(places) {
        process::say(&format!("{missing}"));
        compiler(places)?;
    }
    if let Err(Missing::Linker(compiler)) = toolchain::find(places) {
        linker(places, &compiler)?;
    }
    toolchain::find(places).map_err(|missing| anyhow!("{missing}"))
}

/// Gives the program of the crate `name`, which it builds into the cache where it is missing.
pub(crate) fn tool(places: &Places, name: &str, version: &str) -> Result<PathBuf> {
    let place = places.cache.join("tools").join(format!("{name}-{version}"));
    let program = place.join("bin").join(name);
    let _lock = lock(&places.cache, name)?;
    if !program.is_file() {
        process::say(&format!(
            "building {name} {version} (minutes, once) into {}",
            place.display()
        ));
        atomically(&place, |folder| {
            process::run(cargo_install(name, version).arg("--root").arg(folder))
        })?;
    }
    Ok(program)
}

/// The folder of an unpacked docker.io, downloaded where it is missing.
///
/// Unpacked and not installed, because installing it would start an Engine on this machine.
pub(crate) fn docker(places: &Places) -> Result<PathBuf> {
    unpacked(places, "docker", |apt| {
        let mut packages = vec!["docker.io".to_owned()];
        // From Debian 13 on the client is a package of its own.
        packages.extend(apt.offers("docker-cli").then(|| "docker-cli".to_owned()));
        Ok(packages)
    })
}

/// The folder of the unpacked programs that veer is compared with, downloaded where it is missing.
pub(crate) fn peers(places: &Places) -> Result<PathBuf> {
    // The number changes with the list: a folder that is there is taken to be whole.
    unpacked(places, "peers-2", |apt| {
        let packages = ["haproxy", "nginx", "libnginx-mod-stream"].into_iter();
        // Not every release has these.
        let more = PEERS.into_iter().filter(|name| apt.offers(name));
        Ok(packages.chain(more).map(str::to_owned).collect())
    })
}

/// The folder of the unpacked programs that tests publish ports of, and of their clients; downloaded
/// where it is missing.
pub(crate) fn servers(places: &Places) -> Result<PathBuf> {
    unpacked(places, "servers", |apt| {
        // What the system has of them is downloaded too: they are looked for in one place.
        let mut packages = vec!["--reinstall".to_owned()];
        packages.extend(SERVERS.map(str::to_owned));
        let parts = apt.dependencies("postgresql")?;
        packages.extend(parts.into_iter().filter(|name| is_postgres(name)));
        Ok(packages)
    })
}

/// Nothing of these is for one release of Debian alone.
const SERVERS: [&str; 6] = [
    "curl",
    "nginx",
    "openssl",
    "redis-server",
    "redis-tools",
    "tftpd-hpa",
];

/// True for `postgresql-15` and `postgresql-client-15`, whatever the number is.
fn is_postgres(package: &str) -> bool {
    let release = package.strip_prefix("postgresql-").unwrap_or_default();
    let release = release.strip_prefix("client-").unwrap_or(release);
    !release.is_empty() && release.chars().all(|digit| digit.is_ascii_digit())
}

/// The folder `name` of the cache with these packages and what they need, unpacked: nothing is
/// installed, and no service is started.
fn unpacked(
    places: &Places,
    name: &str,
    packages: impl FnOnce(&Apt) -> Result<Vec<String>>,
) -> Result<PathBuf> {
    let place = places.cache.join(name);
    let _lock = lock(&places.cache, name)?;
    if !place.is_dir() {
        let apt = Apt::of_host()?;
        let packages = packages(&apt)?;
        process::say(&format!(
            "unpacking {} into {}; nothing is installed or started",
            packages.join(" "),
            place.display()
        ));
        let packages: Vec<&str> = packages.iter().map(String::as_str).collect();
        let debs = apt.download(&packages)?;
        atomically(&place, |folder| {
            debs.iter()
                .try_for_each(|deb| apt::unpack(deb, folder, &[]))
        })?;
    }
    Ok(place)
}

/// The environment in which the programs that are unpacked below `roots` are found and find their
/// libraries.
pub(crate) fn variables(roots: &[PathBuf]) -> Result<Vec<(String, String)>> {
    let triple = format!("{}-linux-gnu", env::consts::ARCH);
    let libraries = [format!("usr/lib/{triple}"), format!("lib/{triple}")];
    let programs = ["usr/bin", "usr/sbin", "sbin"].map(str::to_owned);
    let variable = |name: &str, folders: &[String]| -> Result<(String, String)> {
        Ok((name.to_owned(), extended(name, roots, folders)?))
    };
    Ok(vec![
        variable("PATH", &programs)?,
        variable("LD_LIBRARY_PATH", &libraries)?,
    ])
}

/// The folders in the variable `name`, followed by `more` of them below each of `roots`.
fn extended(name: &str, roots: &[PathBuf], more: &[String]) -> Result<String> {
    let before = env::var_os(name).unwrap_or_default();
    let folders = env::split_paths(&before).filter(|folder| !folder.as_os_str().is_empty());
    let ours = roots
        .iter()
        .flat_map(|root| more.iter().map(|folder| root.join(folder)));
    let all = env::join_paths(folders.chain(ours)).with_context(|| format!("extend {name}"))?;
    all.into_string()
        .ok()
        .with_context(|| format!("{name} is not UTF-8"))
}

/// Waits for the exclusive use of `name` in the cache; released on drop.
pub(crate) fn lock(cache: &Path, name: &str) -> Result<Flock<File>> {
    fs::create_dir_all(cache).with_context(|| format!("create {}", cache.display()))?;
    let path = cache.join(format!("{name}.lock"));
    let open = || File::create(&path).with_context(|| format!("open {}", path.display()));
    match Flock::lock(open()?, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(lock),
        Err(_) => {
            process::say(&format!(
                "waiting for another set-up, which holds {}",
                path.display()
            ));
            Flock::lock(open()?, FlockArg::LockExclusive)
                .map_err(|(_, error)| anyhow!("lock {}: {error}", path.display()))
        }
    }
}

/// Fills a new folder with `fill` and moves it to `place`: there it is complete or absent.
/// Replaces what was there, which the caller has found to be of no use.
pub(crate) fn atomically(place: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let parent = place.parent().context("a place in the cache")?;
    let name = place.file_name().context("a place in the cache")?;
    let partial = parent.join(format!(
        ".{}-{}",
        name.to_string_lossy(),
        std::process::id()
    ));
    fs::create_dir_all(&partial).with_context(|| format!("create {}", partial.display()))?;
    let filled = fill(&partial).and_then(|()| {
        if place.exists() {
            fs::remove_dir_all(place).with_context(|| format!("remove {}", place.display()))?;
        }
        fs::rename(&partial, place).with_context(|| format!("create {}", place.display()))
    });
    if filled.is_err() {
        // The error that matters is the one that stopped the filling.
        let _ = fs::remove_dir_all(&partial);
    }
    filled
}

fn compiler(places: &Places) -> Result<()> {
    let debian = if Apt::is_here() {
        compiler_from_debian(places)
    } else {
        Err(anyhow!("this machine has no apt-get"))
    };
    let Err(no_debian) = debian else {
        return Ok(());
    };
    let Err(no_rustup) = compiler_from_rustup() else {
        return Ok(());
    };
    Err(anyhow!(
        "no compiler for lb-ebpf could be installed:\n  \
         Debian packages: {no_debian:#}\n  \
         rustup: {no_rustup:#}\n\
         Install one by hand, then try again:\n  \
         rustup toolchain install {RUSTUP_RELEASE} --profile minimal --component rust-src clippy\n\
         or, as root on Debian 12 or 13 without another rustc:\n  \
         apt-get install {}\n\
         or name one (with its sources and a shared libLLVM) in VEER_EBPF_RUSTC.",
        PACKAGES.join(" ")
    ))
}

fn compiler_from_debian(places: &Places) -> Result<()> {
    process::say(&format!(
        "[1/3] downloading {} (about 160 MB); the system is not changed",
        PACKAGES.join(", ")
    ));
    let apt = Apt::of_host()?;
    let parts = apt.dependencies(PACKAGES[0])?;
    let parts = parts
        .iter()
        .map(String::as_str)
        .filter(|name| belongs_to_compiler(name));
    // What the system has of it is downloaded too: a toolchain must be complete in one place.
    let wanted: Vec<&str> = ["--reinstall"]
        .into_iter()
        .chain(PACKAGES)
        .chain(parts)
        .collect();
    let debs = apt.download(&wanted)?;
    atomically(
        &toolchain::unpacked_folder(places).join("debian"),
        |folder| unpack(&debs, folder),
    )
}

/// True for the compiler's libraries, as against those of the system it runs on.
fn belongs_to_compiler(package: &str) -> bool {
    package.starts_with("libstd-rust") || package.to_ascii_lowercase().starts_with("libllvm")
}

fn unpack(debs: &[PathBuf], folder: &Path) -> Result<()> {
    for (number, deb) in debs.iter().enumerate() {
        let name = deb.file_stem().unwrap_or_default().to_string_lossy();
        process::say(&format!(
            "[2/3] unpacking {name} ({} of {})",
            number + 1,
            debs.len()
        ));
        apt::unpack(deb, folder, &UNREAD)?;
    }
    Ok(())
}

fn compiler_from_rustup() -> Result<()> {
    process::say(&format!(
        "[1/3] asking rustup for {RUSTUP_RELEASE} and its sources, in ~/.rustup"
    ));
    process::run(
        Command::new("rustup")
            .args(["toolchain", "install", RUSTUP_RELEASE, "--no-self-update"])
            .args([
                "--profile",
                "minimal",
                "--component",
                "rust-src",
                "--component",
                "clippy",
            ]),
    )
}

fn linker(places: &Places, compiler: &Compiler) -> Result<()> {
    let (llvm, place) = (compiler.llvm, toolchain::linker_folder(places, compiler));
    let shown = place.display();
    process::say(&format!(
        "[3/3] building bpf-linker {LINKER_VERSION} for LLVM {llvm} (about a minute) into {shown}"
    ));
    atomically(&place, |folder| {
        let prefix = llvm_prefix(folder, &compiler.libllvm)?;
        let mut install = cargo_install("bpf-linker", LINKER_VERSION);
        install.args([
            "--no-default-features",
            "--features",
            &format!("llvm-{llvm}"),
            "--root",
        ]);
        process::run(install.arg(folder).env("LLVM_PREFIX", prefix))
    })
}

/// A command that builds a program of crates.io, with exactly the dependencies of its release.
fn cargo_install(name: &str, version: &str) -> Command {
    let mut install = process::cargo();
    object::without_outer_cargo(&mut install);
    install.args(["install", name, "--version", version, "--locked"]);
    // They run for seconds, but optimising them takes minutes.
    install
        .env("CARGO_PROFILE_RELEASE_DEBUG", "0")
        .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1");
    install
}

/// Makes a folder that looks like an installed LLVM with nothing but the compiler's own library.
fn llvm_prefix(folder: &Path, libllvm: &Path) -> Result<PathBuf> {
    let prefix = folder.join("llvm");
    let lib = prefix.join("lib");
    fs::create_dir_all(&lib).with_context(|| format!("create {}", lib.display()))?;
    let soname = libllvm.file_name().context("the name of libLLVM")?;
    for name in [Path::new("libLLVM.so"), Path::new(soname)] {
        let link = lib.join(name);
        symlink(libllvm, &link).with_context(|| format!("create {}", link.display()))?;
    }
    Ok(prefix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn postgres_is_its_server_and_its_client() {
        assert!(is_postgres("postgresql-15") && is_postgres("postgresql-client-17"));
        assert!(!is_postgres("postgresql-common") && !is_postgres("postgresql-15-cron"));
        assert!(!is_postgres("postgresql-client-common") && !is_postgres("libpq5"));
    }

    #[test]
    fn a_place_is_complete_or_absent() {
        let cache = tempfile::tempdir().unwrap();
        let place = cache.path().join("tool");

        let failed = atomically(&place, |folder| {
            fs::write(folder.join("half"), "")?;
            Err(anyhow!("no network"))
        });
        assert!(failed.is_err());
        assert_eq!(
            fs::read_dir(cache.path()).unwrap().count(),
            0,
            "nothing is left behind"
        );

        atomically(&place, |folder| Ok(fs::write(folder.join("whole"), "")?)).unwrap();
        assert!(place.join("whole").is_file());
    }

    #[test]
    fn an_unusable_place_is_replaced() {
        let cache = tempfile::tempdir().unwrap();
        let place = cache.path().join("tool");
        atomically(&place, |folder| Ok(fs::write(folder.join("old"), "")?)).unwrap();

        atomically(&place, |folder| Ok(fs::write(folder.join("new"), "")?)).unwrap();

        assert!(place.join("new").is_file() && !place.join("old").exists());
    }

    #[test]
    fn an_llvm_prefix_leads_to_the_compilers_own_library() {
        let folder = tempfile::tempdir().unwrap();
        let library = folder.path().join("libLLVM.so.22.1");
        fs::write(&library, "the library").unwrap();

        let prefix = llvm_prefix(folder.path(), &library).unwrap();

        for name in ["libLLVM.so", "libLLVM.so.22.1"] {
            assert_eq!(
                fs::read_to_string(prefix.join("lib").join(name)).unwrap(),
                "the library"
            );
        }
    }
}
