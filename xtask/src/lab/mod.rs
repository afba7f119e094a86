//! The lab: virtual machines with real SR-IOV, in which scenarios run.
//!
//! [`Lab::open`] prepares everything a kernel's guests are made of, below `target/lab`; [`Lab::run`] runs one scenario and
//! judges it. What is prepared is cached, so only the first time takes long. `docs/lab.md` tells how it all fits together.

mod apt;
mod broken;
mod cache;
pub(crate) mod cpio;
mod drive;
mod drivers;
mod guest_root;
mod image;
mod kernel;
mod libraries;
mod machine;
mod module_build;
pub(crate) mod modules;
mod monitor;
mod package;
pub(crate) mod process;
mod programs;
mod qemu;
mod seccomp;
mod symbols;
mod unpack;
mod vm;

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;
use std::time::Instant;

use anyhow::{Context as _, anyhow, ensure};
use lab_guest::scenario::{self, Needs, Scenario, Security};
use lab_guest::wiring::{PARAMETER_ARGUMENT, SCENARIO_ARGUMENT, SYMBOLS_ARGUMENT, SYMBOLS_FILE};

pub(crate) use kernel::{Kernel, KernelTree};
pub(crate) use libraries::libraries;
pub(crate) use machine::set_up as set_up_machine;
pub(crate) use programs::{Programs, strip};
pub(crate) use vm::{Failure, Judgement, Said};

use apt::Apt;
use cache::Cache;
use monitor::{Monitor, monitor_arguments};
use qemu::{Accelerator, Machine, Qemu};
use symbols::Symbols;

/// How often a scenario is started while it is the machine that fails. Under software emulation on a busy host the kernel
/// now and then loses its timer while it boots, and QEMU has been seen to stop on an assertion of its own.
const ATTEMPTS: usize = 3;

/// The prepared lab.
#[derive(Debug)]
pub(crate) struct Lab {
    root: PathBuf,
    qemu: Qemu,
    kernels: BTreeMap<&'static str, Guest>,
    accelerator: Mutex<Option<Accelerator>>,
}

/// What the guests of one kernel are made of.
#[derive(Debug)]
struct Guest {
    tree: KernelTree,
    /// The cached parts of the initramfs, in order.
    parts: Vec<PathBuf>,
    /// Packages of the driver, in folders by version.
    packages: PathBuf,
}

/// One run of a scenario.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) scenario: &'static Scenario,
    pub(crate) kernel: Kernel,
    /// Values for the scenario's parameters.
    pub(crate) parameters: Vec<(String, String)>,
    /// Which of several machines that run the same scenario at a time; its console and results are kept apart by it.
    pub(crate) seat: Option<usize>,
}

/// A run that is over.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) judgement: Judgement,
    /// The console's log.
    pub(crate) log: PathBuf,
    /// What the guest put into /share.
    pub(crate) results: PathBuf,
    /// Why each start before this one broke down, and where a processor of this one stood still.
    pub(crate) breakdowns: Vec<String>,
}

impl Lab {
    /// Prepares the lab below `target` for `kernels`.
    pub(crate) fn open(target: &Path, kernels: &[Kernel]) -> anyhow::Result<Self> {
        let root = target.join("lab");
        let (apt, cache, _lock) = workshop(&root)?;
        let (apt, cache) = (&apt, &cache);
        thread::scope(|scope| {
            let qemu = scope.spawn(move || Qemu::unpack(apt, cache));
            let guest_root = scope.spawn(move || guest_root::archive(apt, cache));
            let mut guests = Vec::new();
            for kernel in kernels {
                let tree = kernel.unpack(apt, cache)?;
                let for_modules = tree.clone();
                let modules = scope.spawn(move || modules::archive(&for_modules, cache));
                let drivers = drivers::archive(&tree, cache)?;
                guests.push((kernel, tree, join(modules)?, drivers));
            }
            let guest_root = guest_root::file(&join(guest_root)?);
            let kernels = guests
                .into_iter()
                .map(|(kernel, tree, modules, drivers)| {
                    let parts = vec![guest_root.clone(), modules::file(&modules), drivers::file(&drivers)];
                    let packages = drivers.path().join("packages");
                    (kernel.name(), Guest { tree, parts, packages })
                })
                .collect();
            Ok(Self { root, qemu: join(qemu)?, kernels, accelerator: Mutex::new(None) })
        })
    }

    /// Runs a scenario in a machine of its own. An error means that it could not be run; a scenario that failed is told in
    /// the result.
    pub(crate) fn run(
        &self,
        request: &Request,
        programs: &Programs,
        mut listener: impl FnMut(Said<'_>),
    ) -> anyhow::Result<Run> {
        let accelerator = self.accelerator(request.kernel, programs)?;
        let mut breakdowns = Vec::new();
        loop {
            let mut run = self.run_with(accelerator, request, programs, &mut listener)?;
            breakdowns.extend(run.judgement.stall.clone());
            let reason = match &run.judgement.failure {
                Some(Failure::Machine(reason)) if breakdowns.len() < ATTEMPTS => reason.clone(),
                _ => {
                    run.breakdowns = breakdowns;
                    return Ok(run);
                }
            };
            if run.judgement.stall.is_none() {
                breakdowns.push(reason.clone());
            }
            let kept = run.log.with_extension(format!("broken-{}.log", breakdowns.len()));
            fs::rename(&run.log, &kept).with_context(|| format!("cannot rename {}", run.log.display()))?;
            announce(&format!(
                "the machine broke down ({reason}); once more, its console is in {}",
                kept.display()
            ));
        }
    }

    /// A guest on the terminal.
    pub(crate) fn shell(&self, request: &Request, programs: &Programs) -> anyhow::Result<()> {
        let accelerator = self.accelerator(request.kernel, programs)?;
        let results = vm::empty_folder(self.root.join("results").join(title(request)))?;
        let initramfs = self.initramfs(request, programs)?;
        vm::interact(&mut self.qemu.command(&Machine {
            accelerator,
            topology: request.scenario.topology,
            kernel: &self.guest(request.kernel)?.tree.image(),
            initramfs: initramfs.path(),
            share: &results,
            drive: self.drive(request)?.as_deref(),
            command_line: command_line(request),
            interactive: true,
        }))
    }

    fn run_with(
        &self,
        accelerator: Accelerator,
        request: &Request,
        programs: &Programs,
        listener: impl FnMut(Said<'_>),
    ) -> anyhow::Result<Run> {
        let scenario = request.scenario;
        let title = title(request);
        let results = vm::empty_folder(self.root.join("results").join(&title))?;
        let logs = self.root.join("logs");
        fs::create_dir_all(&logs).with_context(|| format!("cannot create {}", logs.display()))?;
        let log = logs.join(format!("{title}.log"));
        let initramfs = self.initramfs(request, programs)?;
        // A socket's path must be short (sys/un.h).
        let sockets = tempfile::tempdir().context("cannot create a folder for the monitor's socket")?;
        let socket = sockets.path().join("qmp");
        let symbols = self.symbols(request.kernel)?;
        let mut line = command_line(request);
        if symbols.is_none() {
            line.push_str(&format!(" {SYMBOLS_ARGUMENT}"));
        }
        let mut command = self.qemu.command(&Machine {
            accelerator,
            topology: scenario.topology,
            kernel: &self.guest(request.kernel)?.tree.image(),
            initramfs: initramfs.path(),
            share: &results,
            drive: self.drive(request)?.as_deref(),
            command_line: line,
            interactive: false,
        });
        command.args(monitor_arguments(&socket));
        let monitor = Monitor::watch(&socket);
        let examine = || monitor.examine(symbols.as_ref());
        let judgement = vm::run(command, scenario.name, scenario.timeout, &log, examine, listener)?;
        self.keep_symbols(request.kernel, &results)?;
        Ok(Run { judgement, log, results, breakdowns: Vec::new() })
    }

    /// The kernel's functions by address, as a guest has told them before: Debian's packages have no System.map.
    fn symbols(&self, kernel: Kernel) -> anyhow::Result<Option<Symbols>> {
        let file = self.symbols_file(kernel)?;
        let text = match fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", file.display())),
        };
        Ok(Some(Symbols::parse(&text)).filter(|symbols| !symbols.is_empty()))
    }

    /// Keeps the functions that a guest was asked to tell. It may not have come so far.
    fn keep_symbols(&self, kernel: Kernel, results: &Path) -> anyhow::Result<()> {
        let told = results.join(SYMBOLS_FILE);
        if !told.exists() {
            return Ok(());
        }
        let file = self.symbols_file(kernel)?;
        // Renamed, so that a machine that runs beside this one finds all of it or nothing.
        fs::rename(&told, &file).with_context(|| format!("cannot keep {}", file.display()))
    }

    fn symbols_file(&self, kernel: Kernel) -> anyhow::Result<PathBuf> {
        let folder = self.root.join("symbols");
        fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        Ok(folder.join(self.guest(kernel)?.tree.release()))
    }

    /// The folder that all of it is in.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The part of a guest that holds the packages which the program built; whoever runs a scenario that needs them has had
    /// them built.
    pub(crate) fn built_packages(&self) -> PathBuf {
        self.root.join("built.cpio")
    }

    /// The part of a guest that holds dkms and what it has built; the same holds for it.
    pub(crate) fn dkms_built(&self) -> PathBuf {
        self.root.join("dkms.cpio")
    }

    /// The part of a guest that holds pods; the same holds for it.
    pub(crate) fn pods(&self, kernel: Kernel) -> PathBuf {
        self.root.join(format!("pods-{kernel}.cpio"))
    }

    /// The lab's packages of the driver for a kernel, in folders by version.
    pub(crate) fn packages(&self, kernel: Kernel) -> anyhow::Result<PathBuf> {
        Ok(self.guest(kernel)?.packages.clone())
    }

    /// The disk with the images' lowest layers, where a scenario needs it.
    fn drive(&self, request: &Request) -> anyhow::Result<Option<PathBuf>> {
        if !request.scenario.needs.pods() {
            return Ok(None);
        }
        let (apt, cache, _lock) = workshop(&self.root)?;
        let image = image::folder(&apt, &cache)?;
        Ok(Some(drive::file(&drive::folder(&image, self.kernel_tree(request.kernel)?, &cache)?)))
    }

    /// The root folder of an image of the distribution, with what builds kernel modules and packages.
    pub(crate) fn image(&self) -> anyhow::Result<PathBuf> {
        image_below(&self.root)
    }

    /// The seccomp profile of the distribution's container runtimes.
    pub(crate) fn seccomp_profile(&self) -> anyhow::Result<PathBuf> {
        let (apt, cache, _lock) = workshop(&self.root)?;
        seccomp::profile(&apt, &cache)
    }

    /// The unpacked kernel.
    pub(crate) fn kernel_tree(&self, kernel: Kernel) -> anyhow::Result<&KernelTree> {
        Ok(&self.guest(kernel)?.tree)
    }

    fn guest(&self, kernel: Kernel) -> anyhow::Result<&Guest> {
        self.kernels.get(kernel.name()).ok_or_else(|| anyhow!("the lab was not prepared for kernel {kernel}"))
    }

    /// The guest's initramfs: the cached parts and the programs under test, one after another.
    fn initramfs(&self, request: &Request, programs: &Programs) -> anyhow::Result<tempfile::NamedTempFile> {
        let file = tempfile::Builder::new()
            .prefix("initramfs-")
            .tempfile_in(&self.root)
            .context("cannot create the initramfs")?;
        let mut writer = BufWriter::new(file.as_file());
        let built = match request.scenario.needs {
            Needs::Nothing | Needs::NicDriver => vec![],
            Needs::BuiltPackages => vec![self.built_packages()],
            Needs::DkmsBuilt => vec![self.built_packages(), self.dkms_built()],
            Needs::Pods => vec![self.pods(request.kernel)],
        };
        for part in self.guest(request.kernel)?.parts.iter().chain(&built) {
            let mut part = fs::File::open(part).with_context(|| format!("cannot open {}", part.display()))?;
            io::copy(&mut part, &mut writer).context("cannot write the initramfs")?;
        }
        programs.archive(&mut writer)?;
        writer.flush().context("cannot write the initramfs")?;
        drop(writer);
        Ok(file)
    }

    /// How guests run here. That /dev/kvm exists does not mean that it works, so one guest is booted with it; the answer
    /// holds until the machine or QEMU changes.
    fn accelerator(&self, kernel: Kernel, programs: &Programs) -> anyhow::Result<Accelerator> {
        let mut known = self.accelerator.lock().map_err(|_| anyhow!("the lab's lock is poisoned"))?;
        if let Some(accelerator) = *known {
            return Ok(accelerator);
        }
        let accelerator = self.probe_accelerator(kernel, programs)?;
        *known = Some(accelerator);
        Ok(accelerator)
    }

    fn probe_accelerator(&self, kernel: Kernel, programs: &Programs) -> anyhow::Result<Accelerator> {
        if !Path::new("/dev/kvm").exists() {
            return Ok(Accelerator::Tcg);
        }
        let boot =
            fs::read_to_string("/proc/sys/kernel/random/boot_id").context("cannot read the boot id")?;
        let fact = self.root.join("kvm-does-not-work");
        let circumstances = format!("{boot}{:?}", self.qemu);
        if fs::read_to_string(&fact).is_ok_and(|known| known == circumstances) {
            return Ok(Accelerator::Tcg);
        }
        let alive = scenario::find("alive").context("the table has no scenario alive")?;
        let request = Request { scenario: alive, kernel, parameters: Vec::new(), seat: None };
        let start = Instant::now();
        let run = self.run_with(Accelerator::Kvm, &request, programs, |_| {})?;
        if let Some(reason) = run.judgement.failure {
            let seconds = start.elapsed().as_secs_f64();
            announce(&format!(
                "/dev/kvm does not work here ({reason}, {seconds:.0} s): guests run by software emulation"
            ));
            fs::write(&fact, circumstances).context("cannot note that KVM does not work")?;
            return Ok(Accelerator::Tcg);
        }
        Ok(Accelerator::Kvm)
    }
}

impl Request {
    /// A run of `name`, with parameters as `NAME=VALUE`.
    pub(crate) fn new(name: &str, kernel: Kernel, parameters: &[String]) -> anyhow::Result<Self> {
        let scenario = scenario::find(name).with_context(|| {
            format!("no scenario is called {name}; `cargo xtask lab list` shows them all")
        })?;
        let parameters =
            parameters.iter().map(|text| parameter(scenario, text)).collect::<anyhow::Result<_>>()?;
        Ok(Self { scenario, kernel, parameters, seat: None })
    }
}

/// What the lab is made with, below `root`: packages, the cache, and a lock. Two runs that prepare the same lab would remove
/// each other's work.
fn workshop(root: &Path) -> anyhow::Result<(Apt, Cache, fs::File)> {
    let apt_root = root.join("apt");
    fs::create_dir_all(&apt_root).with_context(|| format!("cannot create {}", apt_root.display()))?;
    let lock = fs::File::create(root.join("lock")).context("cannot create the lab's lock")?;
    lock.lock().context("cannot lock the lab")?;
    Ok((Apt::open(&apt_root)?, Cache::open(root.join("cache"))?, lock))
}

/// The root folder of the distribution's image, for whoever needs nothing else of the lab below `target`.
pub(crate) fn image(target: &Path) -> anyhow::Result<PathBuf> {
    image_below(&target.join("lab"))
}

fn image_below(root: &Path) -> anyhow::Result<PathBuf> {
    let (apt, cache, _lock) = workshop(root)?;
    Ok(image::root(image::folder(&apt, &cache)?.path()))
}

/// Tells what the lab is doing; on the error stream, because results go to the other one.
pub(crate) fn announce(text: &str) {
    eprintln!("lab: {text}");
}

fn parameter(scenario: &Scenario, text: &str) -> anyhow::Result<(String, String)> {
    let (name, value) =
        text.split_once('=').with_context(|| format!("{text} is not of the form NAME=VALUE"))?;
    ensure!(
        scenario.parameters.iter().any(|parameter| parameter.name == name),
        "the scenario {} has no parameter {name}",
        scenario.name
    );
    ensure!(
        !value.contains(char::is_whitespace),
        "the value of {name} contains a blank, which a kernel command line cannot hold"
    );
    Ok((name.to_owned(), value.to_owned()))
}

fn title(request: &Request) -> String {
    let seat = request.seat.map(|seat| format!("-{seat}")).unwrap_or_default();
    format!("{}-{}{seat}", request.scenario.name, request.kernel)
}

/// The kernel hands what it does not know, and what has no dot, to PID 1 as its environment (init/main.c,
/// `unknown_bootoption`).
fn command_line(request: &Request) -> String {
    // With page table isolation an emulated processor would forget its translations at each system call, and a scenario take half as
    // long again.
    let mut line = format!(
        "console=ttyS0 quiet panic=-1 nohz=off highres=off mitigations=off init_on_alloc=0 PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root RUST_BACKTRACE=1 {SCENARIO_ARGUMENT}{}",
        request.scenario.name
    );
    // Whether the timer ticks is tested in the host's time (arch/x86/kernel/apic/io_apic.c, `timer_irq_works`), which goes
    // wrong when the host is busy.
    line.push_str(" no_timer_check");
    // The kernel's functions lie at the same addresses in each run, so that what one guest tells of them holds for the next.
    line.push_str(" nokaslr");
    if request.scenario.topology.iommu {
        line.push_str(" intel_iommu=on");
    }
    match request.scenario.topology.security {
        Security::AsShipped => {}
        Security::Selinux => line.push_str(" security=selinux"),
        Security::SignedModules => line.push_str(" module.sig_enforce=1"),
    }
    for (name, value) in &request.parameters {
        line.push_str(&format!(" {PARAMETER_ARGUMENT}{name}={value}"));
    }
    line
}

fn join<T>(handle: thread::ScopedJoinHandle<'_, anyhow::Result<T>>) -> anyhow::Result<T> {
    handle.join().unwrap_or_else(|_| Err(anyhow!("a thread that prepares the lab panicked")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_must_be_declared() {
        let request = Request::new("restore-loop", Kernel::V6_12, &["rounds=20".to_owned()]).unwrap();
        let line = command_line(&request);
        assert!(
            line.contains(" lab.scenario=restore-loop ") && line.ends_with(" lab.param.rounds=20"),
            "{line}"
        );
        for wrong in ["rounds", "turns=3", "rounds=a b"] {
            Request::new("restore-loop", Kernel::V6_12, &[wrong.to_owned()]).unwrap_err();
        }
        Request::new("no-such-scenario", Kernel::V6_12, &[]).unwrap_err();
    }
}
