//! The script that completes words in a shell.

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::arguments::Cli;

/// The program's name, in whose hyphen clap_complete's script for bash loses its way.
const NAME: &str = "nic-driver";

/// The script for a shell.
pub(super) fn completions(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), NAME, &mut script);
    if shell != Shell::Bash {
        return script;
    }
    let script = String::from_utf8_lossy(&script).into_owned();
    // The script finds out the command in one form of the program's name, and looks its words up in another.
    let (found, looked_up) = (NAME.replace('-', "__"), NAME.replace('-', "__subcmd__"));
    let script = script.replace(&format!("{looked_up}__subcmd__"), &format!("{found}__subcmd__"));
    without_hidden(&script).into_bytes()
}

/// The script without the options that no help shows.
fn without_hidden(script: &str) -> String {
    let program = Cli::command();
    let hidden: Vec<String> = program
        .get_subcommands()
        .chain([&program])
        .flat_map(clap::Command::get_arguments)
        .filter(|argument| argument.is_hide_set())
        .filter_map(|argument| Some(format!("--{}", argument.get_long()?)))
        .collect();
    let line = |line: &str| match line.split_once("opts=\"") {
        Some((before, words)) => {
            let words = words.trim_end_matches('"').split(' ');
            let shown: Vec<&str> = words.filter(|word| !hidden.iter().any(|hidden| hidden == word)).collect();
            format!("{before}opts=\"{}\"\n", shown.join(" "))
        }
        None => format!("{line}\n"),
    };
    script.lines().map(line).collect()
}
