//! What the program says of itself.

use std::fs;
use std::path::Path;
use std::process::Command;

use clap::CommandFactory as _;
use nic_driver::Exit;
use nic_driver::cli::Cli;

use crate::program::Sandbox;

#[test]
fn every_command_has_an_example_and_the_common_options() {
    let sandbox = Sandbox::new();
    let commands: Vec<String> =
        Cli::command().get_subcommands().map(|command| command.get_name().to_owned()).collect();
    assert!(commands.contains(&"restore-sriov".to_owned()), "{commands:?}");
    for command in &commands {
        let ran = sandbox.run(&[command, "--help"]);
        let help = ran.succeeded();
        assert!(help.contains("Example: nic-driver "), "{command}: {help}");
        for option in ["--output", "--root", "--state-dir", "--family", "--timeout"] {
            assert!(help.contains(option), "{command} has no {option}: {help}");
        }
    }
    let top = sandbox.run(&["--help"]);
    for text in commands.iter().map(String::as_str).chain(["Example: nic-driver ", "docs/exit-codes.md"]) {
        assert!(top.succeeded().contains(text), "{text}");
    }
}

#[test]
fn completions_and_the_manual_page_know_the_commands() {
    let sandbox = Sandbox::new();
    for arguments in [&["completions", "bash"][..], &["completions", "zsh"], &["man"]] {
        let ran = sandbox.run(arguments);
        let text = ran.succeeded().replace('\\', "");
        assert!(text.contains("nic-driver") && text.contains("restore-sriov"), "{arguments:?}");
    }
}

/// What bash offers after these words, the last of which is being written.
fn offered(script: &Path, words: &[&str]) -> String {
    let line = words.iter().map(|word| format!("'{word}' ")).collect::<String>();
    let last = words.len() - 1;
    let commands = format!(
        "source {}; COMP_WORDS=({line}); COMP_CWORD={last}; _nic__driver nic-driver '{}' '{}'; echo \"${{COMPREPLY[@]}}\"",
        script.display(),
        words[last],
        words[last - 1]
    );
    let output = Command::new("bash").args(["-c", &commands]).output().expect("bash is needed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn trial_w24_bash_completes_commands_and_their_options() {
    let sandbox = Sandbox::new();
    let script = sandbox.path("completions");
    fs::write(&script, sandbox.run(&["completions", "bash"]).succeeded()).unwrap();
    assert!(offered(&script, &["nic-driver", "re"]).contains("restore-sriov"));
    let of_plan = offered(&script, &["nic-driver", "plan", ""]);
    assert!(of_plan.contains("reload") && of_plan.contains("restore-sriov"), "{of_plan}");
    for command in ["report", "restore-sriov", "reload"] {
        let options = offered(&script, &["nic-driver", command, "--o"]);
        assert!(options.contains("--output"), "{command}: {options:?}");
    }
    let all = offered(&script, &["nic-driver", "reload", "--"]);
    assert!(all.contains("--timeout") && !all.contains("--storage-modules"), "{all}");
}

#[test]
fn the_table_of_exit_codes_is_complete() {
    let table = include_str!("../../../../docs/exit-codes.md");
    let documented: Vec<(u8, String)> = table
        .lines()
        .filter_map(|line| {
            let mut cells = line.split('|').map(str::trim).skip(1);
            let code = cells.next()?.parse().ok()?;
            Some((code, cells.next()?.trim_matches('`').to_owned()))
        })
        .collect();
    let existing: Vec<(u8, String)> =
        Exit::ALL.into_iter().map(|exit| (exit as u8, format!("{exit:?}"))).collect();
    assert_eq!(documented, existing);
}
