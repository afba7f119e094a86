//! Hook scripts around the reload of the RDMA stack, which write down when they were run.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};

use crate::{read, wait, write};

const FOLDER: &str = "/etc/infiniband";
const LOG: &str = "/tmp/hooks";
/// The hook that fails, and how that is told.
pub(crate) const FAILURE: &str = "`/etc/infiniband/post-stop-hook.sh` failed (exit code 7)";

/// What the daemon that the last hook leaves writes once it has printed, long after the hook has ended.
const DAEMON: &str = "/tmp/daemon-of-a-hook";

/// Writes all four. Each writes down whether the stack was loaded; one fails; the last leaves a daemon that prints later.
pub(crate) fn write_all() -> anyhow::Result<()> {
    for (name, end) in [("pre-stop", 0), ("post-stop", 7), ("pre-start", 0), ("post-start", 0)] {
        let daemon = match name {
            "post-start" => format!("(sleep 2; echo late; echo late >&2; echo lives >> {DAEMON}) &\n"),
            _ => String::new(),
        };
        let text = format!(
            "#!/bin/sh\n{daemon}echo {name} $(grep -c '^ib_core ' /proc/modules) >> {LOG}\nexit {end}\n"
        );
        write_script(&format!("{FOLDER}/{name}-hook.sh"), &text)?;
    }
    Ok(())
}

/// Writes a script that can be executed.
pub(crate) fn write_script(path: &str, text: &str) -> anyhow::Result<()> {
    let folder = Path::new(path).parent().context("a script without a folder")?;
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    write(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
        .with_context(|| format!("cannot change {path}"))
}

/// An error unless each was run once since the last call, at its moment.
pub(crate) fn expect_each_once() -> anyhow::Result<()> {
    let ran = read(LOG).context("no hook was run")?;
    ensure!(ran == "pre-stop 1\npost-stop 0\npre-start 0\npost-start 1", "the hooks were run so: {ran:?}");
    fs::remove_file(LOG).with_context(|| format!("cannot remove {LOG}"))
}

/// An error unless the daemon that the last hook left lives after it has printed.
pub(crate) fn expect_daemon() -> anyhow::Result<()> {
    wait::until("the daemon of a hook has printed, and lives", Duration::from_secs(30), || {
        Ok(Path::new(DAEMON).exists().then_some(()))
    })?;
    fs::remove_file(DAEMON).with_context(|| format!("cannot remove {DAEMON}"))
}

/// An error if one was run since.
pub(crate) fn expect_none() -> anyhow::Result<()> {
    ensure!(!Path::new(LOG).exists(), "a hook was run although nothing was reloaded");
    Ok(())
}
