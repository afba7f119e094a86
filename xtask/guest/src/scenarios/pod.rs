//! The documented night in pods: a driver container with A, its end, one with B, its end. Each way in which packages come.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use nic_driver::Exit;

use crate::command::run as command;
use crate::drivers::{self, Flow};
use crate::guest::Guest;
use crate::kubelet::events::{End, What};
use crate::pods::{DRIVER, Node, RESTORE_DRIVER, Started, System};
use crate::{report, write};

/// Until a pod is ready whose packages are there.
const PATIENCE: Duration = Duration::from_secs(600);
/// Until one is whose packages are built first: a compiler takes its time here.
const WITH_BUILD: Duration = Duration::from_secs(1200);
/// Where the manifests' hostPath of the inventory is.
const INVENTORY: &str = "/var/opt/nic-driver/inventory";
/// Where the container sees it.
const SEEN_INVENTORY: &str = "/mnt/drivers-inventory";
/// Of each PF. What more of them take is for `night` and `pod-upgrade`.
const VFS: u32 = 3;
/// Between two pings of a night.
const PING: Duration = Duration::from_millis(20);
/// The same beside a compiler, which needs the processor.
const RARE_PING: Duration = Duration::from_millis(500);
/// Those of the manifest.
const CAPABILITIES: [&str; 8] = [
    "CAP_SYS_MODULE",
    "CAP_NET_ADMIN",
    "CAP_SYS_ADMIN",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_SETGID",
    "CAP_SETUID",
];
/// The versions, and whether the inbox driver comes back at the end.
const NIGHT: [(&str, &str); 2] = [("A", "false"), ("B", "true")];

/// OpenShift: A built by the sidecar, A once more from the inventory that it is in now, then B, and back to the inbox driver. What is
/// not built is what the incumbent has left in the inventory.
pub(crate) fn on_openshift(guest: &Guest) -> anyhow::Result<()> {
    let builds: usize = guest.parameter("builds")?;
    let mut node = Node::set_up(System::OpenShift, VFS, Some(RARE_PING))?;
    stopped_in_mid_build(&mut node)?;
    for (number, (letter, restore)) in [("A", "false"), ("A", "false"), ("B", "true")].into_iter().enumerate()
    {
        let is_to_be_built = number == 0 || letter == "B" && builds > 1;
        if letter == "B" && !is_to_be_built {
            store_as_incumbent(guest, letter, Flow::Rpm)?;
        }
        let started = node.start(&format!("openshift-{letter}"), &[(RESTORE_DRIVER, restore)])?;
        node.until_ready(&started, letter, WITH_BUILD)?;
        let is_built = started.pod.log(DRIVER)?.contains("step=have packages built by the sidecar");
        ensure!(is_built == is_to_be_built, "{letter} was built by the sidecar: {is_built}");
        node.delete(started)?;
        expect_after(&node, letter, restore)?;
    }
    node.end(guest)
}

/// Told to stop while the sidecar builds: both containers end well and at once, and the build leaves nothing to the next pod.
fn stopped_in_mid_build(node: &mut Node) -> anyhow::Result<()> {
    let started = node.start("openshift-A", &[])?;
    started.pod.wait_until_it_says(DRIVER, "build sidecar: ", PATIENCE)?;
    let ended = node.delete(started)?;
    let time = ended.time.context("the driver container was not running")?;
    report(&format!("told to stop in mid-build: {:.1} s from SIGTERM to the end", time.as_secs_f64()));
    node.expect_inbox()
}

/// The night on a node with the inventory that the incumbent has left; back to the inbox driver.
pub(crate) fn run(guest: &Guest) -> anyhow::Result<()> {
    // Red Hat's kernels have other names than Debian's backports.
    let (system, pod, flow) = if guest.kernel().contains('+') {
        (System::Debian, "sources-debian", Flow::Deb)
    } else {
        (System::Rhel, "sources", Flow::Rpm)
    };
    let mut node = Node::set_up(system, VFS, Some(PING))?;
    for (letter, restore) in NIGHT {
        store_as_incumbent(guest, letter, flow)?;
        one_life(&mut node, pod, letter, restore)?;
    }
    node.end(guest)
}

/// The night with images that have the modules; back to the inbox driver.
pub(crate) fn from_images(guest: &Guest) -> anyhow::Result<()> {
    let mut node = Node::set_up(System::Debian, VFS, Some(PING))?;
    for (letter, restore) in NIGHT {
        one_life(&mut node, "precompiled", letter, restore)?;
    }
    node.end(guest)
}

/// A driver's pod from its start to its end; the last of a night reports.
fn one_life(node: &mut Node, pod: &str, letter: &str, restore: &str) -> anyhow::Result<()> {
    let started = node.start(&format!("{pod}-{letter}"), &[(RESTORE_DRIVER, restore)])?;
    node.until_ready(&started, letter, PATIENCE)?;
    if restore == "true" {
        report_of(&started)?;
    }
    node.delete(started)?;
    expect_after(node, letter, restore)
}

/// Reports what the program in the pod tells of its night.
fn report_of(started: &Started) -> anyhow::Result<()> {
    let text = started.pod.exec(DRIVER, &["nic-driver", "report"])?;
    ensure!(text.code == 0, "nic-driver report in the pod: {}", text.text);
    report(&text.text);
    Ok(())
}

fn entry(guest: &Guest, below: &Path, letter: &str) -> anyhow::Result<PathBuf> {
    Ok(below.join(guest.kernel()).join(drivers::version(letter)?.version))
}

/// Without `privileged`: A and back to the inbox driver with the manifest's capabilities and the runtime's seccomp profile; and without any
/// capability all that are lacking are named before anything is changed.
pub(crate) fn with_least_privilege(guest: &Guest) -> anyhow::Result<()> {
    let mut node = Node::set_up(System::Debian, VFS, Some(PING))?;
    let started = node.start_without_capabilities("least-privilege-A")?;
    let refused = started.pod.wait_for_event("the container ends", PATIENCE, |event| {
        event.container == DRIVER && matches!(event.what, What::Ended(_))
    })?;
    let expected = Exit::NotRoot as i32;
    ensure!(refused.what == What::Ended(End::Exited(expected)), "the container {}", refused.what);
    let message = started.pod.termination_message(DRIVER)?.unwrap_or_default();
    for capability in CAPABILITIES {
        ensure!(
            message.contains(capability),
            "the termination message does not name {capability}: {message:?}"
        );
    }
    started.pod.delete()?;
    node.expect_inbox()?;
    store_as_incumbent(guest, "A", Flow::Deb)?;
    let started = node.start("least-privilege-A", &[(RESTORE_DRIVER, "true")])?;
    node.until_ready(&started, "A", PATIENCE)?;
    node.delete(started)?;
    node.expect_inbox()?;
    node.end(guest)
}

/// An error unless the driver that runs after a pod's end is the one that was to be, and every VF is what it was.
fn expect_after(node: &Node, letter: &str, restore: &str) -> anyhow::Result<()> {
    if restore == "true" { node.expect_inbox() } else { node.expect(letter) }
}

/// An entry of the inventory as the incumbent leaves it: packages, MD5 of their MD5s by the paths that its container sees, and
/// three lines of settings.
fn store_as_incumbent(guest: &Guest, letter: &str, flow: Flow) -> anyhow::Result<()> {
    let folder = entry(guest, Path::new(INVENTORY), letter)?;
    let seen = entry(guest, Path::new(SEEN_INVENTORY), letter)?;
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    if !Path::new(SEEN_INVENTORY).exists() {
        fs::create_dir_all("/mnt").context("cannot create /mnt")?;
        std::os::unix::fs::symlink(INVENTORY, SEEN_INVENTORY).context("cannot link the inventory")?;
    }
    let package = drivers::only_file(&drivers::folder(letter, flow))?;
    let name = package.file_name().context("a package without a name")?;
    fs::copy(&package, folder.join(name)).with_context(|| format!("cannot copy {}", package.display()))?;
    let sums = format!("find {} -type f -exec md5sum {{}} + | md5sum | cut -d' ' -f1", seen.display());
    let checksum = command("sh", ["-c", &sums])?;
    // Versions have dots: what follows the name is no extension.
    let beside = |end: &str| format!("{}.{end}", folder.display());
    write(beside("checksum"), &checksum)?;
    write(beside("buildconfig"), "ENABLE_NFSRDMA=false\nUSE_DKMS=false\nAPPEND_DRIVER_BUILD_FLAGS=\n")
}
