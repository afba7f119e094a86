//! The drivers under test: igb and igbvf of the distribution's kernel, built again in two versions, each packed as .rpm and
//! .deb the way vendors pack theirs. A third time with faults that scenarios switch on. And netdevsim, which the
//! distribution does not ship. And modules of the lab's own.

use std::collections::BTreeMap;
use std::fs;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use serde::Serialize;

use super::cache::{Cache, Cached};
use super::kernel::KernelTree;
use super::module_build::{Built, IGB, Insertion, Source, build, build_own, insert, srcversion};
use super::{broken, cpio, package};

/// The versions, by the letter scenarios know them by: an upgrade goes from A to B.
const VERSIONS: [(&str, &str); 2] = [("A", "25.07-0.9.7.0"), ("B", "25.10-1.2.8.0")];
/// The modules of one version: name, folder in the kernel's source, the file with `MODULE_LICENSE`, and the kernel's switches.
const MODULES: [Source; 2] = [
    IGB,
    Source {
        module: "igbvf",
        folder: "drivers/net/ethernet/intel/igbvf",
        main: "netdev.c",
        switches: &["CONFIG_IGBVF=m"],
    },
];
const NETDEVSIM: Source = Source {
    module: "netdevsim",
    folder: "drivers/net/netdevsim",
    main: "netdev.c",
    switches: &["CONFIG_NETDEVSIM=m"],
};
/// What makes the faulty build faulty, by module. Every fault is off until its parameter is given at the load
/// or written below `/sys/module/<module>/parameters`.
const FAULTS: [(&str, &[Insertion]); 2] = [
    (
        "igb",
        &[
            // The PCI addresses of PFs whose probe fails.
            Insertion {
                text: "static char *fail_probe = \"\";\nmodule_param(fail_probe, charp, 0644);\n\n",
                before: "static int igb_probe(struct pci_dev *pdev, const struct pci_device_id *ent)\n{",
                after: "",
            },
            Insertion {
                text: "\tif (strstr(fail_probe, pci_name(pdev)))\n\t\treturn -EIO;\n\n",
                before: "\terr = pci_enable_device_mem(pdev);\n",
                after: "static int igb_probe(struct pci_dev *pdev, const struct pci_device_id *ent)\n{",
            },
            // For how many seconds the creation and the removal of VFs hang.
            Insertion {
                text: "static unsigned int hang_numvfs;\nmodule_param(hang_numvfs, uint, 0644);\n\n",
                before: "static int igb_pci_sriov_configure(struct pci_dev *dev, int num_vfs)\n{",
                after: "",
            },
            Insertion {
                text: "\tmsleep(1000 * hang_numvfs);\n\n",
                before: "\tif (num_vfs == 0)",
                after: "static int igb_pci_sriov_configure(struct pci_dev *dev, int num_vfs)\n{\n",
            },
            // Requests that it then answers as a driver does that has no such attribute.
            Insertion {
                text: "static char *lacks = \"\";\nmodule_param(lacks, charp, 0644);\n\n",
                before: "static int igb_ndo_set_vf_mac(struct net_device *netdev, int vf, u8 *mac)\n{",
                after: "",
            },
            Insertion {
                text: "\tif (strstr(lacks, \"spoofchk\"))\n\t\treturn -EOPNOTSUPP;\n",
                before: "\tif (!adapter->vfs_allocated_count)\n",
                after: "static int igb_ndo_set_vf_spoofchk(struct net_device *netdev, int vf,\n\t\t\t\t   bool setting)\n{",
            },
            Insertion {
                text: "\tif (strstr(lacks, \"trust\"))\n\t\treturn -EOPNOTSUPP;\n",
                before: "\tif (vf >= adapter->vfs_allocated_count)\n",
                after: "static int igb_ndo_set_vf_trust(struct net_device *netdev, int vf, bool setting)\n{",
            },
            // Reported as the kernel reports it for a driver without spoof checking (net/core/rtnetlink.c,
            // `rtnl_fill_vfinfo`).
            Insertion {
                text: "\tif (strstr(lacks, \"spoofchk\"))\n\t\tivi->spoofchk = -1;\n",
                before: "\tivi->trusted = ",
                after: "static int igb_ndo_get_vf_config(struct net_device *netdev,\n\t\t\t\t int vf, struct ifla_vf_info *ivi)\n{",
            },
        ],
    ),
    (
        "igbvf",
        &[
            // The PCI addresses of VFs whose probe fails, fails the first time, or takes long.
            Insertion {
                text: "static char *fail_probe = \"\";\nmodule_param(fail_probe, charp, 0644);\n\
                       static char *fail_probe_once = \"\";\nmodule_param(fail_probe_once, charp, 0644);\n\
                       static char *slow_probe = \"\";\nmodule_param(slow_probe, charp, 0644);\n\
                       static unsigned int slow_probe_s = 4;\nmodule_param(slow_probe_s, uint, 0644);\n\n",
                before: "static int igbvf_probe(struct pci_dev *pdev, const struct pci_device_id *ent)\n{",
                after: "",
            },
            Insertion {
                text: "\tif (strstr(fail_probe, pci_name(pdev)))\n\t\treturn -EIO;\n\
                       \tif (strstr(fail_probe_once, pci_name(pdev))) {\n\t\tfail_probe_once = \"\";\n\t\treturn -EIO;\n\t}\n\
                       \tif (strstr(slow_probe, pci_name(pdev)))\n\t\tmsleep(1000 * slow_probe_s);\n",
                before: "\terr = pci_enable_device_mem(pdev);\n",
                after: "static int igbvf_probe(struct pci_dev *pdev, const struct pci_device_id *ent)\n{",
            },
        ],
    ),
];
/// Modules of the lab's own, and their sources: a client of the RDMA stack that nobody knows, and one that holds a
/// driver's module.
const OWN: [(&str, &str); 3] = [
    ("lab_unknown", include_str!("unknown_module.c")),
    ("lab_holder", include_str!("holder_module.c")),
    // As far as a swap goes, the GPU driver's module is a client of the stack like any other.
    ("nvidia_peermem", include_str!("unknown_module.c")),
];
/// A kernel that no guest runs.
const ANOTHER_KERNEL: &str = "5.14.0-570.12.1.el9_6.x86_64";

/// The entry for a version in `versions.json`, which the guest reads.
#[derive(Debug, Serialize)]
struct Version {
    version: &'static str,
    srcversions: BTreeMap<&'static str, String>,
}

/// The part of a guest that holds the driver packages of `tree`'s kernel.
pub(crate) fn archive(tree: &KernelTree, cache: &Cache) -> anyhow::Result<Cached> {
    let name = format!("drivers-{}", tree.release());
    let [(_, unknown), (_, holder), _] = OWN;
    let recipe = [
        include_str!("drivers.rs"),
        include_str!("broken.rs"),
        include_str!("module_build.rs"),
        include_str!("package.rs"),
        unknown,
        holder,
        &tree.key(),
    ];
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
    let mut latest = Vec::new();
    for (letter, version) in VERSIONS {
        let mut built = Vec::new();
        for source in MODULES {
            let file = build(tree, source, version, &builds, |text| {
                ensure!(!text.contains("MODULE_VERSION("), "{} already has a version", source.main);
                Ok(format!("{text}\nMODULE_VERSION(\"{version}\");\n"))
            })?;
            built.push(Built { module: source.module, folder: source.folder, file });
        }
        let into = packages.join(letter);
        package::rpm(&built, version, tree.release(), &into.join("rpm"))?;
        package::deb(&built, version, tree.release(), &into.join("deb"))?;
        if letter == "A" {
            let other = packages.join("another-kernel");
            package::rpm(&built, version, ANOTHER_KERNEL, &other.join("rpm"))?;
            package::deb(&built, version, ANOTHER_KERNEL, &other.join("deb"))?;
        }
        let mut srcversions = BTreeMap::new();
        for module in &built {
            fs::copy(&module.file, into.join(format!("{}.ko", module.module)))
                .context("cannot copy a module")?;
            srcversions.insert(module.module, srcversion(&module.file)?);
        }
        versions.insert(letter, Version { version, srcversions });
        latest = built;
    }
    broken::pack(tree, &latest, &builds, &packages)?;
    let faulty = packages.join("faulty");
    fs::create_dir(&faulty).with_context(|| format!("cannot create {}", faulty.display()))?;
    for (module, insertions) in FAULTS {
        let source = MODULES.into_iter().find(|source| source.module == module);
        let source = source.with_context(|| format!("{module} is not built"))?;
        let built = build(tree, source, "faulty", &builds, |text| {
            insertions.iter().try_fold(text, |text, insertion| insert(&text, insertion))
        })?;
        fs::copy(&built, faulty.join(format!("{module}.ko"))).context("cannot copy a faulty module")?;
    }
    let netdevsim = build(tree, NETDEVSIM, "plain", &builds, Ok)?;
    fs::copy(&netdevsim, packages.join("netdevsim.ko")).context("cannot copy netdevsim")?;
    for (module, source) in OWN {
        build_own(tree, module, source, &builds, &packages)?;
    }
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
