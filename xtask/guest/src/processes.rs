//! The processes of the machine, by what their folders in /proc say.

use std::fs;
use std::path::Path;

use anyhow::Context as _;

/// The numbers of those whose folder is wanted. A process may end meanwhile, and not everything in /proc is one: then a file is not there.
pub(crate) fn find(is_wanted: impl Fn(&Path) -> bool) -> anyhow::Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").context("cannot list processes")? {
        let process = entry.context("cannot list processes")?.path();
        if is_wanted(&process) {
            found.extend(process.file_name().map(|number| number.to_string_lossy().into_owned()));
        }
    }
    Ok(found)
}

/// A file of a process; empty when it has ended.
pub(crate) fn read(process: &Path, file: &str) -> String {
    fs::read_to_string(process.join(file)).unwrap_or_default()
}

/// Whether a process has ended, and nobody has asked how (proc_pid_stat(5): its state follows its name, which is in parentheses).
pub(crate) fn has_ended(process: &Path) -> bool {
    read(process, "stat").contains(") Z ")
}
