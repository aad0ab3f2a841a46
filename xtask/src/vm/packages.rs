//! Choosing Debian packages: what their index records say, and where the archive is. Pure.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

/// One record of a package index, as far as we use it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Package {
    pub(super) name: String,
    pub(super) version: String,
    depends: String,
}

impl Package {
    /// The first record of `text`, which is what `apt-cache show` prints.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let record = text.split("\n\n").next()?;
        let field = |name: &str| {
            record
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
        };
        Some(Self {
            name: field("Package")?.to_owned(),
            version: field("Version")?.to_owned(),
            depends: field("Depends").unwrap_or_default().to_owned(),
        })
    }

    /// How apt is asked for exactly this version.
    pub(super) fn exact(&self) -> String {
        format!("{}={}", self.name, self.version)
    }

    /// The packages among the dependencies that hold parts of a kernel: image, modules, lists.
    ///
    /// Debian split them into several packages in 7.x, so they are followed rather than named.
    fn kernel_parts(&self) -> impl Iterator<Item = String> {
        let first_choices = self
            .depends
            .split(',')
            .filter_map(|choice| choice.split('|').next());
        first_choices.filter_map(|choice| {
            let mut words = choice
                .split([' ', '(', ')'])
                .filter(|word| !word.is_empty());
            let name = words.next().filter(|name| holds_kernel_parts(name))?;
            match (words.next(), words.next()) {
                (Some("="), Some(version)) => Some(format!("{name}={version}")),
                _ => Some(name.to_owned()),
            }
        })
    }
}

fn holds_kernel_parts(package: &str) -> bool {
    [
        "linux-image-",
        "linux-binary-",
        "linux-modules-",
        "linux-base-",
    ]
    .iter()
    .any(|prefix| {
        package
            .strip_prefix(prefix)
            .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    })
}

/// The packages that make up the kernel of meta package `root`; `show` looks a package up by name
/// or `name=version`.
pub(super) fn kernel_packages(
    root: &str,
    mut show: impl FnMut(&str) -> Result<Package>,
) -> Result<Vec<Package>> {
    let mut found = BTreeMap::new();
    let mut wanted = vec![root.to_owned()];
    while let Some(name) = wanted.pop() {
        let package = show(&name).with_context(|| format!("look up package {name}"))?;
        if !found.contains_key(&package.name) {
            wanted.extend(package.kernel_parts());
            found.insert(package.name.clone(), package);
        }
    }
    found.remove(root);
    Ok(found.into_values().collect())
}

/// Base addresses of Debian's archives, as this host's apt reaches them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mirrors {
    pub(super) archive: String,
    pub(super) security: Option<String>,
}

impl Mirrors {
    /// What `apt-get indextargets` is asked for each index.
    pub(super) const FORMAT: &str = "$(COMPONENT) $(ORIGIN) $(RELEASE) $(REPO_URI)";

    /// From lines of [`Self::FORMAT`]; `None` when no line is Debian's main archive.
    ///
    /// A list that was never fetched leaves `$(ORIGIN)` unexpanded; then the address must end as
    /// Debian's do.
    pub(super) fn parse(index_targets: &str) -> Option<Self> {
        let mut archive = None;
        let mut security = None;
        for line in index_targets.lines() {
            let words: Vec<_> = line.split(' ').collect();
            let &["main", origin, release, uri] = words.as_slice() else {
                continue;
            };
            let uri = uri.trim_end_matches('/');
            if origin != "Debian" && !uri.ends_with("/debian") && !uri.ends_with("/debian-security")
            {
                continue;
            }
            let archive = if release.ends_with("-security") {
                &mut security
            } else {
                &mut archive
            };
            archive.get_or_insert_with(|| uri.to_owned());
        }
        Some(Self {
            archive: archive?,
            security,
        })
    }

    /// Where suite `name` is found, if this host can reach it.
    pub(super) fn of_suite(&self, name: &str) -> Option<&str> {
        if name.ends_with("-security") {
            self.security.as_deref()
        } else {
            Some(&self.archive)
        }
    }
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    const META: &str = "Package: linux-image-amd64\nSource: linux-signed-amd64\n\
                        Version: 7.2.12-1~bpo13+1\n\
                        Depends: linux-base-amd64 (= 7.2.12-1~bpo13+1), linux-image-7.2.12+deb13-amd64 (= 7.2.12-1~bpo13+1)\n\
                        Description: Linux for 64-bit PCs\n\n\
                        Package: linux-image-amd64\nVersion: 6.12.117-1\n";
    const IMAGE: &str = "Package: linux-image-7.2.12+deb13-amd64\nVersion: 7.2.12-1~bpo13+1\n\
                         Depends: dracut | initramfs-tools (>= 0.120+deb8u2) | linux-initramfs-tool, linux-base-7.2.12+deb13-amd64 (= 7.2.12-1~bpo13+1), linux-binary-7.2.12+deb13-amd64 (= 7.2.12-1~bpo13+1), linux-modules-7.2.12+deb13-amd64 (= 7.2.12-1~bpo13+1)\n";

    fn index(name: &str) -> Result<Package> {
        let (name, _version) = name.split_once('=').unwrap_or((name, ""));
        let record = match name {
            "linux-image-amd64" => META.to_owned(),
            "linux-image-7.2.12+deb13-amd64" => IMAGE.to_owned(),
            name if name.ends_with("7.2.12+deb13-amd64") => {
                format!("Package: {name}\nVersion: 1\n")
            }
            name => return Err(anyhow!("nobody should ask for {name}")),
        };
        Package::parse(&record).context("parse")
    }

    #[test]
    fn the_first_record_of_several_counts() {
        let package = Package::parse(META).unwrap();

        assert_eq!(package.exact(), "linux-image-amd64=7.2.12-1~bpo13+1");
    }

    #[test]
    fn a_record_without_a_version_is_no_package() {
        assert_eq!(Package::parse("Package: x\n"), None);
    }

    #[test]
    fn a_kernel_is_its_image_and_modules_and_nothing_else_it_depends_on() {
        let packages = kernel_packages("linux-image-amd64", index).unwrap();

        let names: Vec<_> = packages
            .iter()
            .map(|package| package.name.as_str())
            .collect();
        assert_eq!(
            names,
            [
                "linux-base-7.2.12+deb13-amd64",
                "linux-binary-7.2.12+deb13-amd64",
                "linux-image-7.2.12+deb13-amd64",
                "linux-modules-7.2.12+deb13-amd64"
            ]
        );
    }

    #[test]
    fn parts_are_asked_for_in_the_version_that_the_image_names() {
        let image = Package::parse(IMAGE).unwrap();

        let parts: Vec<_> = image.kernel_parts().collect();

        assert_eq!(parts[1], "linux-binary-7.2.12+deb13-amd64=7.2.12-1~bpo13+1");
    }

    #[test]
    fn a_missing_part_is_named_in_the_error() {
        let error = kernel_packages("linux-image-arm64", index).unwrap_err();

        assert_eq!(error.to_string(), "look up package linux-image-arm64");
    }

    #[test]
    fn mirrors_are_debians_and_not_other_vendors_for_debian() {
        let targets = "main Vendor tool-bookworm https://packages.vendor.test/apt/\n\
                       stable Docker bookworm https://mirror.test/linux/debian/\n\
                       main Debian bookworm http://mirror.test/debian/\n\
                       main Debian bookworm-updates http://other.test/debian/\n\
                       main Debian bookworm-security http://mirror.test/debian-security/\n";

        let mirrors = Mirrors::parse(targets).unwrap();

        assert_eq!(
            mirrors.of_suite("trixie-backports"),
            Some("http://mirror.test/debian")
        );
        assert_eq!(
            mirrors.of_suite("trixie-security"),
            Some("http://mirror.test/debian-security")
        );
    }

    #[test]
    fn mirrors_are_found_before_the_first_update_and_without_a_security_archive() {
        let mirrors = Mirrors::parse("main $(ORIGIN) trixie http://mirror.test/debian/\n").unwrap();

        assert_eq!(
            mirrors.of_suite("trixie"),
            Some("http://mirror.test/debian")
        );
        assert_eq!(mirrors.of_suite("trixie-security"), None);
    }

    #[test]
    fn another_distribution_has_no_mirrors() {
        assert_eq!(
            Mirrors::parse("main Ubuntu noble http://mirror.test/ubuntu/\n"),
            None
        );
    }
}
