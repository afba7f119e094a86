//! What is built, for which node: read before anything is changed.

use std::path::PathBuf;

use nic_build::{
    BuildFacts, BuildInputs, BuildKey, Inventory, InventoryEntry, NotedSettings, Preparation,
    PreparationRequest, Proxies, StartFacts, Word, Work, install_pl, sources_digest,
};
use nic_dtk::{BuildRequest, NfsRdma, SharedFolder, appended_flags, install_arguments};
use nic_host::{Host, KernelRelease, Secret};
use nic_packages::{KernelVariant, Node, RhelReleaseError};

use super::request::{DriverSources, InstallRequest, PackageOrigin};
use crate::phase::obtain_error::ObtainError;

/// A node, and what of it decides what is run on it.
#[derive(Debug)]
pub(in crate::phase) struct ObservedNode {
    pub(in crate::phase) node: Node,
    pub(in crate::phase) start: StartFacts,
    pub(in crate::phase) facts: BuildFacts,
}

impl ObservedNode {
    /// Reads it; `kernel` is another one than the running one to build for.
    pub(in crate::phase) fn read(host: &Host, kernel: Option<&KernelRelease>) -> Result<Self, ObtainError> {
        let mut node = Node::identify(host)?;
        if let Some(kernel) = kernel {
            node.variant = KernelVariant::of(node.distribution.family(), kernel)?;
            node.kernel = kernel.clone();
        }
        let (start, facts) = (StartFacts::observe(host, &node), BuildFacts::observe(host, &node)?);
        Ok(Self { node, start, facts })
    }

    /// The compiler that a build would use, by what is known before one is installed: it must be the same text before and after.
    fn compiler(&self) -> String {
        match self.facts.gcc {
            Some(version) => format!("GCC {version}, which built the kernel"),
            None => {
                format!("the one of the image ({} {})", self.node.own_os.id, self.node.own_os.version_id)
            }
        }
    }
}

/// Who builds.
#[derive(Debug)]
pub(in crate::phase) enum Builder {
    /// This container.
    Here,
    /// The build sidecar, which is asked for this.
    Sidecar(Box<BuildRequest>),
}

/// A build that may be due.
#[derive(Debug)]
pub(in crate::phase) struct Job {
    pub(in crate::phase) observed: ObservedNode,
    pub(in crate::phase) sources: DriverSources,
    pub(in crate::phase) builder: Builder,
    /// Where built packages are kept.
    pub(in crate::phase) entry: Option<InventoryEntry>,
    proxies: Proxies,
    token: Option<Secret>,
}

impl Job {
    /// Reads all that must be right before anything is changed: the node, the sources, the inventory. `None` where nothing is ever
    /// built.
    pub(in crate::phase) fn open(
        host: &Host,
        request: &InstallRequest,
        kernel: Option<&KernelRelease>,
    ) -> Result<Option<Self>, ObtainError> {
        let sources = match &request.origin {
            PackageOrigin::Folder(_) | PackageOrigin::Precompiled => return Ok(None),
            PackageOrigin::Sources(sources) | PackageOrigin::Sidecar { sources, .. } => sources.clone(),
        };
        let program = sources.folder.join("install.pl");
        if !host.path(&program).is_file() {
            return Err(ObtainError::NoSources { program: host.path(program) });
        }
        let observed = ObservedNode::read(host, kernel)?;
        let inventory = sources.inventory.as_ref().map(|path| Inventory::open(host, path)).transpose()?;
        let builder = match &request.origin {
            PackageOrigin::Sidecar { shared_folder, entrypoint, .. } => {
                let (folder, program) = (shared_folder.clone(), entrypoint.clone());
                Builder::Sidecar(Box::new(sidecar_request(&observed.node, &sources, folder, program)?))
            }
            _ => Builder::Here,
        };
        let entry = inventory.map(|inventory| inventory.entry(&observed.node.kernel, &sources.version));
        let (proxies, token) = (request.proxies.clone(), request.token.clone());
        Ok(Some(Self { observed, sources, builder, entry, proxies, token }))
    }

    /// What decides whether stored packages are those that a build would make now. Reads all of the sources.
    pub(in crate::phase) fn key(&self, host: &Host) -> Result<BuildKey, ObtainError> {
        let settings = &self.sources.settings;
        let (compiler, flags) = match &self.builder {
            Builder::Here => (self.observed.compiler(), self.flags()?),
            Builder::Sidecar(request) => {
                ("the one of the build sidecar".to_owned(), install_arguments(&request.env())?)
            }
        };
        Ok(BuildKey {
            settings: NotedSettings {
                nfs_rdma: settings.enable_nfsrdma,
                dkms: settings.use_dkms,
                append_flags: self.sources.append_flags.clone(),
            },
            inputs: BuildInputs {
                kernel: self.observed.node.kernel.clone(),
                sources: sources_digest(host, &self.sources.folder)?,
                compiler,
                flags,
            },
        })
    }

    fn flags(&self) -> Result<Vec<String>, RhelReleaseError> {
        let command = install_pl(&self.observed.node, &self.sources.folder, &self.sources.settings)?;
        let text = |word: &Word| match word {
            Word::Plain(text) => text.clone(),
            Word::Hidden { shown, .. } => shown.clone(),
        };
        Ok(command.argv.iter().skip(1).map(text).collect())
    }

    /// What is run for `work`.
    pub(in crate::phase) fn preparation(&self, work: Work) -> Result<Preparation, RhelReleaseError> {
        let request = PreparationRequest {
            work,
            sources: &self.sources.folder,
            settings: &self.sources.settings,
            token: self.token.as_ref(),
            proxies: &self.proxies,
        };
        Preparation::new(&self.observed.node, &self.observed.start, &self.observed.facts, &request)
    }

    /// What there is to be built here, with packages stored or not.
    pub(in crate::phase) fn work(&self, stored: bool) -> Work {
        let source = match self.builder {
            Builder::Here => nic_build::PackageSource::Sources,
            Builder::Sidecar(_) => nic_build::PackageSource::Sidecar,
        };
        Work::due(source, stored, self.sources.settings.use_dkms)
    }
}

fn sidecar_request(
    node: &Node,
    sources: &DriverSources,
    shared_folder: PathBuf,
    entrypoint: PathBuf,
) -> Result<BuildRequest, RhelReleaseError> {
    let settings = &sources.settings;
    let nfs_rdma = if settings.enable_nfsrdma { NfsRdma::Built } else { NfsRdma::LeftOut };
    let distro = node.rhel_release()?.distro();
    Ok(BuildRequest {
        folder: SharedFolder::new(shared_folder, &node.kernel),
        kernel: node.kernel.clone(),
        version: sources.version.clone(),
        architecture: node.architecture.as_str().to_owned(),
        sources: sources.folder.clone(),
        entrypoint,
        appended_flags: appended_flags(nfs_rdma, &node.kernel, &distro, settings.user_flags.words()),
        use_dkms: settings.use_dkms,
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use nic_build::{BuildSettings, UserFlags, install_pl_with};

    use super::*;

    /// RHCOS 4.18 with a realtime kernel, from a container of RHEL 9.4.
    fn openshift_node() -> Node {
        let tree = tempfile::tempdir().unwrap();
        let texts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../nic-packages/tests/os-release");
        for (path, text) in [
            ("etc/os-release", fs::read_to_string(texts.join("rhel-9.4")).unwrap()),
            ("host/etc/os-release", fs::read_to_string(texts.join("rhcos-4.18")).unwrap()),
            ("proc/sys/kernel/osrelease", "5.14.0-427.73.1.el9_4.x86_64+rt\n".to_owned()),
        ] {
            let path = tree.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Node::identify(&Host::at(tree.path())).unwrap()
    }

    #[test]
    fn what_the_sidecar_is_handed_and_what_it_makes_of_it() {
        let node = openshift_node();
        let user_flags = UserFlags::parse("APPEND_DRIVER_BUILD_FLAGS", "--with 'a b'").unwrap();
        let mut text = String::new();
        for (enable_nfsrdma, use_dkms) in [(false, false), (true, true)] {
            let sources = DriverSources {
                version: "25.10-1.2.8.0".parse().unwrap(),
                folder: PathBuf::from("/run/mellanox/src/MLNX_OFED_SRC-25.10"),
                inventory: None,
                settings: BuildSettings { enable_nfsrdma, use_dkms, user_flags: user_flags.clone() },
                append_flags: "--with 'a b'".to_owned(),
            };
            let request = sidecar_request(&node, &sources, "/mnt/shared".into(), "/root/entrypoint".into());
            let env = request.unwrap().env();
            let arguments = install_arguments(&env).unwrap();
            let build = install_pl_with("/mnt/shared/MLNX_OFED_SRC-25.10".as_ref(), arguments);
            let flags = &env.append_build_flags;
            text += &format!("handed over: {flags}\n{}: {build}\n", build.purpose);
        }
        insta::assert_snapshot!(text, @"
        handed over: --without-mlnx-nfsrdma --without-mlnx-nvme --kernel 5.14.0-427.73.1.el9_4.x86_64+rt --distro rhel9.4 --with 'a b'
        build the driver's packages: /mnt/shared/MLNX_OFED_SRC-25.10/install.pl --build-only --kernel-only --without-knem --without-iser --without-isert --without-srp --with-mlnx-tools --with-ofed-scripts --copy-ifnames-udev --disable-kmp --without-dkms --without-mlnx-nfsrdma --without-mlnx-nvme --kernel 5.14.0-427.73.1.el9_4.x86_64+rt --distro rhel9.4 --with 'a b'
        handed over: --kernel 5.14.0-427.73.1.el9_4.x86_64+rt --distro rhel9.4 --with 'a b'
        build the driver's packages: /mnt/shared/MLNX_OFED_SRC-25.10/install.pl --build-only --kernel-only --without-knem --without-iser --without-isert --without-srp --with-mlnx-tools --with-ofed-scripts --copy-ifnames-udev --kernel 5.14.0-427.73.1.el9_4.x86_64+rt --distro rhel9.4 --with 'a b'
        ");
    }
}
