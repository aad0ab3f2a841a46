//! What `cargo xtask vm` promises to the tests that run on other kernels: a guest that is like a
//! machine, and no failure in it that is lost on the way.

use std::fs;

use veer_tests::vm::{on_kernel, told};

#[test]
fn a_failure_on_another_kernel_is_a_failure_here() {
    let output = on_kernel("6.1", ["sh", "-c", "uname -r; echo to stderr >&2; exit 42"]);

    assert_eq!(output.status.code(), Some(42), "{}", told(&output));
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(stdout.starts_with("6.1."), "{stdout}");
    assert!(stderr.contains("\nto stderr\n"), "{stderr}");
}

#[test]
fn a_panic_of_the_guest_is_told_with_its_console() {
    // More than the pipe to whoever passes it on takes: what comes first has left the guest then.
    let script = "echo before; head -c 300000 /dev/zero | tr '\\0' .; echo c >/proc/sysrq-trigger";
    let output = on_kernel("6.12", ["sh", "-c", script]);

    assert_eq!(output.status.code(), Some(125), "{}", told(&output));
    let stdout = text(&output.stdout);
    assert!(stdout.starts_with("before\n."), "{} bytes", stdout.len());
    let stderr = text(&output.stderr);
    assert!(stderr.contains("Kernel panic"), "{stderr}");
}

#[test]
fn a_guest_has_what_the_datapath_needs_and_leaves_the_host_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("of-the-host"), "").expect("write a file");
    let script = "set -e; cd \"$0\"; ls; touch of-the-guest
        ip link add type veth; ip link add type bridge; ip link add type dummy
        ip link add v type vxlan id 1 dstport 4789; ip link show up dev lo
        tc qdisc add dev veth0 clsact; iptables -t nat -L >/dev/null
        touch /tmp/t /run/r; mkdir /sys/fs/bpf/b /sys/fs/cgroup/c";

    let path = folder.path().to_str().expect("a path in UTF-8");
    let output = on_kernel("6.1", ["sh", "-c", script, path]);

    assert!(output.status.success(), "{}", told(&output));
    assert!(
        text(&output.stdout).starts_with("of-the-host\n"),
        "{}",
        told(&output)
    );
    assert!(!folder.path().join("of-the-guest").exists());
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
