//! The stack is reloaded by an init script that stands for the vendor's: one that is not there, one that does
//! nothing, one that works. Then the inbox driver is gone back to with the whole stack.

use std::collections::BTreeSet;

use anyhow::ensure;
use nic_driver::Exit;

use crate::command::run as command;
use crate::drivers::{self, Flow};
use crate::guest::Guest;
use crate::observe::Nics;
use crate::rdma::{LISTED, describe_family, expect_loaded, loaded, nic_driver};
use crate::{hooks, report, say, vfs};

const SCRIPT: &str = "/etc/init.d/openibd";
const STORAGE: &str = "--unload-storage-modules";
const BY_SCRIPT: &str = "--reload-with=openibd";
/// Few, since it is the modules that matter here.
const VFS: u32 = 2;

/// As the vendor's: it refuses to stop while storage modules are loaded, runs the hooks, and loads its own modules.
const OPENIBD: &str = "\
#!/bin/sh
hook() { [ -x /etc/infiniband/$1-hook.sh ] && /etc/infiniband/$1-hook.sh; }
[ \"$1\" = restart ] || exit 2
grep -E '^(nvme_rdma|rpcrdma) ' /proc/modules && exit 1
hook pre-stop
modprobe -r ib_ipoib rdma_ucm rdma_cm mlx5_ib ib_umad ib_uverbs mlx5_core ib_cm iw_cm ib_core igbvf igb || exit 1
hook post-stop
hook pre-start
modprobe -a igb igbvf mlx5_core mlx5_ib ib_umad ib_uverbs ib_ipoib rdma_cm rdma_ucm || exit 1
hook post-start
exit 0
";
const DOES_NOTHING: &str = "#!/bin/sh\necho No InfiniBand configuration found\nexit 0\n";

pub(crate) fn run(_guest: &Guest) -> anyhow::Result<()> {
    drivers::pretend_distribution(Flow::Rpm)?;
    describe_family()?;
    let inbox = drivers::loaded("igb")?;
    let nics = vfs::configure_each(VFS)?;
    for module in LISTED.iter().chain(&["rpcrdma", "nvme_rdma"]) {
        command("modprobe", [module])?;
    }
    hooks::write_all()?;
    let modules = loaded()?;

    say("== an init script that is not there");
    for arguments in [["preflight", "--force"], ["reload", "--force"]] {
        let blocked = nic_driver(&[&[STORAGE, BY_SCRIPT], arguments.as_slice()].concat())
            .run()?
            .expect(Exit::Blocked)?;
        ensure!(blocked.says_any(&["the init script /etc/init.d/openibd is not there"]), "it is not named");
    }
    hooks::expect_none()?;
    same(&modules, &nics)?;

    say("== an init script that says that all is well, and does nothing");
    let packages = drivers::folder("A", Flow::Rpm).display().to_string();
    nic_driver(&["install", "--packages", &packages]).run()?.expect(Exit::Success)?;
    hooks::write_script(SCRIPT, DOES_NOTHING)?;
    let reload = nic_driver(&[STORAGE, BY_SCRIPT, "reload"]).run()?.expect(Exit::RolledBack)?;
    let words = "said that all is well, and yet these are not the installed ones: igb";
    ensure!(reload.stderr.contains(words), "{}", reload.stderr);
    hooks::expect_none()?;
    ensure!(drivers::loaded("igb")? == inbox, "the loaded igb is not the one that was put back");
    same(&modules, &nics)?;

    say("== one that does what it is there for");
    hooks::write_script(SCRIPT, OPENIBD)?;
    nic_driver(&[STORAGE, BY_SCRIPT, "reload", "--retry-rolled-back"]).run()?.expect(Exit::Success)?;
    hooks::expect_each_once()?;
    drivers::expect_loaded(&drivers::version("A")?)?;
    nic_driver(&["restore-sriov"]).run()?.expect(Exit::Success)?;
    same(&modules, &nics)?;

    say("== back to the inbox driver, with the whole stack");
    nic_driver(&[STORAGE, BY_SCRIPT, "terminate", "--restore-driver"]).run()?.expect(Exit::Success)?;
    hooks::expect_each_once()?;
    ensure!(drivers::loaded("igb")? == inbox, "the loaded igb is not the inbox one");
    same(&modules, &nics)?;
    report(
        "the stack by an init script that does nothing, by one that works, and back to the inbox driver: the same modules and VFs",
    );
    Ok(())
}

fn same(modules: &BTreeSet<String>, nics: &Nics) -> anyhow::Result<()> {
    expect_loaded(modules)?;
    let differences = nics.differences(&Nics::observe()?);
    ensure!(differences.is_empty(), "{differences}");
    Ok(())
}
