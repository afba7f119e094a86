//! The guest's user space: packages of the distribution, unpacked, with what their maintainer scripts would have made.

use std::fs;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::apt::Apt;
use super::cache::{Cache, Cached};
use super::{cpio, unpack};

/// What a guest can run; apt adds what these depend on.
const PACKAGES: &[&str] = &[
    "apt",
    "base-files",
    "bash",
    "coreutils",
    "crun",
    "dash",
    "diffutils",
    "dpkg",
    "ethtool",
    "findutils",
    "grep",
    "iproute2",
    "iputils-ping",
    "kmod",
    "less",
    "libc-bin",
    "libudev1",
    "mount",
    "procps",
    "rpm",
    "sed",
    "tar",
    "udev",
    "util-linux",
];

/// Dependencies of maintainer scripts and of parts that no scenario uses. They would double the guest's size.
const NOT_NEEDED: &[&str] = &[
    "adduser",
    "debconf",
    "debugedit",
    "libarchive13",
    "libgomp1",
    "libicu72",
    "libmagic-mgc",
    "libmagic1",
    "libpam-modules",
    "libpam-modules-bin",
    "libperl5.36",
    "libxml2",
    "passwd",
    "perl",
    "perl-base",
    "perl-modules-5.36",
];

const WITHOUT: &[&str] = &[
    "./usr/share/doc/*",
    "./usr/share/man/*",
    "./usr/share/locale/*",
    "./usr/share/info/*",
    "./usr/share/lintian/*",
    "./usr/share/bash-completion/*",
    // Names for vendors' devices; the rules work without.
    "*/udev/hwdb.d/*",
];

/// Files that maintainer scripts or an administrator make.
const FILES: &[(&str, &str)] = &[
    (
        "etc/passwd",
        "root:x:0:0:root:/root:/bin/bash\n_apt:x:42:65534::/nonexistent:/usr/sbin/nologin\n\
         nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    ),
    (
        "etc/group",
        "root:x:0:\nadm:x:4:\ntty:x:5:\ndisk:x:6:\nlp:x:7:\nkmem:x:15:\ndialout:x:20:\nfloppy:x:25:\ntape:x:26:\naudio:x:29:\n\
         cdrom:x:24:\nvideo:x:44:\nplugdev:x:46:\ninput:x:104:\nkvm:x:105:\nrender:x:106:\nsgx:x:107:\nnogroup:x:65534:\n",
    ),
    ("etc/nsswitch.conf", "passwd: files\ngroup: files\nshadow: files\nhosts: files\n"),
    ("etc/hosts", "127.0.0.1 localhost\n::1 localhost\n"),
    ("etc/hostname", "lab\n"),
    ("etc/machine-id", "6c616200000000000000000000000001\n"),
    ("root/.bashrc", "PS1='lab# '\n"),
    ("root/.bash_profile", ". ~/.bashrc\n"),
    ("var/lib/dpkg/status", ""),
    ("var/lib/dpkg/available", ""),
    ("var/lib/dpkg/diversions", ""),
    ("var/lib/dpkg/statoverride", ""),
];

const FOLDERS: &[&str] = &[
    "dev",
    "etc/modprobe.d",
    "etc/depmod.d",
    "proc",
    "run",
    "share",
    "sys",
    "tmp",
    "var/cache/apt/archives/partial",
    "var/lib/apt/lists/partial",
    "var/lib/dpkg/info",
    "var/lib/dpkg/updates",
    "var/lib/dpkg/triggers",
    "var/log/apt",
];

/// The part of a guest that is the same for every kernel.
pub(crate) fn archive(apt: &Apt, cache: &Cache) -> anyhow::Result<Cached> {
    cache.folder("guest-root", &[include_str!("guest_root.rs"), include_str!("cpio.rs")], |folder| {
        make(apt, folder)
    })
}

/// The archive file in the folder of [`archive`].
pub(crate) fn file(cached: &Cached) -> PathBuf {
    cached.path().join("root.cpio")
}

fn make(apt: &Apt, folder: &Path) -> anyhow::Result<()> {
    let mut packages = apt.closure(PACKAGES, None)?;
    packages.retain(|package| !NOT_NEEDED.contains(&package.name.as_str()));
    let downloads = folder.join("packages");
    fs::create_dir(&downloads).context("cannot create a folder for downloads")?;
    apt.download(&packages, &downloads)?;
    let root = folder.join("root");
    unpack::into_root(&unpack::packages_in(&downloads)?, &root, WITHOUT)?;
    for name in FOLDERS {
        fs::create_dir_all(root.join(name)).with_context(|| format!("cannot create {name}"))?;
    }
    for (name, text) in FILES {
        let path = root.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
        }
        fs::write(&path, text).with_context(|| format!("cannot write {name}"))?;
    }
    let file = fs::File::create(folder.join("root.cpio")).context("cannot create root.cpio")?;
    let mut archive = cpio::Archive::new(BufWriter::new(file));
    archive.tree(&root, |_| true)?;
    // The kernel opens it for PID 1 before anything is mounted (init/main.c, `console_on_rootfs`).
    archive.character_device("dev/console", 0o600, 5, 1).context("cannot write root.cpio")?;
    archive.finish().context("cannot write root.cpio")?;
    fs::remove_dir_all(&root).context("cannot remove the unpacked root")?;
    fs::remove_dir_all(&downloads).context("cannot remove the downloads")
}
