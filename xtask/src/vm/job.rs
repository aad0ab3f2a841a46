//! What one run asks of the guest, as files that the guest finds by a kernel parameter.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::str::FromStr;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use super::kernel::Kernel;

/// Variables of the caller's environment that the command sees, by prefix.
const PASSED_PREFIXES: &[&str] = &["CARGO", "LC_", "RUST", "VEER_"];

/// Variables of the caller's environment that the command sees, by name.
const PASSED: &[&str] = &[
    "CI",
    "HOME",
    "LANG",
    "LD_LIBRARY_PATH",
    "NO_COLOR",
    "PATH",
    "TERM",
    "USER",
];

/// `NAME=VALUE`, for the command's environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct EnvVar {
    name: String,
    value: String,
}

impl FromStr for EnvVar {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
        if !is_shell_name(name) {
            return Err(format!("`{name}` is no name for a variable"));
        }
        Ok(Self {
            name: name.to_owned(),
            value: value.to_owned(),
        })
    }
}

/// The files of one run; they vanish with it.
#[derive(Debug)]
pub(super) struct Job {
    folder: TempDir,
    end_mark: String,
}

impl Job {
    pub(super) fn new<S: AsRef<OsStr>>(
        kernel: &Kernel,
        command: &[S],
        env: &[EnvVar],
    ) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("veer-vm-")
            .tempdir()
            .context("create a folder for the run")?;
        ensure!(
            is_plain(folder.path()),
            "{}: the folder for temporary files has a blank in its name, which a kernel parameter \
             cannot carry: set TMPDIR to another",
            folder.path().display()
        );
        // The kernel makes a new one on every read.
        let uuid =
            fs::read_to_string("/proc/sys/kernel/random/uuid").context("get random bytes")?;
        let job = Self {
            folder,
            end_mark: format!("veer-vm-end-{}", uuid.trim()),
        };
        let settings = [
            ("MODULES", quoted(kernel.modules().as_os_str())),
            ("END_MARK", quoted(OsStr::new(&job.end_mark))),
            (
                "ONE_STREAM",
                quoted(OsStr::new(if one_stream() { "yes" } else { "" })),
            ),
        ];
        let settings: Vec<u8> = settings
            .into_iter()
            .flat_map(|(name, value)| [name.as_bytes(), b"=", &value, b"\n"].concat())
            .collect();
        let folder = std::env::current_dir().context("find the current folder")?;
        fs::write(job.path().join("settings"), settings)?;
        fs::write(
            job.path().join("command"),
            script(&folder, &environment(kernel, env), command),
        )?;
        Ok(job)
    }

    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// What the guest appends to the command's output, once that is complete.
    pub(super) fn end_mark(&self) -> &str {
        &self.end_mark
    }
}

/// The command's environment: a part of ours, then what was asked for.
fn environment(kernel: &Kernel, asked: &[EnvVar]) -> BTreeMap<String, Vec<u8>> {
    let mut environment: BTreeMap<_, _> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.as_bytes().to_vec())))
        .filter(|(name, _)| is_shell_name(name) && is_passed(name))
        .collect();
    environment.insert(
        "VEER_VM_KERNEL".to_owned(),
        kernel.id.to_string().into_bytes(),
    );
    for EnvVar { name, value } in asked {
        environment.insert(name.clone(), value.clone().into_bytes());
    }
    environment
}

fn is_passed(name: &str) -> bool {
    PASSED.contains(&name)
        || PASSED_PREFIXES
            .iter()
            .any(|prefix| name.starts_with(prefix))
}

/// A shell script that becomes the command, in `folder`.
fn script<S: AsRef<OsStr>>(
    folder: &Path,
    environment: &BTreeMap<String, Vec<u8>>,
    command: &[S],
) -> Vec<u8> {
    let mut script = Vec::new();
    for (name, value) in environment {
        script.extend(
            [
                b"export ",
                name.as_bytes(),
                b"=",
                &quoted(OsStr::from_bytes(value)),
                b"\n",
            ]
            .concat(),
        );
    }
    script.extend_from_slice(b"export PATH=\"${PATH:+$PATH:}/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/run/veer-vm/bin\"\n");
    script.extend(
        [
            b"cd ",
            &quoted(folder.as_os_str())[..],
            b" || exit 126\nexec",
        ]
        .concat(),
    );
    for word in command {
        script.push(b' ');
        script.extend(quoted(word.as_ref()));
    }
    script.push(b'\n');
    script
}

/// The word as a shell reads it back unchanged, whatever is in it.
fn quoted(word: &OsStr) -> Vec<u8> {
    let mut text = vec![b'\''];
    for &byte in word.as_bytes() {
        match byte {
            b'\'' => text.extend_from_slice(b"'\\''"),
            byte => text.push(byte),
        }
    }
    text.push(b'\'');
    text
}

fn is_shell_name(name: &str) -> bool {
    let word = |c: char| c == '_' || c.is_ascii_alphanumeric();
    name.starts_with(|c: char| word(c) && !c.is_ascii_digit()) && name.chars().all(word)
}

fn is_plain(path: &Path) -> bool {
    !path
        .as_os_str()
        .as_bytes()
        .iter()
        .any(|byte| b" \t\n,\"".contains(byte))
}

/// Whether our stdout and stderr are the same file: the guest then keeps their order.
fn one_stream() -> bool {
    let file = |path| fs::metadata(path).map(|data| (data.dev(), data.ino())).ok();
    let stdout = file("/proc/self/fd/1");
    stdout.is_some() && stdout == file("/proc/self/fd/2")
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn run(command: &[&str], environment: &[(&str, &str)]) -> String {
        let environment = environment
            .iter()
            .map(|(n, v)| ((*n).to_owned(), v.as_bytes().to_vec()))
            .collect();
        let script = script(Path::new("/usr/bin"), &environment, command);
        let output = Command::new("/bin/sh")
            .arg("-c")
            .arg(OsStr::from_bytes(&script))
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    #[test]
    fn words_reach_the_command_unchanged() {
        let words = ["a b", "it's", "$HOME", "\"", "*", "", "new\nline", "\\"];

        let printed = run(&[&["printf", "%s|"], &words[..]].concat(), &[]);

        assert_eq!(printed, words.map(|word| format!("{word}|")).concat());
    }

    #[test]
    fn the_command_gets_its_environment_and_folder() {
        let printed = run(
            &["sh", "-c", "echo \"$NAME in $PWD\""],
            &[("NAME", "it's $x")],
        );

        assert_eq!(printed, "it's $x in /usr/bin\n");
    }

    #[test]
    fn environment_variables_need_a_name_and_a_value() {
        let parsed: EnvVar = "A_1=b=c".parse().unwrap();

        assert_eq!(
            (parsed.name.as_str(), parsed.value.as_str()),
            ("A_1", "b=c")
        );
        assert!("A".parse::<EnvVar>().is_err());
        assert!("1A=b".parse::<EnvVar>().is_err());
        assert!("=b".parse::<EnvVar>().is_err());
    }

    #[test]
    fn of_our_environment_only_what_a_test_may_need_is_passed() {
        assert!(is_passed("RUST_LOG") && is_passed("CARGO_MANIFEST_DIR") && is_passed("PATH"));
        assert!(!is_passed("SSH_AUTH_SOCK") && !is_passed("PATHS"));
    }

    #[test]
    fn a_folder_with_a_blank_cannot_be_a_kernel_parameter() {
        assert!(is_plain(Path::new("/tmp/veer-vm-1")));
        assert!(!is_plain(Path::new("/tmp/my files")));
    }
}
