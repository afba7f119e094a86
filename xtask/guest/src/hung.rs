//! What the machine is at when something does not end: where each process stands, for the one who reads the console
//! afterwards, when the machine is gone.

use std::fs;
use std::path::Path;

use crate::command::run;
use crate::console;

/// How many lines of the kernel's log are shown, from its end.
const LOG_LINES: usize = 30;

/// Prints each process that has a program or sleeps uninterruptibly, with its state, its command line and its kernel
/// stack (proc_pid_stat(5), proc_pid_stack(5)), and the end of the kernel's log.
pub(crate) fn tell_where_all_stand() {
    let Ok(entries) = fs::read_dir("/proc") else { return };
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().parse::<u32>().is_ok() {
            tell(&entry.path());
        }
    }
    if let Ok(log) = run("dmesg", ["--notime"]) {
        let lines: Vec<_> = log.lines().collect();
        for line in lines.iter().skip(lines.len().saturating_sub(LOG_LINES)) {
            console(&format!("kernel log: {line}\n"));
        }
    }
}

/// One process. One that has just ended has nothing to tell.
fn tell(process: &Path) {
    let Ok(stat) = fs::read_to_string(process.join("stat")) else { return };
    let Some((head, tail)) = stat.rsplit_once(')') else { return };
    let mut fields = tail.split_whitespace();
    let (state, parent) = (fields.next().unwrap_or("?"), fields.next().unwrap_or("?"));
    if fs::read_link(process.join("exe")).is_err() && state != "D" {
        return;
    }
    let arguments = fs::read(process.join("cmdline")).unwrap_or_default();
    let arguments = String::from_utf8_lossy(&arguments).replace('\0', " ");
    let stack = fs::read_to_string(process.join("stack")).unwrap_or_default();
    let stack: Vec<_> = stack.lines().filter_map(|line| line.split_whitespace().nth(1)).collect();
    console(&format!(
        "process {head}), child of {parent}, state {state}: {}: {}\n",
        arguments.trim_end(),
        stack.join(" < ")
    ));
}
