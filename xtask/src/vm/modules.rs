//! Kernel modules: which we keep, what they need, and the index files that `modprobe` reads.
//!
//! # Why
//! Debian's packages hold no index (the host's `depmod` writes it when a kernel is installed), and
//! of some 4,000 modules a guest without hardware can use a tenth.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::elf;
use super::tools::Tools;

/// Folders (or, without `/`, files of one folder) whose modules are of use in a guest.
const KEPT: &[&str] = &[
    "arch/x86/crypto/",
    "crypto/",
    "drivers/block/loop",
    "drivers/char/hw_random/",
    "drivers/char/virtio_console",
    "drivers/virtio/",
    "fs/9p/",
    "fs/ext4/",
    "fs/fuse/",
    "fs/overlayfs/",
    "lib/",
    "net/802/",
    "net/8021q/",
    "net/9p/",
    "net/bridge/",
    "net/core/",
    "net/dns_resolver/",
    "net/ipv4/",
    "net/ipv6/",
    "net/key/",
    "net/llc/",
    "net/mpls/",
    "net/mptcp/",
    "net/netfilter/",
    "net/netlink/",
    "net/nsh/",
    "net/openvswitch/",
    "net/packet/",
    "net/psample/",
    "net/sched/",
    "net/sctp/",
    "net/tls/",
    "net/unix/",
    "net/vmw_vsock/",
    "net/xdp/",
    "net/xfrm/",
];

/// Folders of virtual network devices; `drivers/net/` itself holds some more.
const KEPT_DEVICES: &[&str] = &[
    "bonding",
    "ipvlan",
    "netdevsim",
    "team",
    "vxlan",
    "wireguard",
];

/// What the initramfs loads to reach the host: its files and the ports to talk through.
const BOOT: &[&str] = &[
    "virtio_pci",
    "virtio_console",
    "9pnet_virtio",
    "9p",
    "overlay",
];

/// Name of the file that lists the modules to load at boot, dependencies first.
pub(super) const BOOT_ORDER: &str = "boot-order";

/// One module: its path below the module folder, and what its `.modinfo` section says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Module {
    path: String,
    depends: Vec<String>,
    aliases: Vec<String>,
}

impl Module {
    fn parse(path: &str, file: &[u8]) -> Option<Self> {
        let mut module = Self {
            path: path.to_owned(),
            ..Self::default()
        };
        for pair in elf::section(file, ".modinfo")?.split(|&byte| byte == 0) {
            let pair = String::from_utf8_lossy(pair);
            match pair.split_once('=') {
                Some(("depends", names)) => module.depends.extend(
                    names
                        .split(',')
                        .filter(|name| !name.is_empty())
                        .map(canonical),
                ),
                Some(("alias", alias)) => module.aliases.push(alias.to_owned()),
                _ => {}
            }
        }
        Some(module)
    }
}

/// Modules by canonical name.
type Modules = BTreeMap<String, Module>;

/// Copies the modules that a guest can use, and all that they depend on, from `tree` (a
/// package's `lib/modules/<release>`) to `kept`, uncompressed, with index files.
pub(super) fn install(tree: &Path, kept: &Path, tools: &Tools) -> Result<()> {
    let available = available(tree)?;
    let mut wanted: BTreeSet<_> = available
        .iter()
        .filter(|(_, path)| is_kept(path))
        .map(|(name, _)| name.clone())
        .collect();
    let mut modules = Modules::new();
    while !wanted.is_empty() {
        let paths: Vec<_> = wanted
            .iter()
            .filter_map(|name| available.get(name))
            .collect();
        copy(tree, kept, &paths, tools)?;
        for path in paths {
            let path = uncompressed(path);
            let file = fs::read(kept.join(path)).with_context(|| format!("read module {path}"))?;
            let module = Module::parse(path, &file)
                .with_context(|| format!("module {path} is no ELF file with .modinfo"))?;
            modules.insert(name_of(path), module);
        }
        wanted = modules
            .values()
            .flat_map(|module| module.depends.clone())
            .collect();
        wanted.retain(|name| available.contains_key(name) && !modules.contains_key(name));
    }
    fs::write(kept.join("modules.dep"), dependency_index(&modules))?;
    fs::write(kept.join("modules.alias"), alias_index(&modules))?;
    fs::write(
        kept.join(BOOT_ORDER),
        boot_order(&modules).join("\n") + "\n",
    )?;
    for optional in ["modules.symbols", "modules.softdep"] {
        fs::write(kept.join(optional), "")?;
    }
    let builtin = "modules.builtin";
    fs::copy(tree.join(builtin), kept.join(builtin)).context("copy modules.builtin")?;
    Ok(())
}

/// Canonical name → path of every module below `tree`.
fn available(tree: &Path) -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    let mut folders = vec!["kernel".to_owned()];
    while let Some(folder) = folders.pop() {
        let listing = tree.join(&folder);
        for entry in
            fs::read_dir(&listing).with_context(|| format!("list {}", listing.display()))?
        {
            let entry = entry?;
            let path = format!("{folder}/{}", entry.file_name().to_string_lossy());
            if entry.file_type()?.is_dir() {
                folders.push(path);
            } else if uncompressed(&path).ends_with(".ko") {
                found.insert(name_of(&path), path);
            }
        }
    }
    Ok(found)
}

fn copy(tree: &Path, kept: &Path, paths: &[&String], tools: &Tools) -> Result<()> {
    let mut compressed = Vec::new();
    for path in paths {
        let target = kept.join(path);
        let folder = target.parent().context("a module lies in a folder")?;
        fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
        fs::copy(tree.join(path), &target).with_context(|| format!("copy module {path}"))?;
        if uncompressed(path) != *path {
            compressed.push(target);
        }
    }
    tools.decompress_files(&compressed)
}

fn is_kept(path: &str) -> bool {
    let Some(path) = path.strip_prefix("kernel/") else {
        return false;
    };
    if KEPT.iter().any(|prefix| path.starts_with(prefix)) {
        return true;
    }
    match path
        .strip_prefix("drivers/net/")
        .map(|device| device.split_once('/'))
    {
        Some(Some((folder, _file))) => KEPT_DEVICES.contains(&folder),
        Some(None) => true,
        None => false,
    }
}

fn uncompressed(path: &str) -> &str {
    [".xz", ".zst"]
        .iter()
        .find_map(|suffix| path.strip_suffix(suffix))
        .unwrap_or(path)
}

fn name_of(path: &str) -> String {
    let file = uncompressed(path).rsplit('/').next().unwrap_or_default();
    canonical(file.strip_suffix(".ko").unwrap_or(file))
}

/// The kernel takes `-` and `_` in module names for the same.
fn canonical(name: &str) -> String {
    name.replace('-', "_")
}

/// All that module `name` needs and then itself, in an order in which they can be loaded.
/// Empty when there is no such module (it is then built in).
fn load_order<'a>(modules: &'a Modules, name: &str) -> Vec<&'a Module> {
    let mut order = Vec::new();
    visit(modules, name, &mut BTreeSet::new(), &mut order);
    order
}

fn visit<'a>(
    modules: &'a Modules,
    name: &str,
    seen: &mut BTreeSet<String>,
    order: &mut Vec<&'a Module>,
) {
    let Some(module) = modules.get(name) else {
        return;
    };
    if !seen.insert(name.to_owned()) {
        return;
    }
    for dependency in &module.depends {
        visit(modules, dependency, seen, order);
    }
    order.push(module);
}

/// Text of modules.dep. Readers load a line's modules from its end to its start.
fn dependency_index(modules: &Modules) -> String {
    let mut text = String::new();
    for (name, module) in modules {
        text.push_str(&module.path);
        text.push(':');
        for dependency in load_order(modules, name).into_iter().rev().skip(1) {
            text.push(' ');
            text.push_str(&dependency.path);
        }
        text.push('\n');
    }
    text
}

/// Text of modules.alias: by which other names (patterns) a module is asked for.
fn alias_index(modules: &Modules) -> String {
    let mut text = String::new();
    for (name, module) in modules {
        for alias in &module.aliases {
            let _ = writeln!(text, "alias {alias} {name}");
        }
    }
    text
}

/// Paths of the modules to load at boot, dependencies first, each once.
fn boot_order(modules: &Modules) -> Vec<&str> {
    let mut seen = BTreeSet::new();
    let mut order = Vec::new();
    for name in BOOT {
        visit(modules, name, &mut seen, &mut order);
    }
    order
        .into_iter()
        .map(|module| module.path.as_str())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::elf::tests::elf_with;
    use super::*;

    fn modules(list: &[(&str, &[&str])]) -> Modules {
        let module = |&(name, depends): &(&str, &[&str])| {
            let path = format!("kernel/{name}.ko");
            let depends = depends.iter().map(ToString::to_string).collect();
            (
                name.to_owned(),
                Module {
                    path,
                    depends,
                    aliases: vec![format!("fs-{name}")],
                },
            )
        };
        list.iter().map(module).collect()
    }

    #[test]
    fn modinfo_tells_dependencies_and_aliases() {
        let modinfo = b"alias=rtnl-link-vxlan\0license=GPL\0depends=udp_tunnel,ip6-udp-tunnel\0";
        let file = elf_with(&[(".modinfo", modinfo)]);

        let module = Module::parse("kernel/drivers/net/vxlan/vxlan.ko", &file).unwrap();

        assert_eq!(module.depends, ["udp_tunnel", "ip6_udp_tunnel"]);
        assert_eq!(module.aliases, ["rtnl-link-vxlan"]);
    }

    #[test]
    fn empty_dependencies_are_none() {
        let file = elf_with(&[(".modinfo", b"depends=\0")]);

        let module = Module::parse("kernel/lib/a.ko", &file).unwrap();

        assert!(module.depends.is_empty());
    }

    #[test]
    fn dependencies_load_before_what_needs_them_and_once() {
        let modules = modules(&[
            ("9p", &["9pnet", "netfs"]),
            ("9pnet", &[]),
            ("netfs", &["fscache", "9pnet"]),
            ("fscache", &[]),
        ]);

        let order: Vec<_> = load_order(&modules, "9p")
            .iter()
            .map(|m| m.path.as_str())
            .collect();

        assert_eq!(
            order,
            [
                "kernel/9pnet.ko",
                "kernel/fscache.ko",
                "kernel/netfs.ko",
                "kernel/9p.ko"
            ]
        );
    }

    #[test]
    fn built_in_dependencies_need_no_loading() {
        let modules = modules(&[("veth", &["built_in"])]);

        assert_eq!(load_order(&modules, "veth").len(), 1);
        assert!(load_order(&modules, "built_in").is_empty());
    }

    #[test]
    fn a_circle_of_dependencies_ends() {
        let modules = modules(&[("a", &["b"]), ("b", &["a"])]);

        assert_eq!(load_order(&modules, "a").len(), 2);
    }

    #[test]
    fn the_dependency_index_is_read_from_the_end_of_a_line() {
        let modules = modules(&[
            ("9p", &["netfs"]),
            ("fscache", &[]),
            ("netfs", &["fscache"]),
        ]);

        assert_eq!(
            dependency_index(&modules),
            "kernel/9p.ko: kernel/netfs.ko kernel/fscache.ko\n\
             kernel/fscache.ko:\n\
             kernel/netfs.ko: kernel/fscache.ko\n"
        );
    }

    #[test]
    fn the_alias_index_names_the_module_for_each_alias() {
        assert_eq!(
            alias_index(&modules(&[("overlay", &[])])),
            "alias fs-overlay overlay\n"
        );
    }

    #[test]
    fn boot_loads_shared_dependencies_once_and_skips_what_is_built_in() {
        let modules = modules(&[
            ("9p", &["9pnet"]),
            ("9pnet", &[]),
            ("9pnet_virtio", &["9pnet"]),
            ("overlay", &[]),
            ("veth", &[]),
        ]);

        let order = boot_order(&modules);

        assert_eq!(
            order,
            [
                "kernel/9pnet.ko",
                "kernel/9pnet_virtio.ko",
                "kernel/9p.ko",
                "kernel/overlay.ko"
            ]
        );
    }

    #[test]
    fn names_are_canonical_whatever_the_file_is_called() {
        assert_eq!(
            name_of("kernel/arch/x86/crypto/crc32c-intel.ko.xz"),
            "crc32c_intel"
        );
        assert_eq!(name_of("kernel/drivers/net/veth.ko"), "veth");
    }

    #[test]
    fn kept_are_virtual_devices_and_network_code_but_no_hardware() {
        for path in [
            "kernel/drivers/net/veth.ko.xz",
            "kernel/drivers/net/vxlan/vxlan.ko",
            "kernel/drivers/net/vxlan.ko",
            "kernel/net/sched/cls_bpf.ko",
            "kernel/net/bridge/bridge.ko.xz",
            "kernel/drivers/virtio/virtio_pci.ko",
            "kernel/fs/overlayfs/overlay.ko",
        ] {
            assert!(is_kept(path), "{path}");
        }
        for path in [
            "kernel/drivers/net/ethernet/intel/e1000.ko",
            "kernel/drivers/net/wireless/ath.ko",
            "kernel/net/bluetooth/bluetooth.ko",
            "kernel/sound/core/snd.ko",
        ] {
            assert!(!is_kept(path), "{path}");
        }
    }
}
