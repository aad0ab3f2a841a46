//! Programs as people run them in containers and as clients: nginx, PostgreSQL, Redis, and others.

use std::path::PathBuf;
use std::process::Command;

use lb_userspace::netns::Namespace;

/// Where their files are, below which they lie as in a system: what `cargo xtask test` unpacked, or
/// the machine's own.
pub fn root() -> PathBuf {
    std::env::var_os("VEER_TEST_SERVERS").map_or_else(|| "/".into(), PathBuf::from)
}

/// The first of `places`, below [`root`], that is there. Panics, with what to do, if there is none.
pub fn find(places: &[&str]) -> PathBuf {
    let root = root();
    let found = places
        .iter()
        .map(|place| root.join(place))
        .find(|path| path.is_file());
    found.unwrap_or_else(|| {
        panic!(
            "none of {places:?} is below {}; `cargo xtask test` puts it there",
            root.display()
        )
    })
}

/// Where the programs of PostgreSQL are, below [`root`].
pub fn postgres() -> String {
    let below = root().join("usr/lib/postgresql");
    let releases = std::fs::read_dir(&below).into_iter().flatten().flatten();
    let folders = releases.map(|release| release.path().join("bin"));
    let found = folders.filter(|bin| bin.join("postgres").is_file()).max();
    let found = found.unwrap_or_else(|| {
        panic!(
            "no PostgreSQL in {}; `cargo xtask test` puts it there",
            below.display()
        )
    });
    let found = found.strip_prefix(root()).expect("it is below");
    found.display().to_string()
}

/// What `program` (below [`root`]) prints when it runs in `space` with these arguments; what it says
/// when it fails.
pub fn run<S: AsRef<std::ffi::OsStr>>(
    space: &Namespace,
    program: &str,
    arguments: impl IntoIterator<Item = S>,
) -> Result<String, String> {
    let mut command = Command::new("timeout");
    command
        .arg("60")
        .arg(find(&[program]))
        .args(arguments)
        .env("LD_LIBRARY_PATH", libraries(&root().display().to_string()));
    let output = space.run(|| command.output()).unwrap().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_string();
    if output.status.success() {
        return Ok(text(&output.stdout));
    }
    Err(format!(
        "{program}: {} {}",
        output.status,
        text(&output.stderr)
    ))
}

/// Options of `docker run` that give a container these programs below `/programs`, and the machine's
/// libraries. Nothing is copied.
pub fn mounts() -> Vec<String> {
    let root = root();
    let mut options: Vec<String> = ["/usr", "/lib", "/lib64"]
        .iter()
        .filter(|folder| PathBuf::from(folder).is_dir())
        .map(|folder| format!("--volume={folder}:{folder}:ro"))
        .collect();
    options.push(format!("--volume={}:/programs:ro", root.display()));
    options.push(format!("--env=LD_LIBRARY_PATH={}", libraries("/programs")));
    options
}

/// The folders with the libraries of what lies below `root`.
fn libraries(root: &str) -> String {
    let triple = format!("{}-linux-gnu", std::env::consts::ARCH);
    let root = root.trim_end_matches('/');
    format!("{root}/usr/lib/{triple}:{root}/lib/{triple}")
}
