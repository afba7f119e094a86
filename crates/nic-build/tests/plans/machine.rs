//! Trees that look like nodes.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use nic_build::{
    BuildFacts, BuildSettings, PackageSource, PlannedCommand, Preparation, PreparationRequest, Proxies,
    StartFacts, Step, Work,
};
use nic_host::{Host, Secret};
use nic_packages::{Architecture, Node};

/// What a node is to look like.
#[derive(Clone)]
pub(crate) struct Machine {
    /// The name of this case.
    pub(crate) name: &'static str,
    /// The container's os-release, by its file in the packages crate.
    pub(crate) own_os: &'static str,
    /// The host's; without one this is no container.
    pub(crate) host_os: Option<&'static str>,
    pub(crate) kernel: &'static str,
    pub(crate) architecture: &'static str,
    pub(crate) proc_version: &'static str,
    /// Files that are there besides. Those in a `bin` folder can be executed.
    pub(crate) files: &'static [&'static str],
    pub(crate) enable_nfsrdma: bool,
    pub(crate) use_dkms: bool,
}

const UBUNTU_GCC: &str =
    "Linux version 6.8.0 (b@h) (x86_64-linux-gnu-gcc-13 (Ubuntu 13.2.0-23ubuntu4) 13.2.0, GNU ld 2.42) #31\n";
const OLD_UBUNTU_GCC: &str =
    "Linux version 5.15.0 (b@h) (gcc (Ubuntu 11.2.0-19ubuntu1) 11.2.0, GNU ld 2.38) #25\n";
const DEBIAN_GCC: &str = "Linux version 6.1.0 (b@h) (gcc-12 (Debian 12.2.0-14) 12.2.0, GNU ld 2.40) #1\n";
const SUSE_GCC: &str = "Linux version 6.4.0 (b@h) (gcc (SUSE Linux) 7.5.0, GNU ld 2.43.1) #1\n";
const RHEL_GCC: &str =
    "Linux version 5.14.0 (b@h) (gcc (GCC) 11.5.0 20240719 (Red Hat 11.5.0-5), GNU ld) #1\n";
const OLD_RHEL_GCC: &str =
    "Linux version 4.18.0 (b@h) (gcc version 8.5.0 20210514 (Red Hat 8.5.0-22) (GCC)) #1 SMP\n";
const NEW_RHEL_GCC: &str =
    "Linux version 6.12.0 (b@h) (gcc (GCC) 14.2.1 20250110 (Red Hat 14.2.1-7), GNU ld) #1\n";
const CLANG: &str = "Linux version 6.8.0 (b@h) (clang version 17.0.6, LLD 17.0.6) #1\n";

const DEBIAN_FILES: &[&str] = &["usr/sbin/update-ca-certificates"];
const SUSE_FILES: &[&str] = &["usr/sbin/update-ca-certificates", "etc/zypp/credentials.d/SCCcredentials"];
const FREE_FILES: &[&str] = &["usr/bin/update-ca-trust"];
const RHEL_FILES: &[&str] = &["usr/bin/update-ca-trust", "run/secrets/etc-pki-entitlement/1.pem"];

/// The table of distributions.
pub(crate) fn machines() -> Vec<Machine> {
    let ubuntu = Machine {
        name: "ubuntu",
        own_os: "ubuntu-24.04",
        host_os: Some("ubuntu-24.04"),
        kernel: "6.8.0-31-generic",
        architecture: "x86_64",
        proc_version: UBUNTU_GCC,
        files: DEBIAN_FILES,
        enable_nfsrdma: false,
        use_dkms: false,
    };
    let sles = Machine {
        name: "sles",
        own_os: "sles-15.7",
        host_os: Some("sles-15.7"),
        kernel: "6.4.0-150700.51-default",
        proc_version: SUSE_GCC,
        files: SUSE_FILES,
        ..ubuntu.clone()
    };
    let rhel = Machine {
        name: "rhel_9_6",
        own_os: "rhel-9.6",
        host_os: Some("rhel-9.6"),
        kernel: "5.14.0-570.73.1.el9_6.x86_64",
        proc_version: RHEL_GCC,
        files: RHEL_FILES,
        ..ubuntu.clone()
    };
    let rhel_10 = Machine {
        own_os: "rhel-10.0",
        host_os: Some("rhel-10.0"),
        proc_version: NEW_RHEL_GCC,
        ..rhel.clone()
    };
    // Of distributions that are like RHEL, from a container of their own.
    let like_rhel = |name, os, kernel| Machine {
        name,
        own_os: os,
        host_os: Some(os),
        kernel,
        files: FREE_FILES,
        ..rhel.clone()
    };
    vec![
        Machine {
            name: "ubuntu_dkms_nfsrdma",
            kernel: "6.8.0-31-generic-64k",
            architecture: "aarch64",
            enable_nfsrdma: true,
            use_dkms: true,
            ..ubuntu.clone()
        },
        Machine { name: "ubuntu_realtime", kernel: "6.8.1-1015-realtime", ..ubuntu.clone() },
        Machine {
            name: "ubuntu_realtime_bare",
            host_os: None,
            kernel: "6.8.1-1015-realtime",
            proc_version: CLANG,
            files: &[],
            ..ubuntu.clone()
        },
        Machine {
            name: "ubuntu_22_04_compiler_there",
            own_os: "ubuntu-22.04",
            host_os: Some("ubuntu-22.04"),
            kernel: "6.5.0-1014-azure",
            files: &["usr/sbin/update-ca-certificates", "usr/bin/gcc-13"],
            ..ubuntu.clone()
        },
        Machine {
            name: "ubuntu_22_04",
            own_os: "ubuntu-22.04",
            host_os: Some("ubuntu-22.04"),
            kernel: "5.15.0-25-generic",
            proc_version: OLD_UBUNTU_GCC,
            ..ubuntu.clone()
        },
        Machine {
            name: "debian_rt_aarch64",
            own_os: "debian-12",
            host_os: None,
            kernel: "6.1.0-18-rt-arm64",
            architecture: "aarch64",
            proc_version: DEBIAN_GCC,
            ..ubuntu.clone()
        },
        Machine {
            name: "debian",
            own_os: "debian-12",
            host_os: None,
            kernel: "6.1.0-18-cloud-amd64",
            proc_version: DEBIAN_GCC,
            ..ubuntu.clone()
        },
        ubuntu,
        Machine {
            name: "sles_azure_unregistered",
            kernel: "6.4.0-150700.20.3-azure",
            files: DEBIAN_FILES,
            use_dkms: true,
            ..sles.clone()
        },
        Machine {
            name: "sles_64kb",
            kernel: "6.4.0-150700.51-64kb",
            architecture: "aarch64",
            ..sles.clone()
        },
        Machine { name: "sles_rt", kernel: "6.4.0-150700.7.3-rt", ..sles.clone() },
        Machine {
            name: "sles_on_sl_micro",
            host_os: Some("sl-micro-6.0"),
            kernel: "6.4.0-24-default",
            ..sles.clone()
        },
        sles,
        Machine {
            name: "rhel_8",
            own_os: "rhel-8.10",
            host_os: Some("rhel-8.10"),
            kernel: "4.18.0-553.el8_10.x86_64",
            proc_version: OLD_RHEL_GCC,
            ..rhel.clone()
        },
        Machine {
            name: "rhel_8_rt",
            own_os: "rhel-8.10",
            host_os: Some("rhel-8.10"),
            kernel: "4.18.0-553.8.1.rt7.349.el8_10.x86_64",
            ..rhel.clone()
        },
        Machine {
            name: "rhel_9_4_eus_dkms",
            own_os: "rhel-9.4",
            host_os: Some("rhel-9.4"),
            kernel: "5.14.0-427.13.1.el9_4.aarch64",
            architecture: "aarch64",
            use_dkms: true,
            ..rhel.clone()
        },
        Machine {
            name: "rhel_9_6_aarch64",
            kernel: "5.14.0-570.73.1.el9_6.aarch64",
            architecture: "aarch64",
            ..rhel.clone()
        },
        Machine {
            name: "rhel_64k",
            kernel: "5.14.0-570.73.1.el9_6.aarch64+64k",
            architecture: "aarch64",
            ..rhel.clone()
        },
        Machine { name: "rhel_rt", kernel: "5.14.0-570.73.1.el9_6.x86_64+rt", ..rhel.clone() },
        Machine {
            name: "rhel_rt_64k_bare",
            host_os: None,
            kernel: "5.14.0-570.73.1.el9_6.aarch64+rt-64k",
            architecture: "aarch64",
            ..rhel.clone()
        },
        Machine { name: "rhel_10", kernel: "6.12.0-55.9.1.el10_0.x86_64", ..rhel_10.clone() },
        Machine { name: "rhel_10_rt", kernel: "6.12.0-55.9.1.el10_0.x86_64+rt", ..rhel_10.clone() },
        Machine {
            name: "rhel_10_64k",
            kernel: "6.12.0-55.9.1.el10_0.aarch64+64k",
            architecture: "aarch64",
            ..rhel_10
        },
        Machine {
            name: "rhel_10_headers_there_unregistered",
            own_os: "rhel-10.0",
            host_os: Some("rhel-10.0"),
            kernel: "6.12.0-55.9.1.el10_0.x86_64",
            files: &[
                "usr/bin/update-ca-trust",
                "lib/modules/6.12.0-55.9.1.el10_0.x86_64/build/Makefile",
                "opt/rh/gcc-toolset-11/root/usr/bin/gcc",
            ],
            ..rhel.clone()
        },
        Machine { name: "rhel_on_centos_stream", host_os: Some("centos-stream-9"), ..rhel.clone() },
        like_rhel("rocky", "rocky-9.6", "5.14.0-570.12.1.el9_6.x86_64"),
        like_rhel("almalinux", "almalinux-9.6", "5.14.0-570.12.1.el9_6.x86_64"),
        like_rhel("oracle", "oracle-9.6", "5.14.0-570.12.1.el9_6.x86_64"),
        like_rhel("centos_stream", "centos-stream-9", "5.14.0-503.el9.x86_64"),
        Machine {
            name: "rhel_image_mode",
            own_os: "rhel-9.4",
            host_os: Some("rhel-9.4-ostree"),
            kernel: "5.14.0-427.13.1.el9_4.x86_64",
            ..rhel.clone()
        },
        Machine {
            name: "openshift_4_12",
            own_os: "rhel-8.10",
            host_os: Some("rhcos-4.12"),
            kernel: "4.18.0-372.82.1.el8_6.x86_64",
            proc_version: OLD_RHEL_GCC,
            ..rhel.clone()
        },
        Machine {
            name: "openshift_4_18",
            own_os: "rhel-9.4",
            host_os: Some("rhcos-4.18"),
            kernel: "5.14.0-427.73.1.el9_4.x86_64",
            ..rhel.clone()
        },
        Machine {
            name: "openshift_4_18_64k",
            own_os: "rhel-9.4",
            host_os: Some("rhcos-4.18"),
            kernel: "5.14.0-427.73.1.el9_4.aarch64+64k",
            architecture: "aarch64",
            ..rhel.clone()
        },
        Machine {
            name: "openshift_4_18_rt",
            own_os: "rhel-9.4",
            host_os: Some("rhcos-4.18"),
            kernel: "5.14.0-427.73.1.el9_4.x86_64+rt",
            ..rhel.clone()
        },
        Machine {
            name: "openshift_4_19_rt",
            host_os: Some("rhcos-4.19"),
            kernel: "5.14.0-570.19.1.el9_6.x86_64+rt",
            ..rhel.clone()
        },
        Machine {
            name: "openshift_okd",
            host_os: Some("scos-okd"),
            kernel: "5.14.0-600.el9.x86_64",
            ..rhel.clone()
        },
        Machine { name: "openshift_4_19", host_os: Some("rhcos-4.19"), use_dkms: true, ..rhel.clone() },
        rhel,
    ]
}

impl Machine {
    /// The tree.
    pub(crate) fn tree(&self) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let texts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../nic-packages/tests/os-release");
        let write = |path: &str, text: &str| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            if path.parent().unwrap().to_string_lossy().ends_with("bin") {
                fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
            }
        };
        let os = |name: &str| fs::read_to_string(texts.join(name)).unwrap();
        write("etc/os-release", &os(self.own_os));
        if let Some(host_os) = self.host_os {
            write("host/etc/os-release", &os(host_os));
            write("host/etc/apt/sources.list", "host");
            write("host/usr/share/keyrings/ubuntu-pro.gpg", "key");
            write("host/etc/yum.repos.d/redhat.repo", "host");
        }
        write("proc/sys/kernel/osrelease", self.kernel);
        write("proc/version", self.proc_version);
        self.files.iter().for_each(|file| write(file, ""));
        dir
    }

    pub(crate) fn node(&self, host: &Host) -> Node {
        Node::identify(host).unwrap().with_architecture(Architecture::from_uname(self.architecture))
    }

    pub(crate) fn preparation(&self, host: &Host, token: Option<&Secret>, proxies: &Proxies) -> Preparation {
        let node = self.node(host);
        let settings = BuildSettings {
            enable_nfsrdma: self.enable_nfsrdma,
            use_dkms: self.use_dkms,
            ..BuildSettings::default()
        };
        let request = PreparationRequest {
            work: Work::due(PackageSource::Sources, false, self.use_dkms),
            sources: Path::new("/run/mellanox/src/MLNX_OFED_SRC-25.10-1.2.8.0"),
            settings: &settings,
            token,
            proxies,
        };
        let facts = BuildFacts::observe(host, &node).unwrap();
        Preparation::new(&node, &StartFacts::observe(host, &node), &facts, &request).unwrap()
    }

    pub(crate) fn plans(&self, host: &Host, token: Option<&Secret>) -> Preparation {
        self.preparation(host, token, &Proxies::default())
    }
}

/// All commands of a plan, those of either answer to a question included.
pub(crate) fn commands(steps: &[Step]) -> Vec<&PlannedCommand> {
    steps
        .iter()
        .flat_map(|step| match step {
            Step::Run(command) => vec![command],
            Step::Copy { .. } => vec![],
            Step::If { test, then, otherwise } => [vec![test], commands(then), commands(otherwise)].concat(),
        })
        .collect()
}
