//! Trees like nodes of each distribution, for what is built and installed on them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::program::{CommandResult, Sandbox};

pub(crate) const VERSION: &str = "25.10-1.2.8.0";
pub(crate) const SOURCES: &str = "/run/mellanox/src/MLNX_OFED_SRC-25.10-1.2.8.0";

/// A node's tree in a sandbox.
pub(crate) struct NodeTree {
    pub(crate) sandbox: Sandbox,
}

impl NodeTree {
    /// A container of `own_os` on a host of `host_os`, names of `nic-packages`' os-release texts.
    pub(crate) fn new(own_os: &str, host_os: Option<&str>, kernel: &str, gcc: &str) -> Self {
        let tree = Self { sandbox: Sandbox::new() };
        let texts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../nic-packages/tests/os-release");
        let os = |name: &str| fs::read_to_string(texts.join(name)).unwrap();
        tree.write("etc/os-release", os(own_os));
        if let Some(host_os) = host_os {
            tree.write("host/etc/os-release", os(host_os));
        }
        tree.write("proc/sys/kernel/osrelease", kernel);
        tree.write("proc/sys/kernel/random/boot_id", "0c2f7a1e-6b5d-4f3a-9e8c-d1b2a3948576\n");
        tree.write("proc/version", format!("Linux version {kernel} (b@h) ({gcc}, GNU ld 2.42) #1\n"));
        tree.program(&format!("{}/install.pl", SOURCES.trim_start_matches('/')), "#!/bin/sh\n");
        tree
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.sandbox.path("tree")
    }

    pub(crate) fn write(&self, path: &str, text: impl AsRef<[u8]>) {
        let path = self.root().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(crate) fn program(&self, path: &str, text: &str) {
        self.write(path, text);
        fs::set_permissions(self.root().join(path), fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Runs the program on the tree, with the variables of the operator's pod and these.
    pub(crate) fn run(&self, variables: &[(&str, &str)], arguments: &[&str]) -> CommandResult {
        let (root, state) = (self.root().display().to_string(), self.sandbox.state().display().to_string());
        let options = ["--root", &root, "--state-dir", &state, "--log", "off"];
        let pod = [("NVIDIA_NIC_DRIVER_VER", VERSION), ("NVIDIA_NIC_DRIVER_PATH", SOURCES)];
        self.sandbox.run_with(&[&pod, variables].concat(), &[&options, arguments].concat())
    }
}

/// A Debian package that holds these files.
pub(crate) fn deb(name: &str, version: &str, architecture: &str, files: &[&str]) -> Vec<u8> {
    let control = format!(
        "Package: {name}\nVersion: {version}\nArchitecture: {architecture}\nMaintainer: nobody <nobody@example.org>\n\
         Description: A sample\n"
    );
    let content = |file: &str| (format!(".{file}"), file.as_bytes().to_vec());
    let files: Vec<_> = files.iter().map(|file| content(file)).collect();
    ar(&[
        ("debian-binary", b"2.0\n".to_vec()),
        ("control.tar", tar(&[("./control".to_owned(), control.into_bytes())])),
        ("data.tar", tar(&files)),
    ])
}

/// An ar archive, as dpkg-deb writes it.
pub(crate) fn ar(members: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut archive = b"!<arch>\n".to_vec();
    for (name, content) in members {
        let header = format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, "100644", content.len());
        archive.extend_from_slice(header.as_bytes());
        archive.extend_from_slice(content);
        archive.resize(archive.len().next_multiple_of(2), b'\n');
    }
    archive
}

pub(crate) fn tar(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        archive.append_data(&mut header, name, content.as_slice()).unwrap();
    }
    archive.into_inner().unwrap()
}

/// What gzip makes of these bytes.
pub(crate) fn gzipped(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    std::io::Write::write_all(&mut encoder, bytes).unwrap();
    encoder.finish().unwrap()
}

/// This machine's architecture, in Debian's words.
pub(crate) fn debian_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
