//! Killed with SIGKILL when any line of the journal is durable, and started again: the node is then what it is after a run that nobody
//! has killed, file by file.

use std::collections::BTreeMap;
use std::path::Path;

use crate::chroot::{Chroot, Running, until};
use crate::program::CommandResult;

/// Written anew by each run, or by each process: that they are there is compared, and not what is in them.
const OF_ONE_RUN: [&str; 5] = ["journal.jsonl", "request.json", "result.json", "status", "entrypoint"];

/// What becomes of the container of a process that was killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Container {
    /// The next process finds what it has left: on a bare host, or when the entrypoint is called anew.
    Stays,
    /// Its files are gone; the host's, the inventory's and the shared folder's stay.
    IsNew,
}

/// A command that is killed at each line of the journal that it writes.
pub(crate) struct KillMatrix<'a> {
    pub(crate) root: &'a Chroot,
    pub(crate) variables: &'a [(&'a str, &'a str)],
    pub(crate) command: &'a [&'a str],
    /// What runs beside it and is not killed with it: the build sidecar.
    pub(crate) beside: Option<&'a dyn Fn(&Chroot) -> Running>,
}

impl KillMatrix<'_> {
    /// Kills it everywhere, and lets `look` judge each start after that, beside the files, which are compared. Returns the number of lines.
    pub(crate) fn run(&self, look: impl Fn(&CommandResult)) -> usize {
        let untouched = self.root.paths();
        let (undisturbed, files) = self.ended(&[], Container::Stays);
        undisturbed.succeeded();
        look(&undisturbed);
        for container in [Container::Stays, Container::IsNew] {
            for line in 1.. {
                self.root.reset(&untouched);
                let at = line.to_string();
                let kill = [("NIC_DRIVER_KILL_AT_LINE", &*at)];
                let (ended, after) = self.ended(&kill, container);
                if ended.code == -1 {
                    assert!(line > 4, "the command has written {line} lines alone");
                    if container == Container::IsNew {
                        return line - 1;
                    }
                    break;
                }
                let place = format!("killed at line {line}, the container {container:?}");
                assert_eq!(differences(&files, &after), Vec::<String>::new(), "{place}: {}", ended.text());
                look(&ended);
            }
        }
        unreachable!("a container that is new is the last case")
    }

    /// Runs it, killed once if `kill` says so, and then to its end; returns what came of that, and the files that are there then. The code
    /// is -1 where it was not killed although it was to be.
    fn ended(
        &self,
        kill: &[(&str, &str)],
        container: Container,
    ) -> (CommandResult, BTreeMap<String, Vec<u8>>) {
        let beside = self.beside.map(|start| start(self.root));
        let mut ended = None;
        if !kill.is_empty() {
            let killed = self.root.run(&[self.variables, kill].concat(), self.command);
            if killed.code == 0 {
                ended = Some(CommandResult { code: -1, ..killed });
            } else {
                assert_eq!(killed.code, 137, "{}", killed.text());
            }
        }
        let ended = ended.unwrap_or_else(|| {
            if container == Container::IsNew {
                self.root.renew_container();
            }
            self.root.run(self.variables, self.command)
        });
        if let Some(mut beside) = beside {
            until("the start flag is taken off", || !self.root.asks_the_sidecar());
            beside.terminate();
            beside.wait();
        }
        (ended, self.root.files())
    }
}

/// What differs, but for what is of one run alone.
fn differences(expected: &BTreeMap<String, Vec<u8>>, found: &BTreeMap<String, Vec<u8>>) -> Vec<String> {
    let is_of_one_run = |path: &str| {
        let name = Path::new(path).file_name().unwrap_or_default();
        OF_ONE_RUN.iter().any(|one| name == *one)
    };
    // A container in which nothing had to be built may lack a folder for that.
    let missing = expected.keys().filter(|path| !found.contains_key(*path) && !path.ends_with('/'));
    let other = found.iter().filter(|(path, content)| {
        expected.get(*path).is_none_or(|expected| expected != *content && !is_of_one_run(path))
    });
    missing
        .map(|path| format!("{path} is missing"))
        .chain(other.map(|(path, content)| {
            let expected = expected.get(path).map_or("nothing".to_owned(), |expected| shown(expected));
            format!("{path} holds {} in place of {expected}", shown(content))
        }))
        .collect()
}

fn shown(content: &[u8]) -> String {
    String::from_utf8_lossy(content).chars().take(200).map(|c| c.escape_debug().to_string()).collect()
}
