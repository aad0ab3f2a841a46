//! Which toolchain is found in which tree of files.

use super::*;

/// A made-up tree, and what is looked for in it.
struct Tree {
    folder: tempfile::TempDir,
    places: Places,
}

impl Tree {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(folder.path()).unwrap();
        let places = Places {
            chosen: None,
            cache: root.join("cache"),
            rustup: root.join("rustup"),
            system: root.join("system"),
        };
        Self { folder, places }
    }

    /// Puts a complete compiler into `sysroot`; its file says what it would answer.
    fn add(&self, sysroot: &str, release: &str, llvm: &str) -> PathBuf {
        let sysroot = fs::canonicalize(self.folder.path()).unwrap().join(sysroot);
        for file in ["lib/rustlib/src/rust/library/core/src/lib.rs", "bin/rustc"] {
            fs::create_dir_all(sysroot.join(file).parent().unwrap()).unwrap();
            fs::write(
                sysroot.join(file),
                format!("release: {release}\nLLVM version: {llvm}\n"),
            )
            .unwrap();
        }
        let major = llvm.split('.').next().unwrap();
        fs::write(sysroot.join(format!("lib/libLLVM.so.{major}.1")), "").unwrap();
        sysroot
    }

    fn add_linker(&self, compiler: &Compiler) {
        let bin = linker_folder(&self.places, compiler).join("bin");
        fs::create_dir_all(&bin).unwrap();
        fs::write(bin.join("bpf-linker"), "").unwrap();
    }

    fn compiler(&self) -> Result<Compiler, Missing> {
        find_compiler(answer_of_file, &self.places)
    }
}

fn answer_of_file(rustc: &Path, question: &[&str], _: &[PathBuf]) -> Result<String, String> {
    match question {
        ["-vV"] => fs::read_to_string(rustc).map_err(|error| error.to_string()),
        _ => Ok(format!("{}\n", rustc.ancestors().nth(2).unwrap().display())),
    }
}

fn why(missing: &Missing) -> String {
    missing.to_string()
}

#[test]
fn places_are_tried_in_order() {
    let tree = Tree::new();
    let in_order = [
        "cache/toolchain/debian/usr",
        "rustup/toolchains/1.97.0-x86_64-unknown-linux-gnu",
        "rustup/toolchains/1.96.1-x86_64-unknown-linux-gnu",
        "rustup/toolchains/nightly-x86_64-unknown-linux-gnu",
        "system/usr",
        "system/usr/lib/rust-1.100",
        "system/usr/lib/rust-1.96",
    ];
    let sysroots = in_order.map(|sysroot| tree.add(sysroot, "1.96.0", "22.1.8"));

    for sysroot in sysroots {
        assert_eq!(tree.compiler().unwrap().rustc, sysroot.join("bin/rustc"));
        fs::remove_file(sysroot.join("bin/rustc")).unwrap();
    }
    assert!(matches!(tree.compiler(), Err(Missing::Compiler(_))));
}

#[test]
fn a_toolchain_that_is_still_being_unpacked_is_not_used() {
    let tree = Tree::new();
    tree.add("cache/toolchain/.debian-1/usr", "1.96.0", "22.1.8");

    assert!(matches!(tree.compiler(), Err(Missing::Compiler(_))));
}

#[test]
fn the_chosen_compiler_comes_before_all_others() {
    let mut tree = Tree::new();
    tree.add("cache/toolchain/debian/usr", "1.96.0", "22.1.8");
    let chosen = tree.add("elsewhere", "1.97.0", "22.1.0").join("bin/rustc");

    tree.places.chosen = Some(chosen.clone());

    assert_eq!(tree.compiler().unwrap().rustc, chosen);
}

#[test]
fn an_unusable_chosen_compiler_is_not_replaced_by_another() {
    let mut tree = Tree::new();
    tree.add("cache/toolchain/debian/usr", "1.96.0", "22.1.8");
    let chosen = tree.add("elsewhere", "1.80.1", "18.1.0").join("bin/rustc");

    tree.places.chosen = Some(chosen);

    let missing = tree.compiler().unwrap_err();
    assert!(matches!(missing, Missing::Chosen(_)));
    assert!(why(&missing).contains("1.80.1 is older than"), "{missing}");
}

#[test]
fn each_lack_is_named() {
    let tree = Tree::new();
    tree.add("rustup/toolchains/1.5", "1.87.0", "22.1.8");
    tree.add("rustup/toolchains/1.4", "1.90.0", "20.1.8");
    let no_source = tree.add("rustup/toolchains/1.3", "1.96.0", "22.1.8");
    fs::remove_dir_all(no_source.join("lib/rustlib")).unwrap();
    let no_llvm = tree.add("rustup/toolchains/1.2", "1.96.0", "22.1.8");
    fs::remove_file(no_llvm.join("lib/libLLVM.so.22.1")).unwrap();

    let missing = why(&tree.compiler().unwrap_err());

    for lack in [
        "1.87.0 is older than 1.88.0",
        "knows, 21-23",
        "rust-src",
        "a shared libLLVM",
    ] {
        assert!(missing.contains(lack), "{lack} in: {missing}");
    }
}

#[test]
fn a_compiler_without_its_linker_is_reported_as_such() {
    let tree = Tree::new();
    tree.add("system/usr", "1.96.0", "22.1.8");

    let without = find_by_asking(answer_of_file, &tree.places).unwrap_err();
    tree.add_linker(&tree.compiler().unwrap());
    let with = find_by_asking(answer_of_file, &tree.places);

    assert!(matches!(without, Missing::Linker(_)));
    assert!(with.unwrap().linker.ends_with("bin/bpf-linker"));
}

#[test]
fn the_linker_of_one_libllvm_is_not_used_for_another() {
    let tree = Tree::new();
    let rustup = tree.add("rustup/toolchains/1.96.0", "1.96.0", "22.1.8");
    tree.add("system/usr", "1.96.0", "22.1.8");
    tree.add_linker(&tree.compiler().unwrap());

    fs::remove_file(rustup.join("bin/rustc")).unwrap();

    let found = find_by_asking(answer_of_file, &tree.places);
    assert!(matches!(found, Err(Missing::Linker(_))));
}

#[test]
fn releases_are_read_and_compared_as_numbers() {
    let version = |text| Version::parse(text).unwrap();

    assert_eq!(version("1.97.0-nightly").to_string(), "1.97.0");
    assert!(version("1.100.0") > version("1.99.3"));
    assert_eq!(Version::parse("1.96"), None);
    assert_eq!(Version::parse("1.96.0.1"), None);
    assert_eq!(Version::parse("unknown"), None);
}

#[test]
fn the_oldest_compiler_is_the_one_that_the_workspace_names() {
    let manifest = include_str!("../../../Cargo.toml");
    let named = format!("rust-version = \"{}.{}\"", MINIMUM.major, MINIMUM.minor);

    assert!(manifest.contains(&named));
}

#[test]
fn the_cache_follows_xdg_and_then_home() {
    let env = |name: &str, value: &'static str| {
        let name = name.to_owned();
        move |asked: &str| (asked == name).then(|| OsString::from(value))
    };

    assert_eq!(
        Places::from_env(env("XDG_CACHE_HOME", "/x")).unwrap().cache,
        Path::new("/x/veer")
    );
    let home = Places::from_env(env("HOME", "/h")).unwrap();
    assert_eq!(home.cache, Path::new("/h/.cache/veer"));
    assert_eq!(home.rustup, Path::new("/h/.rustup"));
    assert!(Places::from_env(|_| None).is_none());
}
