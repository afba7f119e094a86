//! The kernels scenarios run on: the distribution's packages, unpacked, with their headers and the sources of the drivers
//! that the lab builds.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};
use clap::ValueEnum;

use super::apt::{Apt, BACKPORTS};
use super::cache::{Cache, Cached};
use super::{process, unpack};

/// A kernel of the distribution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum)]
pub(crate) enum Kernel {
    /// Debian 12's own.
    #[value(name = "6.1")]
    V6_1,
    /// The one from backports.
    #[value(name = "6.12")]
    V6_12,
}

/// An unpacked kernel.
#[derive(Debug, Clone)]
pub(crate) struct KernelTree {
    cached: Cached,
    release: String,
}

/// The driver sources that are unpacked, relative to the kernel's source tree.
const SOURCES: [&str; 3] =
    ["drivers/net/ethernet/intel/igb", "drivers/net/ethernet/intel/igbvf", "drivers/net/netdevsim"];

impl Kernel {
    pub(crate) const ALL: [Self; 2] = [Self::V6_1, Self::V6_12];
    pub(crate) const OLDEST: Self = Self::V6_1;
    pub(crate) const NEWEST: Self = Self::V6_12;

    /// Its series, as it is given on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::V6_1 => "6.1",
            Self::V6_12 => "6.12",
        }
    }

    fn suite(self) -> Option<&'static str> {
        match self {
            Self::V6_1 => None,
            Self::V6_12 => Some(BACKPORTS),
        }
    }

    /// Downloads and unpacks it.
    pub(crate) fn unpack(self, apt: &Apt, cache: &Cache) -> anyhow::Result<KernelTree> {
        let name = format!("kernel-{self}");
        let cached = cache
            .folder(&name, &[include_str!("kernel.rs"), self.name()], |folder| self.make(apt, folder))?;
        let modules = cached.path().join("root/usr/lib/modules");
        let releases: Vec<_> = fs::read_dir(&modules)
            .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.file_name())).collect())
            .with_context(|| format!("cannot list {}", modules.display()))?;
        ensure!(releases.len() == 1, "{} holds {} kernels, not one", modules.display(), releases.len());
        let release =
            releases.first().map(|release| release.to_string_lossy().into_owned()).unwrap_or_default();
        Ok(KernelTree { cached, release })
    }

    fn make(self, apt: &Apt, folder: &Path) -> anyhow::Result<()> {
        let source = format!("linux-source-{self}");
        let wanted = ["linux-image-", "linux-headers-", "linux-kbuild-", source.as_str()];
        let mut packages =
            apt.closure(&["linux-image-amd64", "linux-headers-amd64", &source], self.suite())?;
        packages.retain(|package| wanted.iter().any(|prefix| package.name.starts_with(prefix)));
        let downloads = folder.join("packages");
        fs::create_dir(&downloads).context("cannot create a folder for downloads")?;
        apt.download(&packages, &downloads)?;

        let (sources, binaries): (Vec<_>, Vec<_>) =
            unpack::packages_in(&downloads)?.into_iter().partition(|path| {
                path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("linux-source"))
            });
        let root = folder.join("root");
        std::thread::scope(|scope| {
            let unpacked = scope.spawn(|| unpack::into_root(&binaries, &root, &["./usr/share/*"]));
            for package in &sources {
                unpack_sources(package, &source, &folder.join("source"))?;
            }
            unpacked.join().unwrap_or_else(|_| Err(anyhow::anyhow!("the unpacking thread panicked")))
        })?;
        fs::remove_dir_all(&downloads).context("cannot remove the downloads")?;
        make_headers_relocatable(&root)
    }
}

impl fmt::Display for Kernel {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl KernelTree {
    /// `uname -r` of it.
    pub(crate) fn release(&self) -> &str {
        &self.release
    }

    /// The bootable image.
    pub(crate) fn image(&self) -> PathBuf {
        self.root().join("boot").join(format!("vmlinuz-{}", self.release))
    }

    /// Its unpacked packages.
    pub(crate) fn root(&self) -> PathBuf {
        self.cached.path().join("root")
    }

    /// What `/lib/modules/<release>/build` leads to on an installed machine.
    pub(crate) fn headers(&self) -> PathBuf {
        self.root().join("usr/src").join(format!("linux-headers-{}", self.release))
    }

    /// A part of its source tree; see [`SOURCES`].
    pub(crate) fn source(&self, path: &str) -> PathBuf {
        self.cached.path().join("source").join(path)
    }

    /// Changes when the unpacked kernel changes.
    pub(crate) fn key(&self) -> String {
        format!("{} {}", self.cached.key(), self.release)
    }
}

/// The source package holds a compressed archive of the whole tree; of that, only a few folders are kept.
fn unpack_sources(package: &Path, name: &str, into: &Path) -> anyhow::Result<()> {
    fs::create_dir(into).context("cannot create a folder for sources")?;
    let mut open = Command::new("dpkg-deb");
    open.args(["--fsys-tarfile", "/dev/stdin"]);
    let mut inner = Command::new("tar");
    inner.args(["--extract", "--to-stdout", &format!("./usr/src/{name}.tar.xz")]);
    let mut decompress = Command::new("xz");
    decompress.args(["--decompress", "--stdout", "--threads=0"]);
    let mut unpack = Command::new("tar");
    unpack.args(["--extract", "--strip-components=1", "--no-same-owner", "--directory"]).arg(into);
    unpack.args(SOURCES.map(|path| format!("{name}/{path}")));
    process::pipeline(package, vec![open, inner, decompress, unpack])
}

/// The headers' Makefile includes that of the common headers by its absolute path on an installed machine. The file
/// `vmlinux` beside it only serves BTF, which would need another tool and which no scenario uses.
fn make_headers_relocatable(root: &Path) -> anyhow::Result<()> {
    let sources = root.join("usr/src");
    for entry in fs::read_dir(&sources).with_context(|| format!("cannot list {}", sources.display()))? {
        let folder = entry.with_context(|| format!("cannot list {}", sources.display()))?.path();
        let makefile = folder.join("Makefile");
        if !folder.to_string_lossy().ends_with("-amd64") {
            continue;
        }
        let text =
            fs::read_to_string(&makefile).with_context(|| format!("cannot read {}", makefile.display()))?;
        ensure!(text.contains("include /usr/src/"), "{} has another form than expected", makefile.display());
        fs::write(&makefile, text.replace("include /usr/src/", "include ../"))
            .with_context(|| format!("cannot write {}", makefile.display()))?;
        let vmlinux = folder.join("vmlinux");
        if vmlinux.exists() {
            fs::remove_file(&vmlinux).with_context(|| format!("cannot remove {}", vmlinux.display()))?;
        }
    }
    Ok(())
}
