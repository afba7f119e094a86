//! What the processes of a driver container take of the memory.

use anyhow::Context as _;
use lab_guest::bench::Memory;

use crate::read;

/// The first process and the program that it has started, which waits to be told to stop.
pub(crate) fn of_container(pid_1: u32) -> anyhow::Result<Vec<Memory>> {
    let children = read(format!("/proc/{pid_1}/task/{pid_1}/children"))?;
    let program = children.split_whitespace().next().context("PID 1 has started no program")?;
    [("PID 1", pid_1.to_string()), ("the program", program.to_owned())]
        .into_iter()
        .map(|(process, pid)| of_process(process, &pid))
        .collect()
}

fn of_process(process: &str, pid: &str) -> anyhow::Result<Memory> {
    let file = format!("/proc/{pid}/smaps_rollup");
    parse(process, &read(&file)?).with_context(|| format!("{file} is not as expected"))
}

/// The lines look like `Rss:                4112 kB`.
fn parse(process: &str, rollup: &str) -> Option<Memory> {
    let value = |key: &str| {
        let rest = rollup.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
        rest.trim().strip_suffix(" kB")?.parse::<u32>().ok()
    };
    Some(Memory { process: process.to_owned(), rss_kib: value("Rss")?, pss_kib: value("Pss")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_tells_is_read() {
        let text = "\
5580-7ffd [rollup]
Rss:                9216 kB
Pss:                4571 kB
Pss_Dirty:           812 kB
Swap:                  0 kB
";
        let expected = Memory { process: "it".to_owned(), rss_kib: 9216, pss_kib: 4571 };
        assert_eq!(parse("it", text), Some(expected));
        assert_eq!(parse("it", "Rss: 9216 kB\n"), None);
    }
}
