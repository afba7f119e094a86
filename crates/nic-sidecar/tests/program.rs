//! The program as it is started: what is wrong is named, and its end is a good one.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

fn program(variables: &[(&str, &str)], arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nic-driver-sidecar"));
    command.env_clear().envs(variables.iter().copied()).args(arguments).stdin(Stdio::null());
    command
}

/// The exit code, and what is printed to stderr.
fn ended(Output { status, stderr, .. }: &Output) -> (Option<i32>, String) {
    (status.code(), String::from_utf8_lossy(stderr).into_owned())
}

/// The variables of `dtk.env`, with the flags' paths.
fn dtk_env(folder: &Path) -> [(&'static str, String); 5] {
    let below = |name: &str| folder.join(name).display().to_string();
    [
        ("DTK_OCP_NIC_SHARED_DIR", folder.display().to_string()),
        ("DTK_OCP_COMPILED_DRIVER_VER", "25.10-1.2.8.0".to_owned()),
        ("NVIDIA_NIC_DRIVER_VER", "25.10-1.2.8.0".to_owned()),
        ("DTK_OCP_START_COMPILE_FLAG", below("dtk_start_compile")),
        ("DTK_OCP_DONE_COMPILE_FLAG", below("dtk_done_compile_25_10_1_2_8_0")),
    ]
}

#[test]
fn what_is_wrong_is_named_with_exit_code_2() {
    for (variables, arguments, named) in [
        (&[][..], &[][..], "no command"),
        (&[], &["restore-sriov"], "\"restore-sriov\" is not a command of nic-driver-sidecar"),
        (&[], &["dtk-build"], "DTK_OCP_NIC_SHARED_DIR is not set"),
        (&[("NIC_DRIVER_LOG", "")], &["dtk-build"], "DTK_OCP_NIC_SHARED_DIR is not set"),
        (&[("NIC_DRIVER_LOG", "a=b=c")], &["dtk-build"], "NIC_DRIVER_LOG=\"a=b=c\""),
        (&[("NIC_DRIVER_LOG_FORMAT", "xml")], &["dtk-build"], "NIC_DRIVER_LOG_FORMAT=\"xml\""),
    ] {
        let output = program(variables, arguments).output().unwrap();
        let (code, stderr) = ended(&output);
        assert!(code == Some(2) && stderr.contains(named), "{code:?}: {stderr}");
    }
}

#[test]
fn help_names_the_variables() {
    let output = program(&[], &["--help"]).output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success());
    for named in ["dtk-build", "NIC_DRIVER_LOG ", "NIC_DRIVER_LOG_FORMAT", "HTTPS_PROXY"] {
        assert!(help.contains(named), "{help}");
    }
}

#[test]
fn a_folder_that_is_not_there_is_named_with_exit_code_1() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("none");
    let (code, stderr) = ended(&program(&[], &["dtk-build"]).envs(dtk_env(&missing)).output().unwrap());
    assert!(code == Some(1) && stderr.contains(&missing.display().to_string()), "{code:?}: {stderr}");
}

#[test]
fn the_first_signal_is_a_good_end() {
    for signal in [rustix::process::Signal::TERM, rustix::process::Signal::INT] {
        let folder = tempfile::tempdir().unwrap();
        let mut command = program(&[("NIC_DRIVER_LOG_FORMAT", "json")], &["dtk-build"]);
        let mut child = command.envs(dtk_env(folder.path())).stderr(Stdio::piped()).spawn().unwrap();
        // It listens to signals before it touches the folder.
        let (status, began) = (folder.path().join(".nic-driver/status"), Instant::now());
        while !status.exists() {
            let ended = child.try_wait().unwrap();
            assert!(ended.is_none() && began.elapsed() < Duration::from_secs(60), "{ended:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
        rustix::process::kill_process(rustix::process::Pid::from_child(&child), signal).unwrap();
        let (code, stderr) = ended(&child.wait_with_output().unwrap());
        assert!(code == Some(0) && stderr.contains("\"message\":\"stopped as asked\""), "{code:?}: {stderr}");
    }
}
