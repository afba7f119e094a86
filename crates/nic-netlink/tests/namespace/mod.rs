//! A network namespace for a test.

#![expect(clippy::print_stderr, reason = "a test says on standard error that it was skipped")]

use std::process::{Command, Stdio};
use std::time::Duration;

const INSIDE: &str = "NIC_NETLINK_TEST_NAMESPACE";

/// Whether the caller is in a namespace of its own and is to go on; if not, its body has run in a child.
pub(crate) fn in_namespace(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let unshare = || {
        let mut command = Command::new("unshare");
        if !rustix::process::geteuid().is_root() {
            command.args(["--user", "--map-root-user"]);
        }
        command.arg("--net").stdin(Stdio::null());
        command
    };
    let possible = unshare().arg("true").output();
    if !possible.as_ref().is_ok_and(|output| output.status.success()) {
        let reason = format!("SKIPPED {test}: no network namespace can be made here: {possible:?}");
        let in_ci = std::env::var("CI").is_ok_and(|value| value == "true");
        assert!(!(in_ci && rustix::process::geteuid().is_root()), "{reason}");
        eprintln!("{reason}");
        return false;
    }
    let child = unshare()
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let said = [child.stdout, child.stderr].concat();
    assert!(child.status.success(), "{test} failed in its namespace:\n{}", String::from_utf8_lossy(&said));
    false
}

pub(crate) fn run<F: Future<Output = ()>>(test: F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(60), test).await.expect("the test hangs");
    });
}
