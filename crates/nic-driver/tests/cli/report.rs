//! `report`, of the documented night: what is printed is what lies in `fixtures/documented-night`.

use std::fs;
use std::path::{Path, PathBuf};

use nic_driver::Exit;

use crate::program::Sandbox;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/documented-night").join(name)
}

/// A sandbox whose state is the documented night's.
fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    fs::create_dir_all(sandbox.state()).unwrap();
    fs::copy(fixture("state/journal.jsonl"), sandbox.state().join("journal.jsonl")).unwrap();
    sandbox
}

#[test]
fn the_documented_night_is_told_in_each_form() {
    let sandbox = sandbox();
    for (format, file) in
        [("text", "report.txt"), ("json", "report.json"), ("markdown", "report.md"), ("html", "report.html")]
    {
        let out = sandbox.path(file);
        let ran = sandbox.run(&[
            "--state-dir",
            sandbox.state().to_str().unwrap(),
            "report",
            "--format",
            format,
            "--file",
            out.to_str().unwrap(),
        ]);
        assert_eq!(ran.succeeded(), "");
        let told = fs::read_to_string(out).unwrap();
        if std::env::var_os("UPDATE_REPORTS").is_some() {
            fs::write(fixture(file), &told).unwrap();
        }
        let recorded = fs::read_to_string(fixture(file)).unwrap();
        assert!(
            told == recorded,
            "{file} is not current: run this test with UPDATE_REPORTS=1, and look at it"
        );
    }
}

#[test]
fn report_is_what_output_asks_for_unless_format_says_otherwise() {
    let sandbox = sandbox();
    let state = sandbox.state();
    let on =
        |arguments: &[&str]| sandbox.run(&[&["--state-dir", state.to_str().unwrap()], arguments].concat());
    let json: serde_json::Value =
        serde_json::from_str(on(&["--output", "json", "report"]).succeeded()).unwrap();
    assert_eq!(json["nights"].as_array().unwrap().len(), 1);
    assert!(on(&["--output", "json", "report", "--format", "text"]).succeeded().starts_with("READY: "));
    assert!(on(&["report", "--since", "2026-11-20"]).succeeded().contains("The journal is empty"));
    assert!(on(&["report", "--last"]).succeeded().contains("Night 1: 2026-11-19 01:10:00 UTC"));
    assert!(!on(&["report"]).succeeded().contains("enp1s0f0v31"));
    assert!(on(&["report", "--all"]).succeeded().contains("enp1s0f0v31"));
    let refused = on(&["report", "--compare"]);
    assert_eq!(refused.code, Exit::Failed as i32);
    assert!(refused.stderr.contains("no such two nights to compare: it has 1"), "{}", refused.stderr);
    assert!(on(&["report", "--compare=1,1"]).succeeded().contains("+0.000 s"));
    assert_eq!(on(&["report", "--since", "yesterday-ish"]).code, Exit::Usage as i32);
}
