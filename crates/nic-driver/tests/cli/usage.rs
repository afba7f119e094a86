//! A command line, a variable or a file of settings that is wrong: one line on stderr that names it, with what it quotes escaped and cut, and an object
//! on stdout where JSON is asked for.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::process::Command;

use nic_driver::Exit;
use serde_json::Value;

/// Runs the program with one variable, and sees one line of at most 1,000 characters that has all of `words`.
fn told(variable: &str, value: &[u8], arguments: &[&str], words: &[&str]) {
    let ran = Command::new(env!("CARGO_BIN_EXE_nic-driver"))
        .env_clear()
        .env(variable, OsStr::from_bytes(value))
        .args(arguments)
        .output()
        .unwrap();
    let stderr = String::from_utf8(ran.stderr).unwrap();
    assert_eq!(ran.status.code(), Some(Exit::Usage as i32), "{variable} {arguments:?}: {stderr}");
    let line = stderr.strip_suffix('\n').unwrap();
    assert!(line.starts_with("nic-driver: ") && line.chars().count() < 1000, "{line}");
    assert!(!line.contains(char::is_control), "{line:?}");
    for word in words {
        assert!(line.contains(word), "{word} is not in: {line}");
    }
    if arguments.contains(&"json") {
        let object: Value = serde_json::from_slice(&ran.stdout).unwrap();
        assert_eq!(object["exit"], 2);
        assert_eq!(format!("nic-driver: {}", object["error"].as_str().unwrap()), line);
    }
}

#[test]
fn trial_w14_what_a_usage_error_quotes_is_escaped_and_cut() {
    let hostile = format!("a\n\u{1b}[31m{}", "y".repeat(70_000));
    for variable in [
        "NIC_DRIVER_JOBS",
        "NIC_DRIVER_TIMEOUT",
        "NIC_DRIVER_LOSSY",
        "NIC_DRIVER_CONFIG",
        "NIC_DRIVER_FAMILY",
    ] {
        told(variable, hostile.as_bytes(), &["status"], &[variable, r"a\n\u{1b}[31myyy", "…"]);
    }
    told("HOME", b"/", &["x\u{1b}[31my\nz"], &[r"x\u{1b}[31my\nz"]);
    told("HOME", b"/", &["status", "x\u{1b}[31my\nz"], &[r"x\u{1b}[31my\nz"]);
    told("HOME", b"/", &["status", "--x\u{1b}[31my\nz"], &[r"x\u{1b}[31my\nz"]);
    told("NIC_DRIVER_X\u{1b}[31m\n", b"1", &["status"], &[r"NIC_DRIVER_X\u{1b}[31m"]);
}

#[test]
fn trial_w15_a_wrong_variable_is_named_and_json_has_it_too() {
    let json = &["--output", "json", "status"][..];
    for (variable, value) in [
        ("NIC_DRIVER_JOBS", &b"abc"[..]),
        ("NIC_DRIVER_JOBS", b"\xff"),
        ("NIC_DRIVER_TIMEOUT", b"\xff"),
        ("NIC_DRIVER_LOSSY", b"none"),
        ("NIC_DRIVER_LOSSY", b"\xff"),
        ("NIC_DRIVER_RELOAD_WITH", b"\xff"),
        ("NIC_DRIVER_LOG_FORMAT", b"\xff"),
        ("NIC_DRIVER_LOG", b"a=b=c"),
        ("NIC_DRIVER_FAMILY", b"none"),
        ("NIC_DRIVER_FAMILY", b"/dev/zero"),
        ("NIC_DRIVER_CONFIG", b"/dev/zero"),
        ("NIC_DRIVER_CONFIG", b"\xff"),
        ("NIC_DRIVER_TIMEOT", b"1"),
    ] {
        told(variable, value, json, &[variable]);
    }
    told("NIC_DRIVER_FAMILY", b"none", &["probe", "ready"], &["NIC_DRIVER_FAMILY"]);
    told("NIC_DRIVER_FAMILY", b"none", &["config"], &["NIC_DRIVER_FAMILY"]);
    // A path of one command alone.
    let command = &["--root", "/nowhere", "--output", "json", "plan", "install", "sources"][..];
    for variable in ["NVIDIA_NIC_DRIVERS_INVENTORY_PATH", "NVIDIA_NIC_DRIVER_PATH", "DTK_OCP_NIC_SHARED_DIR"]
    {
        told(variable, b"x", command, &[variable, "is not below the root"]);
    }
}
