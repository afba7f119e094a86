//! Where settings come from: options, variables, the file, nobody. All of them are shown, and what is misspelled is named.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt as _;
use std::process::Command;

use clap::{Arg, CommandFactory as _};
use insta::assert_snapshot;
use nic_driver::Exit;
use nic_driver::cli::Cli;
use serde_json::Value;

use crate::program::{BEFORE, CommandResult, Sandbox};

/// Every argument of every command that has a variable; one that several commands have, several times.
fn arguments_with_variables(command: &clap::Command) -> Vec<&Arg> {
    let own = command.get_arguments().filter(|arg| arg.get_env().is_some());
    own.chain(command.get_subcommands().flat_map(arguments_with_variables)).collect()
}

/// A value that the argument takes, and that is not its default.
fn value_for(arg: &Arg) -> String {
    match arg.get_long().unwrap() {
        "family" => return "igb".to_owned(),
        "config" => return "empty.toml".to_owned(),
        _ => {}
    }
    let of_kind = arg.get_possible_values().into_iter().map(|value| value.get_name().to_owned());
    let candidates = of_kind.chain(["true", "7", "25.10-1.2.8.0"].map(str::to_owned));
    let takes = |value: &String| {
        let alone = clap::Command::new("alone").arg(arg.clone().global(false).env(None::<&str>));
        let given = format!("--{}={value}", arg.get_long().unwrap());
        alone.try_get_matches_from(["alone", &given]).is_ok()
            && arg.get_default_values().first().is_none_or(|default| **default != **value)
    };
    let id = arg.get_id();
    candidates.into_iter().find(takes).unwrap_or_else(|| panic!("no value is known for {id}"))
}

/// The settings that a run of `config` shows, by name.
fn shown(ran: &CommandResult) -> BTreeMap<String, Value> {
    let json: Value = serde_json::from_str(ran.succeeded()).unwrap();
    let settings = json["settings"].as_array().unwrap().clone();
    settings.into_iter().map(|setting| (setting["name"].as_str().unwrap().to_owned(), setting)).collect()
}

fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    fs::write(sandbox.path("empty.toml"), "").unwrap();
    sandbox
}

#[test]
fn every_argument_with_a_variable_is_shown_wherever_it_is_given() {
    let sandbox = sandbox();
    let command = Cli::command();
    let arguments = arguments_with_variables(&command);
    assert!(arguments.len() > 30, "{}", arguments.len());
    let config = ["--output", "json", "config"];
    let by_default = shown(&sandbox.run(&config));
    for arg in arguments {
        let (name, variable) = (arg.get_long().unwrap(), arg.get_env().unwrap().to_str().unwrap());
        let setting = by_default.get(name).unwrap_or_else(|| panic!("{name} is not shown"));
        assert_eq!(setting["variable"], variable, "{name}");
        assert!(["default", "family"].contains(&setting["from"].as_str().unwrap()), "{setting}");

        let value = value_for(arg);
        let by_variable = shown(&sandbox.run_with(&[(variable, &value)], &config));
        assert_eq!(
            (&by_variable[name]["value"], &by_variable[name]["from"]),
            (&value.clone().into(), &"variable".into())
        );

        let option = format!("--{name}={value}");
        let by_option = shown(&sandbox.run_with(&[(variable, "")], &[&config[..], &[&option]].concat()));
        assert_eq!(
            (&by_option[name]["value"], &by_option[name]["from"]),
            (&value.clone().into(), &"option".into())
        );

        if name == "config" {
            continue;
        }
        fs::write(sandbox.path("my.toml"), format!("\n{name} = {value:?}\n")).unwrap();
        let by_file = shown(&sandbox.run(&[&["--config", "my.toml"], &config[..]].concat()));
        assert_eq!((&by_file[name]["value"], &by_file[name]["from"]), (&value.into(), &"file".into()));
        assert_eq!(
            (&by_file[name]["file"], &by_file[name]["line"]),
            (&"my.toml".into(), &2.into()),
            "{name}"
        );
    }
}

#[test]
fn an_option_of_several_commands_is_the_same_in_each() {
    let command = Cli::command();
    let mut known: BTreeMap<String, &Arg> = BTreeMap::new();
    for arg in arguments_with_variables(&command) {
        let other = *known.entry(arg.get_long().unwrap().to_owned()).or_insert(arg);
        let told = |arg: &Arg| {
            let defaults: Vec<_> =
                arg.get_default_values().iter().map(clap::builder::OsStr::to_os_string).collect();
            (arg.get_id().to_string(), arg.get_env().map(OsString::from), defaults, arg.get_num_args())
        };
        assert_eq!(told(arg), told(other));
    }
    // A variable sets one thing.
    let mut of_variable = BTreeMap::new();
    for (name, arg) in known {
        assert_eq!(of_variable.insert(arg.get_env().unwrap().to_owned(), name.clone()), None, "{name}");
    }
}

#[test]
fn options_go_before_variables_and_those_before_the_file() {
    let sandbox = sandbox();
    fs::write(sandbox.path("my.toml"), "timeout = 7\nuse-dkms = true\n").unwrap();
    let told = |variables: &[(&str, &str)], arguments: &[&str]| {
        let config = ["--output", "json", "config"];
        let shown = shown(&sandbox.run_with(variables, &[&config[..], arguments].concat()));
        let text = |name: &str, key: &str| shown[name][key].as_str().unwrap_or_default().to_owned();
        (text("timeout", "value"), text("timeout", "from"))
    };
    let is = |value: &str, from: &str| (value.to_owned(), from.to_owned());
    let (file, variable) = (("NIC_DRIVER_CONFIG", "my.toml"), ("NIC_DRIVER_TIMEOUT", "8"));
    assert_eq!(told(&[], &[]), is("60", "default"));
    assert_eq!(told(&[file], &[]), is("7", "file"));
    assert_eq!(told(&[("NIC_DRIVER_CONFIG", "nowhere.toml")], &["--config", "my.toml"]), is("7", "file"));
    assert_eq!(told(&[file, ("NIC_DRIVER_TIMEOUT", "")], &[]), is("7", "file"));
    assert_eq!(told(&[file, variable], &[]), is("8", "variable"));
    assert_eq!(told(&[file, variable], &["--timeout", "9"]), is("9", "option"));
}

#[test]
fn what_a_file_says_is_in_force_in_every_command() {
    let sandbox = sandbox();
    fs::write(sandbox.path("my.toml"), "family = 'igb'\nlog = 'off'\n").unwrap();
    let arguments = ["--root", BEFORE, "--state-dir", "state", "--config", "my.toml", "snapshot"];
    assert_eq!(sandbox.run(&arguments).code, Exit::NoPf as i32);
    let ran = sandbox.run(&[&arguments[..], &["--family", "mlx5"]].concat());
    assert!(ran.succeeded().contains("50 VFs"), "{}", ran.text());
    let probe = ["--root", BEFORE, "--config", "my.toml", "probe", "live"];
    assert_snapshot!(sandbox.run(&probe).stdout, @"live fails: igb is not loaded");
    // A file that gives what a command asks for.
    fs::write(sandbox.path("my.toml"), "driver-version = '25.10-1.2.8.0'\nlog = 'off'\n").unwrap();
    let build = ["--root", BEFORE, "build"];
    let without = sandbox.run(&build);
    assert!(without.stderr.contains("NVIDIA_NIC_DRIVER_VER is not set"), "{}", without.text());
    let with = sandbox.run(&[&["--config", "my.toml"], &build[..]].concat());
    assert_eq!(with.code, Exit::Usage as i32);
    assert!(with.stderr.contains("NVIDIA_NIC_DRIVER_PATH is not set"), "{}", with.text());
}

#[test]
fn what_is_in_force_when_nobody_says_anything() {
    assert_snapshot!(sandbox().run(&["config"]).succeeded());
}

#[test]
fn only_what_is_optional_is_not_set() {
    let shown = shown(&sandbox().run(&["--output", "json", "config"]));
    let not_set: Vec<&str> = shown
        .iter()
        .filter(|(_, setting)| setting["value"].is_null())
        .map(|(name, _)| name.as_str())
        .collect();
    // A setting whose default is computed has its value in `crates/nic-driver/src/cli/config.rs`.
    assert_eq!(
        not_set,
        [
            "assume-ok",
            "build-flags",
            "config",
            "container-version",
            "driver-sources",
            "driver-version",
            "grace",
            "inventory",
            "sidecar-program"
        ]
    );
}

#[test]
fn computed_defaults_follow_what_they_rest_on() {
    let sandbox = sandbox();
    let ran = sandbox.run_with(
        &[
            ("MLX_DRIVERS_MOUNT", "/mnt/drivers"),
            ("MLX5_AUXILIARY_MODULES", ""),
            ("STORAGE_MODULES", "ib_srp"),
        ],
        &["--output", "json", "config", "--family", "igb"],
    );
    let shown = shown(&ran);
    let told = |name: &str| (shown[name]["value"].as_str().unwrap(), shown[name]["from"].as_str().unwrap());
    assert_eq!(told("state-dir"), ("/mnt/drivers/.nic-driver", "default"));
    // Others go by these.
    assert_eq!(told("lock-file"), ("/run/mellanox/drivers/.lock", "default"));
    assert_eq!(told("readiness-file"), ("/run/mellanox/drivers/.driver-ready", "default"));
    assert_eq!(told("blacklist-modules"), ("igb:igbvf", "family"));
    // Here empty is a value: none of them.
    assert_eq!(told("auxiliary-modules"), ("", "variable"));
    assert_eq!(told("storage-modules"), ("ib_srp", "variable"));
}

#[test]
fn secrets_are_not_shown() {
    let sandbox = sandbox();
    let variables = [
        ("UBUNTU_PRO_TOKEN", "C1AbCdEfToken"),
        ("HTTP_PROXY", "http://user:p%40ssw0rd@proxy.example.org:3128"),
        ("no_proxy", ".svc"),
    ];
    for format in ["text", "json"] {
        for log in ["off", "trace"] {
            let ran = sandbox.run_with(&variables, &["--output", format, "--log", log, "config"]);
            let text = ran.text();
            for secret in ["C1AbCdEfToken", "p%40ssw0rd", "p@ssw0rd"] {
                assert!(!text.contains(secret), "{text}");
            }
        }
    }
    let text = sandbox.run_with(&variables, &["config"]);
    let lines: Vec<String> = text
        .succeeded()
        .lines()
        .skip_while(|line| !line.contains("UBUNTU_PRO_TOKEN"))
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    assert_eq!(
        lines,
        [
            "UBUNTU_PRO_TOKEN UBUNTU_PRO_TOKEN set",
            "KUBERNETES_SERVICE_HOST default -",
            "HTTP_PROXY HTTP_PROXY http://***@proxy.example.org:3128",
            "http_proxy HTTP_PROXY http://***@proxy.example.org:3128",
            "NO_PROXY no_proxy .svc",
            "no_proxy no_proxy .svc",
        ]
    );
}

#[test]
fn a_misspelled_variable_is_named_with_the_nearest() {
    let sandbox = sandbox();
    let status = ["--root", BEFORE, "--state-dir", "state", "--log", "off", "status"];
    let ran = sandbox.run_with(&[("NIC_DRIVER_TIMEOT", "C1secret"), ("NIC_DRIVER_SPEED", "1")], &status);
    assert_eq!((ran.code, ran.stdout.as_str()), (Exit::Usage as i32, ""), "{}", ran.text());
    assert!(
        ran.stderr.contains("there is no variable NIC_DRIVER_TIMEOT; the nearest is NIC_DRIVER_TIMEOUT\n"),
        "{}",
        ran.stderr
    );
    assert!(ran.stderr.contains("there is no variable NIC_DRIVER_SPEED"), "{}", ran.stderr);
    assert!(!ran.stderr.contains("C1secret"), "{}", ran.stderr);
    for probe in ["startup", "ready", "live"] {
        assert_eq!(sandbox.run_with(&[("NIC_DRIVER_TIMEOT", "1")], &["probe", probe]).code, 2);
    }
    // Help is given all the same, and one that is empty is not set.
    sandbox.run_with(&[("NIC_DRIVER_TIMEOT", "1")], &["--help"]).succeeded();
    sandbox.run_with(&[("NIC_DRIVER_TIMEOT", "")], &status).succeeded();
}

#[test]
fn the_operators_own_variables_are_ignored() {
    let variables = [
        ("NVIDIA_NIC_SOMETHING", "1"),
        ("SKIP_PREFLIGHT_CHECKS", "maybe"),
        ("MLX_SOMETHING", "x"),
        ("NIC_SOMETHING", "x"),
        ("timeout", "x"),
        ("TIMEOUT", "x"),
        ("NODE_NAME", "node"),
        // A service of the name `nic-driver`, as the kubelet tells it.
        ("NIC_DRIVER_SERVICE_HOST", "10.0.0.1"),
        ("NIC_DRIVER_SERVICE_PORT", "9090"),
        ("NIC_DRIVER_PORT", "tcp://10.0.0.1:9090"),
        ("NIC_DRIVER_PORT_9090_TCP", "tcp://10.0.0.1:9090"),
        ("NIC_DRIVER_PORT_9090_TCP_ADDR", "10.0.0.1"),
    ];
    let sandbox = sandbox();
    assert_eq!(sandbox.run_with(&variables, &["config"]).text(), sandbox.run(&["config"]).text());
}

#[test]
fn what_is_wrong_in_a_file_is_named() {
    let sandbox = sandbox();
    for (text, expected) in [
        ("timeuot = 5", "my.toml, line 1: there is no setting \"timeuot\"; the nearest is timeout"),
        ("\ntimeout = 'soon'", "invalid value 'soon' for 'timeout (my.toml, line 2)'"),
        ("force = true", "my.toml, line 1: --force is asked of one command at a time"),
        ("timeout = ", "my.toml, line 1: "),
        ("use-dkms = 'maybe'", "'use-dkms (my.toml, line 1)'"),
    ] {
        fs::write(sandbox.path("my.toml"), text).unwrap();
        for command in [&["config"][..], &["--root", BEFORE, "status"], &["probe", "live"]] {
            let ran = sandbox.run(&[&["--config", "my.toml"], command].concat());
            assert_eq!((ran.code, ran.stdout.as_str()), (Exit::Usage as i32, ""), "{}", ran.text());
            assert!(ran.stderr.contains(expected), "{text}: {}", ran.stderr);
        }
    }
    let ran = sandbox.run(&["--config", "nowhere.toml", "config"]);
    assert_eq!(ran.code, Exit::Usage as i32, "{}", ran.text());
    assert!(ran.stderr.contains("cannot read the file of settings nowhere.toml: "), "{}", ran.stderr);
}

#[test]
fn what_only_config_looks_at_is_wrong_there_too() {
    let sandbox = sandbox();
    for (variable, value, named) in [
        ("NIC_DRIVER_FAMILY", "mlx4", "\"mlx4\""),
        ("STORAGE_MODULES", "ib_srp no/module", "STORAGE_MODULES"),
        ("NIC_DRIVER_LOG", "nic_sriov=loud", "NIC_DRIVER_LOG"),
        ("NIC_DRIVER_JOBS", "0", "NIC_DRIVER_JOBS"),
    ] {
        let ran = sandbox.run_with(&[(variable, value)], &["config"]);
        assert_eq!((ran.code, ran.stdout.as_str()), (Exit::Usage as i32, ""), "{variable}: {}", ran.text());
        assert!(ran.stderr.contains(named), "{}", ran.stderr);
    }
}

#[test]
fn a_variable_that_is_no_text_is_named() {
    let ran = Command::new(env!("CARGO_BIN_EXE_nic-driver"))
        .env_clear()
        .env("NIC_DRIVER_FAMILY", OsString::from_vec(vec![b'm', 0xff]))
        // A path may be any bytes.
        .env("NIC_DRIVER_STATE_DIR", OsString::from_vec(vec![b'/', 0xff]))
        .args(["config"])
        .output()
        .unwrap();
    let stderr = String::from_utf8(ran.stderr).unwrap();
    assert_eq!(ran.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("NIC_DRIVER_FAMILY is not UTF-8"), "{stderr}");
}
