//! Whoever uses a VF keeps it, whichever way, and whenever he has come: the driver is not swapped under him, and nothing is written to the
//! PF. Whoever only begins to use one is not hindered by looks. From whom the kernel takes what he has, he is named.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use nic_driver::Exit;
use nic_driver::default_paths::BLACKLIST_FILE;
use nic_driver::state::Step;
use rustix::process::{Pid, Signal, kill_process};

use crate::command::run as command;
use crate::guest::Guest;
use crate::installed::set_up;
use crate::observe::{Nics, igb_pfs, netdev, pci_device, vfs_of};
use crate::program::NicDriver;
use crate::restored::{ByHand, Restored};
use crate::vfio::{bind_to, bind_to_vfio, group_of, open_file, open_group};
use crate::xdp::open_xdp;
use crate::{boot, drivers, journal, read, report, say, wait, write};

const UIO: &str = "uio_pci_generic";
const RULES: &str = "/run/udev/rules.d/10-lab-slow.rules";
const NAMESPACE: &str = "pod";
/// How often the machine is looked at while a virtual machine begins.
const LOOKS: usize = 5;
/// How many seconds udev takes over the VF's netdev: more than the restore may.
const UDEV_TAKES: &str = "30";
/// How long a restore may go on when what it waits for has been taken.
const AT_ONCE: Duration = Duration::from_secs(15);

/// A PF, the address of each of its VFs, and the machine as it is to stay.
struct Node {
    pf: String,
    vfs: Vec<String>,
    before: Nics,
}

pub(crate) fn run(guest: &Guest) -> anyhow::Result<()> {
    let before = set_up(3)?;
    let pf = igb_pfs()?.into_iter().next().context("there is no PF")?;
    let vfs = vfs_of(&pf)?.into_iter().map(|(_, vf)| vf).collect();
    let node = Node { pf, vfs, before };
    taken_while_it_is_waited_for(&node)?;
    stands_on_it_elsewhere(&node)?;
    goes_with_it(guest, &node)?;
    through_uio(&node)?;

    bind_to_vfio(node.vf(2)?)?;
    boot::settle_udev()?;
    let node = Node { before: Nics::observe()?, ..node };
    looks_do_not_hinder(&node)?;
    opened_before_the_removal(&node)?;
    guest.keep(&journal::path())?;
    Ok(())
}

impl Node {
    fn vf(&self, index: usize) -> anyhow::Result<&str> {
        self.vfs.get(index).map(String::as_str).with_context(|| format!("there is no VF {index}"))
    }
}

/// A pod gets the VF's netdev while its restore still waits for udev: it keeps it, and nothing is wrong.
fn taken_while_it_is_waited_for(node: &Node) -> anyhow::Result<()> {
    say("== a VF is taken to a pod's namespace while its restore waits");
    NicDriver::new(["snapshot"]).quietly().run()?.expect(Exit::Success)?;
    let by_hand = ByHand::keep("igb")?;
    let vf = node.vf(2)?;
    command("ip", ["netns", "add", NAMESPACE])?;
    let slow = format!(
        "ACTION==\"add\", SUBSYSTEM==\"net\", KERNELS==\"{vf}\", PROGRAM=\"/bin/sleep {UDEV_TAKES}\"\n"
    );
    fs::create_dir_all("/run/udev/rules.d").context("cannot create a folder for rules")?;
    write(RULES, &slow)?;
    command("udevadm", ["control", "--reload"])?;
    write(pci_device(&node.pf).join("sriov_numvfs"), "0")?;
    by_hand.owe_again()?;

    let restore = NicDriver::new(["--timeout", "120", "restore-sriov"]).start()?;
    let name = wait::until("the VF's netdev", Duration::from_secs(60), || {
        let device = pci_device(vf);
        if device.exists() { netdev(&device) } else { Ok(None) }
    })?;
    let index = read(pci_device(vf).join("net").join(&name).join("ifindex"))?;
    command("ip", ["link", "set", "dev", &name, "netns", NAMESPACE])?;
    let taken = Instant::now();
    restore.wait_until_it_says("was moved to another network namespace meanwhile; left alone")?;
    let took = taken.elapsed();
    ensure!(took < AT_ONCE, "it has waited for {:.1} s", took.as_secs_f64());
    // udev may let others wait for the one that it is slow with, until it is done with it.
    restore.wait()?.expect(Exit::Success)?;
    let shown = command("ip", ["-netns", NAMESPACE, "-oneline", "link", "show"])?;
    ensure!(
        shown.lines().any(|line| line.starts_with(&format!("{}:", index.trim()))),
        "the pod does not have the netdev {name} ({}): {shown}",
        index.trim()
    );

    fs::remove_file(RULES).context("cannot remove the rules")?;
    command("udevadm", ["control", "--reload"])?;
    command("ip", ["netns", "delete", NAMESPACE])?;
    wait::until("the netdev comes back", AT_ONCE, || netdev(&pci_device(vf)))?;
    recovers(node, &by_hand)?;
    report(&format!(
        "taken to a pod while it was waited for: left alone, told after {:.1} s",
        took.as_secs_f64()
    ));
    Ok(())
}

/// What a container has on the PF in its own namespace goes with it: that is named, and stops a reload that may lose nothing.
fn stands_on_it_elsewhere(node: &Node) -> anyhow::Result<()> {
    say("== a container's macvlan on the PF");
    let pf = netdev(&pci_device(&node.pf))?.context("the PF has no netdev")?;
    command("ip", ["netns", "add", NAMESPACE])?;
    command(
        "ip",
        ["link", "add", "net1", "link", &pf, "netns", NAMESPACE, "type", "macvlan", "mode", "bridge"],
    )?;
    // As its network plugin does: the namespace has an id here.
    command("ip", ["link", "add", "pair0", "type", "veth", "peer", "name", "pair1", "netns", NAMESPACE])?;
    let named = format!("macvlan net1 on {pf}, in another network namespace");
    NicDriver::new(["preflight", "--force"]).run()?.expect(Exit::Success)?.expect_words(&[&named])?;
    let refused = NicDriver::new(["--lossy", "refuse", "preflight", "--force"]).run()?;
    refused.expect(Exit::Blocked)?.expect_words(&[&named])?;
    command("ip", ["netns", "delete", NAMESPACE])?;
    wait::until("the pair goes with its namespace", AT_ONCE, || {
        Ok((!Path::new("/sys/class/net/pair0").exists()).then_some(()))
    })?;
    boot::settle_udev()?;
    node.before.expect_unchanged()?;
    report("a container's macvlan on the PF is named before a reload");
    Ok(())
}

/// The kernel takes a socket of AF_XDP and a PTP clock from their programs, and what filters packets on the PF, and waits for nobody: they are
/// named, and the reload goes on.
fn goes_with_it(guest: &Guest, node: &Node) -> anyhow::Result<()> {
    say("== a socket of AF_XDP on the PF, and its clock");
    let netdev = netdev(&pci_device(&node.pf))?.context("the PF has no netdev")?;
    let mut clocks = fs::read_dir(pci_device(&node.pf).join("ptp")).context("the PF has no clock")?;
    let clock = clocks.next().transpose()?.context("the PF has no clock")?.file_name();
    let clock = Path::new("/dev").join(clock);
    let (clock_user, socket_user) = (open_file(&clock)?, open_xdp(&netdev)?);
    command("tc", ["qdisc", "add", "dev", &netdev, "clsact"])?;
    let filters = format!("the queueing discipline clsact ffff: with its filters on {netdev}");
    // Debian's 6.1 has no xsk_diag.
    let socket = if guest.kernel().starts_with("6.1.") {
        "sockets of AF_XDP are open, and whether they are on the NICs cannot be told".to_owned()
    } else {
        format!("process {} (sleep) has a socket of AF_XDP on queue 0 of {netdev}", socket_user.id())
    };
    let clock =
        format!("process {} (sleep) has {} open, the clock of {}", clock_user.id(), clock.display(), node.pf);
    let named = [socket.as_str(), clock.as_str(), filters.as_str()];
    NicDriver::new(["preflight", "--force"]).run()?.expect(Exit::Success)?.expect_words(&named)?;
    let refused = NicDriver::new(["--lossy", "refuse", "preflight", "--force"]).run()?;
    refused.expect(Exit::Blocked)?.expect_words(&named)?;
    NicDriver::new(["reload", "--force"]).run()?.expect(Exit::Success)?.expect_words(&named)?;
    NicDriver::new(["restore-sriov"]).quietly().run()?.expect(Exit::Success)?;
    node.before.expect_unchanged()?;
    clock_user.let_go()?;
    socket_user.let_go()?;
    let silent = NicDriver::new(["preflight", "--force"]).run()?.expect(Exit::Success)?;
    ensure!(!silent.says_any(&["af_xdp", "/dev/ptp", "clsact"]), "somebody is named who has gone");
    report(
        "a socket of AF_XDP, a PTP clock and filters on the PF are named before a reload, which does not wait for them",
    );
    Ok(())
}

/// The VF is somebody's through UIO. It is asked by the file's device number, which has another name where he is.
fn through_uio(node: &Node) -> anyhow::Result<()> {
    say("== a VF in somebody's hands through UIO");
    NicDriver::new(["snapshot"]).quietly().run()?.expect(Exit::Success)?;
    let by_hand = ByHand::keep("igb")?;
    let vf = node.vf(1)?;
    bind_to(vf, UIO)?;
    let uio = pci_device(vf).join("uio");
    let name = wait::until("the UIO device", AT_ONCE, || {
        let mut entries = fs::read_dir(&uio).with_context(|| format!("cannot list {}", uio.display()))?;
        Ok(entries.next().transpose()?.map(|entry| entry.file_name()))
    })?;
    let file = Path::new("/dev").join(&name);
    let elsewhere = Path::new("/tmp/device-of-a-pod");
    command("cp", ["-a".as_ref(), file.as_os_str(), elsewhere.as_os_str()])?;
    NicDriver::new(["preflight", "--force"]).quietly().run()?.expect(Exit::Success)?;

    let user = open_file(elsewhere)?;
    let references = read(format!("/sys/module/{UIO}/refcnt"))?;
    ensure!(references.trim() == "1", "{UIO} has {} references while its file is open", references.trim());
    let words =
        [format!("the VF {vf} is in use"), format!("process {} (sleep) has {}", user.id(), file.display())];
    for phase in ["preflight", "reload"] {
        let blocked = NicDriver::new([phase, "--force"]).run()?.expect(Exit::Blocked)?;
        let told = format!("{}{}", blocked.stdout, blocked.stderr);
        for word in &words {
            ensure!(told.contains(word), "{phase} does not say {word:?}: {told}");
        }
    }
    by_hand.owe_again()?;
    let (told, _) = Restored::run("igb", &[], Exit::Degraded)?;
    told.expect_failed(&[(vf, "is in use")])?;
    let driver = fs::read_link(pci_device(vf).join("driver")).context("the VF has no driver")?;
    ensure!(driver.ends_with(UIO), "the VF was taken from its user");
    user.let_go()?;
    recovers(node, &by_hand)?;
    report("a VF in somebody's hands through UIO: named by preflight, reload and restore, and left to him");
    Ok(())
}

/// A virtual machine that starts finds its group free, however often the machine is looked at.
fn looks_do_not_hinder(node: &Node) -> anyhow::Result<()> {
    say("== a virtual machine starts while the machine is looked at");
    // In a process of its own, whose files nobody inherits. The shell ends when it cannot open the group.
    let mut virtual_machine = Command::new("sh")
        .args(["-c", "while :; do exec 9<>\"$0\"; exec 9>&-; done"])
        .arg(group_of(node.vf(2)?)?)
        .spawn()
        .context("cannot start a shell")?;
    let looked = (0..LOOKS).try_for_each(|_| {
        let looked = NicDriver::new(["preflight", "--force"]).quietly().run()?;
        // It may be seen just while it has its group open.
        if looked.is(Exit::Blocked) { Ok(()) } else { looked.expect(Exit::Success).map(drop) }
    });
    let ended = virtual_machine.try_wait().context("cannot look at the shell")?;
    virtual_machine.kill().context("cannot end the shell")?;
    virtual_machine.wait().context("cannot wait for the shell")?;
    looked?;
    ensure!(ended.is_none(), "a look has taken the VFIO group from a virtual machine that starts");
    report(&format!("{LOOKS} looks: a VFIO group could be opened all the while"));
    Ok(())
}

/// A virtual machine starts when the last look is over: nothing is written to the PF, no VF loses its driver, no module goes.
fn opened_before_the_removal(node: &Node) -> anyhow::Result<()> {
    say("== a virtual machine starts between the last look and the removal");
    let (indices, modules) = (Nics::interface_indices()?, loaded_igb()?);
    let reload = NicDriver::new(["reload", "--force"]).start()?;
    // After the last look, and before the first VF is unbound. At once: neither is the journal read for it, nor a program started.
    let began = Instant::now();
    while !Path::new(BLACKLIST_FILE).exists() {
        ensure!(began.elapsed() < Duration::from_secs(120), "no blacklist came");
        thread::sleep(Duration::from_micros(200));
    }
    let process =
        i32::try_from(reload.id()).ok().and_then(Pid::from_raw).context("a process without a number")?;
    kill_process(process, Signal::STOP).context("cannot stop the program")?;
    let removes = |step: &Step| matches!(step, Step::RemoveVfs { .. });
    let is_late = journal::lines_of(reload.id())?.iter().any(|line| line.entry.begins(removes));
    let user = open_group(node.vf(2)?);
    reload.signal("CONT")?;
    ensure!(!is_late, "the program was stopped too late: it removes VFs already");
    let (user, ended) = (user?, reload.wait()?);
    let ended = ended.expect(Exit::RolledBack)?;
    let named = format!("{} is in use", node.vf(2)?);
    ensure!(ended.stderr.contains(&named), "it does not say {named:?}: {}", ended.stderr);
    ensure!(Nics::interface_indices()? == indices, "VFs were unbound or removed");
    ensure!(loaded_igb()? == modules, "modules were unloaded");
    node.before.expect_unchanged()?;
    user.let_go()?;
    report(
        "a virtual machine that starts between the last look and the removal keeps its VF, and all others theirs",
    );
    NicDriver::new(["restore-sriov"]).quietly().run()?.expect(Exit::Success)?;
    node.before.expect_unchanged()?;
    drivers::expect_loaded(&drivers::version("A")?)
}

/// When igb was loaded: its folder is made anew with the module.
fn loaded_igb() -> anyhow::Result<u64> {
    use std::os::unix::fs::MetadataExt as _;
    Ok(fs::metadata("/sys/module/igb").context("igb is not loaded")?.ino())
}

/// Nobody uses a VF any more: the same command finishes the work.
fn recovers(node: &Node, by_hand: &ByHand) -> anyhow::Result<()> {
    boot::settle_udev()?;
    by_hand.owe_again()?;
    let (told, _) = Restored::run("igb", &[], Exit::Success)?;
    let differences = node.before.differences(&Nics::observe()?);
    ensure!(differences.is_empty(), "{differences}; {told}");
    Ok(())
}
