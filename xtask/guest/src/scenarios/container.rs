//! A container on a RHEL host: its own module tree holds nothing but the packages', the host's is below `/host`. The
//! packages' modules go into the host's tree, with their SELinux label, and come out of it again on the way back.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use nic_driver::Exit;

use crate::command::run as command;
use crate::drivers::{self, Flow};
use crate::guest::Guest;
use crate::image;
use crate::observe::Nics;
use crate::program::{NicDriver, store};
use crate::rdma::loaded;
use crate::{read, report, say, vfs, write};

/// Few, since it is the modules that matter here.
const VFS: u32 = 2;
/// The family igb, with a module of the kernel's own that is loaded beforehand: only the host has it.
const IGB: &str = include_str!("../../../../crates/nic-driver/families/igb.toml");
const FAMILY: &str = "/tmp/container.toml";
const BEFOREHAND: &str = "pci_hyperv_intf";
const LABEL: &str = "system_u:object_r:modules_object_t:s0\0";

pub(crate) fn run(guest: &Guest) -> anyhow::Result<()> {
    let inbox = drivers::loaded("igb")?;
    let before = vfs::configure_each(VFS)?;
    image::become_container(guest.kernel(), Flow::Rpm)?;
    write(FAMILY, &format!("{IGB}beforehand = [\"{BEFOREHAND}\", \"no_such_module\"]\n"))?;
    ensure!(!loaded()?.contains(BEFOREHAND), "{BEFOREHAND} is loaded already");
    let host = Path::new("/host/lib/modules").join(guest.kernel());
    let copies = host.join("extra/lab-igb");
    let inbox_file = image::found_on_host("igb")?;
    ensure!(inbox_file.contains("/kernel/"), "the host would load {inbox_file}");
    ensure!(read("/proc/filesystems")?.contains("selinuxfs"), "the kernel runs without SELinux");

    for letter in ["A", "B"] {
        say(&format!("== driver {letter}"));
        let packages = drivers::folder(letter, Flow::Rpm).display().to_string();
        nic_driver(&["install", "--packages", &packages]).run()?.expect(Exit::Success)?;
        let link = fs::read_link(format!("/lib/modules/{}/extra/lab-igb", guest.kernel()));
        ensure!(link.context("the container's folder is no link")? == copies, "the link leads elsewhere");
        ensure!(
            image::found_on_host("igb")?.contains("/extra/lab-igb/"),
            "the host would load {}",
            image::found_on_host("igb")?
        );
        for file in modules_below(&copies)? {
            ensure!(label_of(&file)? == LABEL, "{} is labelled {:?}", file.display(), label_of(&file)?);
        }
    }
    nic_driver(&["reload"]).run()?.expect(Exit::Success)?;
    ensure!(loaded()?.contains(BEFOREHAND), "{BEFOREHAND} was not loaded from the host's tree");
    let kept = modules_below(&store("igb").backup_folder())?;
    ensure!(!kept.is_empty(), "no module was kept");
    for file in kept {
        ensure!(label_of(&file)? == LABEL, "{} is labelled {:?}", file.display(), label_of(&file)?);
    }
    nic_driver(&["restore-sriov"]).run()?.expect(Exit::Success)?;
    drivers::expect_loaded(&drivers::version("B")?)?;
    same(&before)?;

    say("== back to the host's own driver");
    let terminated = nic_driver(&["terminate", "--restore-driver"]).run()?.expect(Exit::Success)?;
    ensure!(terminated.stdout.contains("taken out of the host's modules"), "{}", terminated.stdout);
    ensure!(!copies.exists(), "{} is still there", copies.display());
    ensure!(
        image::found_on_host("igb")? == inbox_file,
        "the host would load {}",
        image::found_on_host("igb")?
    );
    ensure!(drivers::loaded("igb")? == inbox, "the loaded igb is not the inbox one");
    same(&before)?;
    report(
        "modules in the host's tree, labelled, exchanged, and taken out again; the host finds its own driver",
    );
    Ok(())
}

fn nic_driver(arguments: &[&str]) -> NicDriver {
    NicDriver::bare(["--family", FAMILY].iter().chain(arguments))
}

fn modules_below(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let found = command("find", [folder.as_os_str(), "-name".as_ref(), "*.ko*".as_ref()])?;
    Ok(found.lines().map(PathBuf::from).collect())
}

fn label_of(file: &Path) -> anyhow::Result<String> {
    let mut label = vec![0; 256];
    let size = rustix::fs::lgetxattr(file, "security.selinux", &mut label)
        .with_context(|| format!("{} has no label", file.display()))?;
    label.truncate(size);
    String::from_utf8(label).context("a label that is no text")
}

fn same(before: &Nics) -> anyhow::Result<()> {
    let differences = before.differences(&Nics::observe()?);
    ensure!(differences.is_empty(), "{differences}");
    Ok(())
}
