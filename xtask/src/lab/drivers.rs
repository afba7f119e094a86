//! The drivers under test: igb and igbvf of the distribution's kernel, built again in two versions, each packed as .rpm and
//! .deb the way vendors pack theirs. And netdevsim, which the distribution does not ship.

use std::collections::BTreeMap;
use std::fs;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};
use serde::Serialize;

use super::cache::{Cache, Cached};
use super::kernel::KernelTree;
use super::{cpio, package, process};

/// The versions, by the letter scenarios know them by: an upgrade goes from A to B.
const VERSIONS: [(&str, &str); 2] = [("A", "25.07-0.9.7.0"), ("B", "25.10-1.2.8.0")];
/// The modules of one version: name, folder in the kernel's source, the file with `MODULE_LICENSE`, and the kernel's switch.
const MODULES: [Source; 2] = [
    Source {
        module: "igb",
        folder: "drivers/net/ethernet/intel/igb",
        main: "igb_main.c",
        switch: "CONFIG_IGB=m",
    },
    Source {
        module: "igbvf",
        folder: "drivers/net/ethernet/intel/igbvf",
        main: "netdev.c",
        switch: "CONFIG_IGBVF=m",
    },
];
const NETDEVSIM: Source = Source {
    module: "netdevsim",
    folder: "drivers/net/netdevsim",
    main: "netdev.c",
    switch: "CONFIG_NETDEVSIM=m",
};
/// A kernel that no guest runs.
const ANOTHER_KERNEL: &str = "5.14.0-570.12.1.el9_6.x86_64";

/// Where a module's sources are.
#[derive(Debug, Clone, Copy)]
struct Source {
    module: &'static str,
    folder: &'static str,
    main: &'static str,
    switch: &'static str,
}

/// A built module.
#[derive(Debug, Clone)]
pub(crate) struct Built {
    /// Its name.
    pub(crate) module: &'static str,
    /// The folder of its sources in the kernel's tree; packages keep that path.
    pub(crate) folder: &'static str,
    /// The stripped file.
    pub(crate) file: PathBuf,
}

/// The entry for a version in `versions.json`, which the guest reads.
#[derive(Debug, Serialize)]
struct Version {
    version: &'static str,
    srcversions: BTreeMap<&'static str, String>,
}

/// The part of a guest that holds the driver packages of `tree`'s kernel.
pub(crate) fn archive(tree: &KernelTree, cache: &Cache) -> anyhow::Result<Cached> {
    let name = format!("drivers-{}", tree.release());
    let recipe = [include_str!("drivers.rs"), include_str!("package.rs"), &tree.key()];
    cache.folder(&name, &recipe, |folder| make(tree, folder))
}

/// The archive file in the folder of [`archive`].
pub(crate) fn file(cached: &Cached) -> PathBuf {
    cached.path().join("drivers.cpio")
}

fn make(tree: &KernelTree, folder: &Path) -> anyhow::Result<()> {
    let packages = folder.join("packages");
    let builds = folder.join("build");
    fs::create_dir_all(&builds).context("cannot create a folder for builds")?;
    let mut versions = BTreeMap::new();
    for (letter, version) in VERSIONS {
        let mut built = Vec::new();
        for source in MODULES {
            let file = build(tree, source, Some(version), &builds)?;
            built.push(Built { module: source.module, folder: source.folder, file });
        }
        let into = packages.join(letter);
        package::rpm(&built, version, tree.release(), &into.join("rpm"))?;
        package::deb(&built, version, tree.release(), &into.join("deb"))?;
        if letter == "A" {
            let into = packages.join("another-kernel");
            package::rpm(&built, version, ANOTHER_KERNEL, &into.join("rpm"))?;
            package::deb(&built, version, ANOTHER_KERNEL, &into.join("deb"))?;
        }
        let mut srcversions = BTreeMap::new();
        for module in &built {
            srcversions.insert(module.module, srcversion(&module.file)?);
        }
        versions.insert(letter, Version { version, srcversions });
    }
    let netdevsim = build(tree, NETDEVSIM, None, &builds)?;
    fs::copy(&netdevsim, packages.join("netdevsim.ko")).context("cannot copy netdevsim")?;
    let json = serde_json::to_string_pretty(&versions).context("cannot write the versions as JSON")?;
    fs::write(packages.join("versions.json"), json).context("cannot write versions.json")?;

    let file = fs::File::create(folder.join("drivers.cpio")).context("cannot create drivers.cpio")?;
    let mut archive = cpio::Archive::new(BufWriter::new(file));
    archive.directory("lab", 0o755).context("cannot write drivers.cpio")?;
    archive.directory("lab/packages", 0o755).context("cannot write drivers.cpio")?;
    archive.tree_below(&packages, "lab/packages", |_| true)?;
    archive.finish().context("cannot write drivers.cpio")?;
    fs::remove_dir_all(&builds).context("cannot remove the builds")
}

/// Builds one module out of tree and returns a stripped copy. The second version of a module is built where the first one
/// was, so that make compiles only what differs.
///
/// `MODULE_VERSION` gives it a version, and with it a srcversion (scripts/mod/modpost.c, `add_srcversion`), which the inbox
/// modules of this distribution lack.
fn build(tree: &KernelTree, source: Source, version: Option<&str>, builds: &Path) -> anyhow::Result<PathBuf> {
    let build = builds.join(source.module);
    if !build.exists() {
        process::run(Command::new("cp").arg("--recursive").arg(tree.source(source.folder)).arg(&build))?;
    }
    if let Some(version) = version {
        let original = tree.source(source.folder).join(source.main);
        let text =
            fs::read_to_string(&original).with_context(|| format!("cannot read {}", original.display()))?;
        ensure!(!text.contains("MODULE_VERSION("), "{} already has a version", original.display());
        let main = build.join(source.main);
        fs::write(&main, format!("{text}\nMODULE_VERSION(\"{version}\");\n"))
            .with_context(|| format!("cannot write {}", main.display()))?;
    }
    let jobs = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut make = Command::new("make");
    make.arg(format!("-j{jobs}")).arg("-C").arg(tree.headers()).arg(format!("M={}", build.display()));
    process::run(make.args([source.switch, "modules"]))?;
    let built = build.join(format!("{}.ko", source.module));
    let file = builds.join(format!("{}-{}.ko", source.module, version.unwrap_or("plain")));
    process::run(Command::new("strip").arg("--strip-debug").arg("-o").arg(&file).arg(&built))?;
    Ok(file)
}

fn srcversion(module: &Path) -> anyhow::Result<String> {
    let text = process::output(Command::new("/sbin/modinfo").args(["-F", "srcversion"]).arg(module))?;
    let srcversion = text.trim();
    ensure!(!srcversion.is_empty(), "{} has no srcversion", module.display());
    Ok(srcversion.to_owned())
}
