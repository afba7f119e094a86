//! Images of the lab: layers that the guest puts on one another, and what an image says of its process.
//!
//! The lowest layer is the distribution's own, on a drive; the others hold a few files each and come with the initramfs.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use anyhow::Context as _;

use crate::lab::{KernelTree, process};
use crate::pipeline::vendor;

/// The layer of the distribution, on the drive.
pub(super) const BASE: &str = "drive/base";
/// The kernel's headers, on the drive.
pub(super) const HEADERS: &str = "drive/headers";
/// The programs under test.
pub(super) const PROGRAM: &str = "program";
/// What makes it Red Hat's user space to a program.
pub(super) const RED_HAT: &str = "red-hat";
/// The toolkit's own.
pub(super) const TOOLKIT: &str = "toolkit";
/// The program that the driver container replaces, as a stand-in.
pub(super) const INCUMBENT: &str = "incumbent";
/// Red Hat's package manager, where all is installed.
pub(super) const DNF_OF_RED_HAT: &str = "dnf";

const CONTAINER_OS: &str = include_str!("../../../crates/nic-packages/tests/os-release/rhel-9.6");
const DNF: &str = include_str!("../../../crates/nic-dtk/tests/peers/dnf");
/// The layer of the stand-in, and of what an image needs in which packages are built.
const OF_INCUMBENT: [(&str, &str, &str); 3] = [
    (INCUMBENT, "root/loader.sh", include_str!("incumbent/loader.sh")),
    (INCUMBENT, "root/entrypoint", include_str!("incumbent/entrypoint")),
    (DNF_OF_RED_HAT, "usr/bin/dnf", include_str!("incumbent/dnf")),
];

/// What a runtime is told of an image.
#[derive(Debug, Clone)]
pub(super) struct Image {
    /// The uppermost first.
    pub(super) layers: Vec<String>,
    pub(super) entrypoint: &'static [&'static str],
    pub(super) arguments: &'static [&'static str],
    pub(super) variables: Vec<(&'static str, String)>,
    pub(super) working_dir: &'static str,
}

/// A version of the driver, by the letter scenarios know it by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Version {
    pub(super) letter: &'static str,
    pub(super) number: &'static str,
}

pub(super) const VERSIONS: [Version; 2] =
    [Version { letter: "A", number: "25.07-0.9.7.0" }, Version { letter: "B", number: "25.10-1.2.8.0" }];

impl Version {
    fn sources_layer(self) -> String {
        format!("sources-{}", self.letter)
    }

    /// Sources whose modules were compiled before.
    fn compiled_layer(self) -> String {
        format!("compiled-{}", self.letter)
    }

    fn modules_layer(self) -> String {
        format!("modules-{}", self.letter)
    }

    fn sources_folder(self) -> String {
        format!("/run/mellanox/src/MLNX_OFED_SRC-{}", self.number)
    }
}

/// The image that installs a version from its sources, on a Red Hat system.
pub(super) fn sources(version: Version) -> Image {
    Image {
        layers: [&*version.sources_layer(), RED_HAT, PROGRAM, BASE].map(str::to_owned).to_vec(),
        arguments: &["sources"],
        variables: [of_driver(version), vec![("NVIDIA_NIC_DRIVER_PATH", version.sources_folder())]].concat(),
        ..driver()
    }
}

/// The same on Debian.
pub(super) fn debian_sources(version: Version) -> Image {
    let mut image = sources(version);
    image.layers.retain(|layer| layer != RED_HAT);
    image
}

/// The image that installs a version from sources that are soon built, on a Red Hat system.
pub(super) fn compiled(version: Version) -> Image {
    Image {
        layers: [&*version.compiled_layer(), DNF_OF_RED_HAT, RED_HAT, PROGRAM, HEADERS, BASE]
            .map(str::to_owned)
            .to_vec(),
        ..sources(version)
    }
}

/// The same with the program that the driver container replaces, as its image starts it.
pub(super) fn incumbent(version: Version) -> Image {
    let mut image = Image { entrypoint: &["/root/loader.sh"], ..compiled(version) };
    for layer in image.layers.iter_mut().filter(|layer| *layer == PROGRAM) {
        *layer = INCUMBENT.to_owned();
    }
    // It knows mlx5's modules.
    image.variables.push(("OFED_BLACKLIST_MODULES", "igb:igbvf".to_owned()));
    image
}

/// The image that has a version's modules for the node's kernel.
pub(super) fn precompiled(version: Version) -> Image {
    Image {
        layers: [&*version.modules_layer(), PROGRAM, BASE].map(str::to_owned).to_vec(),
        arguments: &["precompiled"],
        variables: of_driver(version),
        ..driver()
    }
}

/// OpenShift's Driver Toolkit.
pub(super) fn toolkit() -> Image {
    Image {
        layers: [TOOLKIT, RED_HAT, HEADERS, BASE].map(str::to_owned).to_vec(),
        entrypoint: &[],
        arguments: &["bash"],
        variables: Vec::new(),
        working_dir: "/",
    }
}

fn driver() -> Image {
    Image {
        layers: Vec::new(),
        entrypoint: &["nic-driver", "run"],
        arguments: &[],
        variables: Vec::new(),
        working_dir: "/root",
    }
}

fn of_driver(version: Version) -> Vec<(&'static str, String)> {
    vec![("NVIDIA_NIC_DRIVER_VER", version.number.to_owned()), ("NVIDIA_NIC_CONTAINER_VER", "0".to_owned())]
}

/// Puts the layers that come with the initramfs into `folder`; `packages` holds the versions' packages by letter.
pub(super) fn lay_out(
    tree: &KernelTree,
    packages: &Path,
    programs: &[(&str, &Path)],
    folder: &Path,
) -> anyhow::Result<()> {
    for (name, program) in programs {
        let into = folder.join(PROGRAM).join("usr/bin");
        create(&into)?;
        let into = into.join(name);
        fs::copy(program, &into).with_context(|| format!("cannot copy {}", program.display()))?;
    }
    put_headers(&folder.join(PROGRAM), tree.release())?;
    put(&folder.join(RED_HAT), "etc/os-release", CONTAINER_OS)?;
    put(&folder.join(TOOLKIT), "usr/bin/dnf", DNF)?;
    for (layer, name, text) in OF_INCUMBENT {
        put(&folder.join(layer), name, text)?;
    }
    for version in VERSIONS {
        let compiled = folder.join(version.compiled_layer());
        let below = version.sources_folder();
        vendor::lay_out_compiled(
            &packages.join(version.letter),
            version.number,
            &compiled.join(below.trim_start_matches('/')),
        )?;
        let sources = folder.join(version.sources_layer());
        vendor::lay_out(tree, version.number, &sources.join(below.trim_start_matches('/')))?;
        // As an image's builder installs them.
        let modules = folder.join(version.modules_layer());
        create(&modules)?;
        for package in list(&packages.join(version.letter).join("deb"))? {
            process::run(Command::new("dpkg-deb").arg("--extract").arg(package).arg(&modules))?;
        }
        let (usr, release) = (modules.join("usr"), tree.release());
        if !usr.join("lib/modules").exists() {
            create(&usr.join("lib"))?;
            fs::rename(modules.join("lib/modules"), usr.join("lib/modules"))
                .context("cannot move the modules below usr")?;
            fs::remove_dir(modules.join("lib")).context("cannot remove lib")?;
        }
        for list in ["modules.order", "modules.builtin"] {
            let of_kernel = tree.root().join("usr/lib/modules").join(release).join(list);
            fs::copy(&of_kernel, usr.join("lib/modules").join(release).join(list))
                .with_context(|| format!("cannot copy {}", of_kernel.display()))?;
        }
        process::run(Command::new("depmod").arg("--basedir").arg(&usr).arg(release))?;
    }
    Ok(())
}

/// The headers that others build against, as the vendor's packages leave them: the link by which they are found is absolute.
fn put_headers(layer: &Path, release: &str) -> anyhow::Result<()> {
    let below = format!("usr/src/ofa_kernel/x86_64/{release}");
    put(layer, &format!("{below}/Module.symvers"), "")?;
    let link = layer.join("usr/src/ofa_kernel/default");
    symlink(Path::new("/").join(&below), &link).with_context(|| format!("cannot link {}", link.display()))
}

fn list(folder: &Path) -> anyhow::Result<Vec<std::path::PathBuf>> {
    fs::read_dir(folder)
        .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect())
        .with_context(|| format!("cannot list {}", folder.display()))
}

fn create(folder: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))
}

/// Puts a file into a layer, with the permissions of a program.
fn put(layer: &Path, name: &str, text: &str) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let file = layer.join(name);
    create(file.parent().unwrap_or(layer))?;
    fs::write(&file, text)
        .and_then(|()| fs::set_permissions(&file, fs::Permissions::from_mode(0o755)))
        .with_context(|| format!("cannot write {}", file.display()))
}
