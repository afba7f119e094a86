//! Builds of the driver, as files that say which one they are of.

use std::fs;
use std::path::Path;

use nic_host::Host;
use nic_kmod::{ModuleFile, ModuleName, SrcVersion};
use object::write::Object;
use object::{Architecture, BinaryFormat, Endianness, SectionKind};

/// The kernel that all modules are built for.
pub(super) const RELEASE: &str = "6.12.1-model";
/// The devices that the driver serves.
pub(super) const MODALIAS: &str = "pci:v000015B3d0000101Dsv00000000sd00000000bc02sc00i00";

/// A module of the model's node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kind {
    pub(super) name: &'static str,
    /// The modules whose symbols it uses.
    pub(super) needs: &'static [&'static str],
}

/// The driver, in the order of loading.
pub(super) const DRIVER: [Kind; 4] = [
    Kind { name: "mlx5_core", needs: &[] },
    Kind { name: "ib_core", needs: &[] },
    Kind { name: "ib_uverbs", needs: &["ib_core"] },
    Kind { name: "mlx5_ib", needs: &["mlx5_core", "ib_core", "ib_uverbs"] },
];

/// Storage over the driver: nobody may take it away.
pub(super) const STORAGE: Kind = Kind { name: "nvme_rdma", needs: &["ib_core"] };

/// What is wrong with a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flaw {
    None,
    /// The first module's init function fails.
    Refused,
    /// It loads, and none of the PFs gets a netdev.
    WithoutNetdevs,
    /// The last module's init function fails.
    LastRefused,
}

const FLAWS: [Flaw; 4] = [Flaw::None, Flaw::Refused, Flaw::WithoutNetdevs, Flaw::LastRefused];

/// A build of the driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Build {
    pub(super) number: u8,
    pub(super) flaw: Flaw,
}

/// What the distribution brought.
pub(super) const INBOX: Build = Build { number: 0, flaw: Flaw::None };

impl Build {
    pub(super) fn good(number: u8) -> Self {
        Self { number, flaw: Flaw::None }
    }

    /// What tells this build's file of a module from all others.
    pub(super) fn srcversion(self, module: &str) -> String {
        let flaw = FLAWS.iter().position(|flaw| *flaw == self.flaw).unwrap();
        let module: u64 = module.bytes().map(u64::from).sum();
        format!("{:02X}{flaw:02X}{module:019X}", self.number)
    }

    pub(super) fn of_srcversion(text: &SrcVersion) -> Self {
        let byte = |from: usize| usize::from_str_radix(&text.as_str()[from..from + 2], 16).unwrap();
        Self { number: u8::try_from(byte(0)).unwrap(), flaw: FLAWS[byte(2)] }
    }

    fn file(self, kind: Kind) -> Vec<u8> {
        let mut entries = vec![
            format!("name={}", kind.name),
            format!("srcversion={}", self.srcversion(kind.name)),
            format!("vermagic={RELEASE} SMP preempt mod_unload "),
            format!("depends={}", kind.needs.join(",")),
        ];
        if kind.name == "mlx5_core" {
            entries.push("alias=pci:v000015B3d0000101Dsv*sd*bc*sc*i*".to_owned());
        }
        let mut object = Object::new(BinaryFormat::Elf, Architecture::X86_64, Endianness::Little);
        let modinfo = object.add_section(Vec::new(), b".modinfo".to_vec(), SectionKind::ReadOnlyData);
        for entry in entries {
            object.append_section_data(modinfo, &[entry.as_bytes(), b"\0"].concat(), 1);
        }
        object.write().unwrap()
    }
}

/// Writes the module tree below `root`, in place of what was there: a build below `updates/`, and what the distribution has, if it is one
/// of the distribution's, below `kernel/`. As depmod has it, `updates/` comes first.
pub(super) fn write_tree(root: &Path, installed: Option<Build>, has_distributions: bool) {
    let tree = root.join("lib/modules").join(RELEASE);
    let _ = fs::remove_dir_all(&tree);
    fs::create_dir_all(&tree).unwrap();
    let mut dep = String::new();
    let mut place = |kind: Kind, build: Build, folder: &str, is_found: bool| {
        let file = |name: &str| format!("{folder}/{name}.ko");
        let path = tree.join(file(kind.name));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, build.file(kind)).unwrap();
        if is_found {
            // The nearest first.
            let needs: Vec<String> = kind.needs.iter().rev().map(|name| file(name)).collect();
            dep.push_str(&format!("{}: {}\n", file(kind.name), needs.join(" ")));
        }
    };
    for kind in DRIVER {
        if let Some(build) = installed {
            place(kind, build, "updates", true);
        }
        if has_distributions {
            place(kind, INBOX, "kernel", installed.is_none());
        }
    }
    if has_distributions {
        place(STORAGE, INBOX, "kernel", true);
    }
    fs::write(tree.join("modules.dep"), dep).unwrap();
}

/// What of a module tree modprobe finds first.
pub(super) fn find_file(root: &Path, module: &ModuleName) -> Option<std::path::PathBuf> {
    let tree = root.join("lib/modules").join(RELEASE);
    let candidates = ["updates", "kernel"].map(|folder| tree.join(folder).join(format!("{module}.ko")));
    candidates.into_iter().find(|path| path.exists())
}

/// What a file says that it is.
pub(super) fn read_file(host: &Host, path: &Path) -> (ModuleName, Build, Vec<ModuleName>) {
    let file = ModuleFile::read(host, path).unwrap();
    (file.name, Build::of_srcversion(&file.srcversion.unwrap()), file.depends)
}
