//! `probe`: what the kubelet asks, told within milliseconds from the readiness file, `/sys/module` and the record of the kept driver.
//! Nothing is locked, waited for or written, so that it may be asked at any moment, also while another command is at work.
//!
//! `docs/exit-codes.md` has the table of what is answered when.

use std::fmt;
use std::io;
use std::path::Path;

use nic_host::{Host, ReadError};
use nic_kmod::{BuildId, LoadedModule, ModuleName};
use serde::Serialize;

use crate::Exit;
use crate::error_chain;
use crate::family::NicFamily;
use crate::state::StateStore;

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Probe {
    /// Whether the readiness file is there.
    Startup,
    /// Whether it is there, and the modules without which the driver does not work are loaded and of the build that was verified.
    Ready,
    /// Whether the PFs' driver is loaded, whose build it may be.
    Live,
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProbeAnswer {
    /// What was asked.
    pub probe: Probe,
    /// Whether it is so.
    pub passes: bool,
    /// What was seen.
    pub reason: String,
}

/// Where a module is in its life, by sysfs.
#[derive(Debug, PartialEq, Eq)]
enum ModuleIs {
    /// Loaded, and initialised.
    Live,
    /// Loaded, and `coming` or `going` (`show_initstate` in `kernel/module/sysfs.c`).
    OnItsWay(String),
    /// Not a module: its folder has no `initstate`.
    BuiltIn,
    /// Not loaded.
    NotLoaded,
}

impl ProbeAnswer {
    /// The exit code.
    #[must_use]
    pub fn exit(&self) -> Exit {
        if self.passes { Exit::Success } else { Exit::Failed }
    }
}

impl fmt::Display for ProbeAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let probe = match self.probe {
            Probe::Startup => "startup",
            Probe::Ready => "ready",
            Probe::Live => "live",
        };
        writeln!(f, "{probe} {}: {}", if self.passes { "passes" } else { "fails" }, self.reason)
    }
}

/// Answers. What cannot be read is no error of its own: it is an answer that does not pass, and says why.
#[must_use]
pub fn probe(
    host: &Host,
    family: &NicFamily,
    store: &StateStore,
    readiness_file: &Path,
    probe: Probe,
) -> ProbeAnswer {
    let answer = match probe {
        Probe::Startup => is_given(host, readiness_file),
        Probe::Ready => is_given(host, readiness_file).and_then(|given| {
            let modules = required_are_live(host, family)?;
            let build = is_verified_build(host, family, store)?;
            Ok(format!("{given}, {modules}{build}"))
        }),
        Probe::Live => is_loaded(host, family),
    };
    let passes = answer.is_ok();
    ProbeAnswer { probe, passes, reason: answer.unwrap_or_else(|reason| reason) }
}

/// As `ls` finds it: a link that leads nowhere is there, too.
fn is_given(host: &Host, readiness_file: &Path) -> Result<String, String> {
    let shown = readiness_file.display();
    match host.path(readiness_file).symlink_metadata() {
        Ok(_) => Ok(format!("{shown} is there")),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Err(format!("{shown} is not there: the node has not been made ready, or is being changed"))
        }
        Err(error) => Err(format!("{shown} cannot be looked at: {error}")),
    }
}

/// The modules without which the driver does not work.
fn required(family: &NicFamily) -> impl Iterator<Item = &ModuleName> {
    family.modules.identity.iter().filter(|module| family.modules.is_required(module))
}

fn required_are_live(host: &Host, family: &NicFamily) -> Result<String, String> {
    let (mut live, mut others) = (Vec::new(), Vec::new());
    for module in required(family) {
        match look_at(host, module) {
            Ok(ModuleIs::Live | ModuleIs::BuiltIn) => live.push(module.to_string()),
            Ok(ModuleIs::OnItsWay(state)) => others.push(format!("{module} is {state}")),
            Ok(ModuleIs::NotLoaded) => others.push(format!("{module} is not loaded")),
            Err(error) => others.push(error_chain(&error)),
        }
    }
    if others.is_empty() { Ok(format!("{} loaded", live.join(", "))) } else { Err(others.join(", ")) }
}

/// Somebody may have put another driver in the place of the verified one since, past this program. What nothing tells apart passes.
fn is_verified_build(host: &Host, family: &NicFamily, store: &StateStore) -> Result<String, String> {
    let store = store.clone().of_family(&family.name);
    let unknown = |reason: &dyn std::error::Error| {
        Ok(format!("; whether that is the verified driver cannot be told: {}", error_chain(reason)))
    };
    let boot_id = match host.boot_id() {
        Ok(boot_id) => boot_id,
        Err(error) => return unknown(&error),
    };
    let kept = match store.module_backups(&boot_id) {
        Ok(Some(kept)) => kept,
        Ok(None) => return Ok(String::new()),
        Err(error) => return unknown(&error),
    };
    let mut others = Vec::new();
    for module in required(family) {
        let Some(kept) = kept.modules.iter().find(|kept| kept.module == *module) else { continue };
        match build_of(host, module) {
            Ok(loaded) if kept.is_another_build(&loaded) => others.push(module.to_string()),
            Ok(_) => {}
            Err(error) => return unknown(&error),
        }
    }
    if others.is_empty() {
        return Ok(String::new());
    }
    Err(format!("another driver is loaded than the one that was verified: {}", others.join(", ")))
}

/// As `lsmod` lists it, from when the kernel begins to load it until it has gone.
fn is_loaded(host: &Host, family: &NicFamily) -> Result<String, String> {
    // A family that lists none is refused when it is read.
    let Some(module) = family.modules.identity.first() else { return Err("no module is listed".to_owned()) };
    match look_at(host, module) {
        Ok(ModuleIs::Live) => Ok(format!("{module} is loaded")),
        Ok(ModuleIs::OnItsWay(state)) => Ok(format!("{module} is loaded ({state})")),
        Ok(ModuleIs::BuiltIn) => Ok(format!("{module} is part of the kernel")),
        Ok(ModuleIs::NotLoaded) => Err(format!("{module} is not loaded")),
        Err(error) => Err(error_chain(&error)),
    }
}

fn look_at(host: &Host, module: &ModuleName) -> Result<ModuleIs, ReadError> {
    let folder = Path::new("/sys/module").join(module.as_str());
    Ok(match host.attribute(folder.join("initstate"))? {
        Some(state) if state == "live" => ModuleIs::Live,
        Some(state) => ModuleIs::OnItsWay(state),
        None if host.exists(&folder) => ModuleIs::BuiltIn,
        None => ModuleIs::NotLoaded,
    })
}

/// What tells one build of a module from another. Nothing else of it is read: its parameters' readers are the driver's own code.
fn build_of(host: &Host, module: &ModuleName) -> Result<LoadedModule, ReadError> {
    let folder = Path::new("/sys/module").join(module.as_str());
    let srcversion = host.attribute(folder.join("srcversion"))?;
    let build_id = match host.read_bytes(folder.join("notes/.note.gnu.build-id")) {
        Ok(notes) => BuildId::from_notes(&notes),
        Err(error) if error.source.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    Ok(LoadedModule {
        // A text that is none cannot come from the kernel.
        srcversion: srcversion.and_then(|text| text.parse().ok()),
        build_id,
        ..LoadedModule::new(module.clone(), Vec::new())
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use nic_host::{BootId, KernelRelease};

    use super::*;
    use crate::state::{ModuleBackup, ModuleBackups};

    const READY: &str = "/run/ready";
    const VERIFIED: &str = "1BC29B36F623BA82AAF6724";
    const FOREIGN: &str = "94A1878BE64362BACAF1129";

    /// A node, its state directory beside it.
    struct Node(tempfile::TempDir);

    impl Node {
        fn new() -> Self {
            let node = Self(tempfile::tempdir().unwrap());
            node.write("proc/sys/kernel/random/boot_id", "boot-1\n");
            node
        }

        fn write(&self, path: &str, text: &str) {
            let path = self.0.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        fn remove(&self, path: &str) {
            let path = self.0.path().join(path);
            let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
            removed.unwrap();
        }

        fn store(&self) -> StateStore {
            StateStore::new(self.0.path().join("state"))
        }

        fn load(&self, state: &str, srcversion: &str) {
            for module in ["mlx5_core", "mlx5_ib", "ib_core"] {
                self.write(&format!("sys/module/{module}/initstate"), &format!("{state}\n"));
                self.write(&format!("sys/module/{module}/srcversion"), &format!("{srcversion}\n"));
            }
        }

        fn verify(&self, boot: &str, srcversion: Option<&str>) {
            let module = |name: &str| ModuleBackup {
                srcversion: srcversion.map(|text| text.parse().unwrap()),
                ..ModuleBackup::without_file(&LoadedModule::new(name.parse().unwrap(), Vec::new()))
            };
            let kernel: KernelRelease = "6.12.1".parse().unwrap();
            let modules = vec![module("mlx5_core"), module("mlx5_ib")];
            let kept = ModuleBackups::now(BootId(boot.to_owned()), kernel, modules, Vec::new());
            self.store().of_family("mlx5").write_module_backups(&kept).unwrap();
        }

        /// Whether startup, ready and live pass.
        fn answers(&self) -> [bool; 3] {
            [Probe::Startup, Probe::Ready, Probe::Live].map(|asked| self.ask(asked).passes)
        }

        fn ask(&self, asked: Probe) -> ProbeAnswer {
            let family = NicFamily::open("mlx5").unwrap();
            let answer = probe(&Host::at(self.0.path()), &family, &self.store(), Path::new(READY), asked);
            assert_eq!(answer.to_string().lines().count(), 1, "{answer}");
            assert_eq!(answer.exit() == Exit::Success, answer.passes);
            answer
        }
    }

    #[test]
    fn the_table_of_answers() {
        let node = Node::new();
        assert_eq!(node.answers(), [false, false, false], "nothing is loaded");
        node.load("live", FOREIGN);
        assert_eq!(node.answers(), [false, false, true], "a foreign driver, and the node was never ready");
        node.write("run/ready", "");
        assert_eq!(node.answers(), [true, true, true], "ready, and no record of what was verified");
        node.verify("boot-1", Some(VERIFIED));
        assert_eq!(node.answers(), [true, false, true], "a foreign driver since");
        let reason = node.ask(Probe::Ready).reason;
        assert!(reason.contains("than the one that was verified: mlx5_core, mlx5_ib"), "{reason}");
        node.load("live", VERIFIED);
        assert_eq!(node.answers(), [true, true, true], "the verified driver");
        node.remove("run/ready");
        assert_eq!(node.answers(), [false, false, true], "the change has begun");
        node.load("going", VERIFIED);
        assert_eq!(node.answers(), [false, false, true], "the driver is being unloaded");
        node.remove("sys/module");
        assert_eq!(node.answers(), [false, false, false], "the driver is away");
        node.load("coming", FOREIGN);
        assert_eq!(node.answers(), [false, false, true], "the driver is being loaded");
    }

    #[test]
    fn one_module_of_the_required_ones_is_enough() {
        for module in ["mlx5_core", "mlx5_ib", "ib_core"] {
            let node = Node::new();
            node.load("live", VERIFIED);
            node.write("run/ready", "");
            node.remove(&format!("sys/module/{module}"));
            let answer = node.ask(Probe::Ready);
            assert_eq!((answer.passes, answer.reason), (false, format!("{module} is not loaded")));
            node.write(&format!("sys/module/{module}/initstate"), "going\n");
            assert_eq!(node.ask(Probe::Ready).reason, format!("{module} is going"));
            // What is part of the kernel has a folder, and nothing in it that modules have.
            node.remove(&format!("sys/module/{module}/initstate"));
            assert!(node.ask(Probe::Ready).passes);
        }
        // One that the driver works without.
        let node = Node::new();
        node.load("live", VERIFIED);
        node.write("run/ready", "");
        node.write("sys/module/ib_umad/initstate", "going\n");
        assert!(node.ask(Probe::Ready).passes);
    }

    #[test]
    fn a_record_that_tells_nothing_fails_nobody() {
        let node = Node::new();
        node.load("live", FOREIGN);
        node.write("run/ready", "");
        node.verify("another boot", Some(VERIFIED));
        assert!(node.ask(Probe::Ready).passes, "of another boot");
        node.verify("boot-1", Some(VERIFIED));
        assert!(!node.ask(Probe::Ready).passes);
        node.write("state/mlx5/previous-modules/manifest.json", "{");
        let answer = node.ask(Probe::Ready);
        assert!(answer.passes && answer.reason.contains("manifest.json cannot be read"), "{answer}");
        // Neither side has anything that tells builds apart.
        node.verify("boot-1", None);
        for module in ["mlx5_core", "mlx5_ib", "ib_core"] {
            node.remove(&format!("sys/module/{module}/srcversion"));
        }
        assert!(node.ask(Probe::Ready).passes);
        // One side alone has: that is another build.
        node.load("live", FOREIGN);
        assert!(!node.ask(Probe::Ready).passes);
    }

    #[test]
    fn what_cannot_be_looked_at_does_not_pass() {
        let node = Node::new();
        node.load("live", VERIFIED);
        // A file where a folder should be: there is no readiness file then.
        node.write("run", "");
        let reason = node.ask(Probe::Startup).reason;
        assert!(reason.starts_with("/run/ready is not there"), "{reason}");
        node.remove("sys/module/mlx5_core/initstate");
        node.write("sys/module/mlx5_core/initstate/folder", "");
        let answer = node.ask(Probe::Live);
        assert!(!answer.passes && answer.reason.contains("cannot read"), "{answer}");
    }
}
