//! No secret is written by commands and programs other than those of an installation from sources: what programs inherit, what logs
//! of theirs say, and what the sidecar is given.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use nic_driver::Exit;

use crate::chroot::{Chroot, Running, until};
use crate::node_tree::{SOURCES, VERSION, deb, debian_architecture};
use crate::program::CommandResult;

const KERNEL: &str = "6.8.0-31-generic";
const EL_KERNEL: &str = "5.14.0-570.73.1.el9_6.x86_64";
const PACKAGE: &str = "mlnx-ofed-kernel-modules";
/// What the policy's environment gives to every container.
const VARIABLES: [(&str, &str); 3] = [
    ("UBUNTU_PRO_TOKEN", "C1AbCdEfToken"),
    ("HTTP_PROXY", "http://user:p%40ssw0rd@proxy.example.org:3128"),
    ("https_proxy", "http://user:p%40ssw0rd@proxy.example.org:3128"),
];
/// The token, the password, and the password as a program may print it.
const SECRETS: [&str; 3] = ["C1AbCdEfToken", "p%40ssw0rd", "p@ssw0rd"];

fn assert_hidden(what: &str, text: &str) {
    for secret in SECRETS {
        assert_eq!(text.lines().find(|line| line.contains(secret)), None, "{what}");
    }
}

/// Ubuntu, with a package in a folder.
fn ubuntu() -> Chroot {
    let root = Chroot::new("ubuntu-24.04", None, KERNEL, "gcc-13 (Ubuntu 13.2.0-23ubuntu4) 13.2.0");
    let module = format!("/lib/modules/{KERNEL}/updates/mlx5_core.ko");
    let files = [&*module, "/usr/src/ofed-1.0/dkms.conf"];
    root.write("packages/modules.deb", deb(PACKAGE, "25.10", debian_architecture(), &files));
    let installed = format!("{PACKAGE}\t25.10\t{}\tii \n", debian_architecture());
    root.write(&format!("installed/{PACKAGE}"), installed);
    root
}

/// A program that writes all it inherits where it names it, and fails.
fn talkative(root: &Chroot, program: &str, log: &str) {
    let folder = log.rsplit_once('/').unwrap().0;
    let text =
        format!("#!/bin/sh\nmkdir -p {folder}\nexport -p >{log}\nexport -p\necho 'See {log}'\nexit 9\n");
    root.write(program, text);
    fs::set_permissions(root.path(program), fs::Permissions::from_mode(0o755)).unwrap();
}

/// Runs a command at every level of the log, in both formats of log and result; returns all that it printed.
fn run(root: &Chroot, command: &[&str], expected: Exit) -> String {
    let mut printed = String::new();
    for format in ["text", "json"] {
        let options = ["--log", "trace", "--log-format", format, "--output", format];
        let ran: CommandResult = root.run(&VARIABLES, &[&options, command].concat());
        assert_eq!(ran.code, expected as i32, "{command:?}: {}", ran.text());
        printed += &ran.text();
    }
    printed
}

#[test]
fn packages_of_a_folder_inherit_the_token_and_do_not_print_it() {
    let root = ubuntu();
    root.write("fail/apt-get", "");
    let printed = run(&root, &["install", "packages", "/packages"], Exit::Failed);
    // The peer prints all it was given, and its words are told.
    assert!(
        printed.contains("apt-get was given install") && printed.contains("UBUNTU_PRO_TOKEN='***'"),
        "{printed}"
    );
    assert_hidden("what was printed", &printed);
    let written = root.written();
    assert!(written.contains("journal.jsonl\n"), "{written}");
    assert_hidden("the journal", &written);
    assert_hidden("the report", &root.run(&VARIABLES, &["report"]).text());
}

#[test]
fn a_termination_prints_no_secret() {
    let root = ubuntu();
    root.run(&VARIABLES, &["install", "packages", "/packages"]).succeeded();
    root.write("fail/dpkg-query", "");
    let printed = run(&root, &["terminate", "--restore-driver"], Exit::Failed);
    assert!(
        printed.contains("dpkg-query was given") && printed.contains("UBUNTU_PRO_TOKEN='***'"),
        "{printed}"
    );
    assert_hidden("what was printed", &printed);
    let written = root.written();
    assert!(written.contains("dpkg-query was given"), "the journal has the reason: {written}");
    assert_hidden("the journal", &written);
    // Nor when it ends well.
    root.remove("fail/dpkg-query");
    assert_hidden("what was printed", &run(&root, &["terminate"], Exit::Success));
    assert_hidden("the journal", &root.written());
}

#[test]
fn the_log_that_a_build_names_is_told_without_secrets() {
    let root = ubuntu();
    talkative(&root, &format!("{SOURCES}/install.pl"), "/var/log/detail.log");
    let printed = run(&root, &["install", "sources"], Exit::Failed);
    assert!(
        printed.contains("/var/log/detail.log ends:") && printed.contains("UBUNTU_PRO_TOKEN='***'"),
        "{printed}"
    );
    let own = fs::read_to_string(root.path("var/log/detail.log")).unwrap();
    assert!(own.contains(SECRETS[0]) && own.contains(SECRETS[1]), "the build itself was given them: {own}");
    root.remove("var/log/detail.log");
    assert_hidden("what was printed", &printed);
    assert_hidden("the journal, and the build's output", &root.written());
}

#[test]
fn the_log_of_dkms_is_told_without_secrets() {
    let root = ubuntu();
    root.write("usr/src/ofed-1.0/dkms.conf", "PACKAGE_NAME=ofed\nPACKAGE_VERSION=1.0\n");
    root.write(&format!("lib/modules/{KERNEL}/build/Makefile"), "");
    let log = "/var/lib/dkms/ofed/1.0/build/make.log";
    let dkms = format!(
        "#!/bin/sh\ncase $1 in\nstatus | add) ;;\n*) mkdir -p {0}\nexport -p >{1}\nexport -p >&2\nexit 10 ;;\nesac\n",
        log.rsplit_once('/').unwrap().0,
        log
    );
    root.write("usr/bin/dkms", dkms);
    let printed = run(&root, &["install", "packages", "/packages", "--use-dkms"], Exit::Failed);
    assert!(printed.contains("the end of its build log:"), "{printed}");
    assert!(printed.contains("UBUNTU_PRO_TOKEN='***'"), "{printed}");
    assert!(fs::read_to_string(root.path(log)).unwrap().contains(SECRETS[0]), "dkms itself was given them");
    root.remove(log);
    assert_hidden("what was printed", &printed);
    assert_hidden("the journal", &root.written());
}

/// All of the policy's environment goes to the sidecar, too.
#[test]
fn the_sidecar_tells_the_driver_container_no_secret() {
    let root = Chroot::new("rhel-9.6", Some("rhcos-4.19"), EL_KERNEL, "gcc (GCC) 11.5.0 20240719");
    fs::create_dir(root.path("shared")).unwrap();
    let program = format!("{SOURCES}/install.pl");
    talkative(&root, &program, "/log/detail.log");
    let folder = format!("/shared/{EL_KERNEL}");
    let text = format!(
        "while [ ! -f {folder}/dtk_start_compile ]; do sleep 0.05; done; exec {folder}/dtk_nic_driver_build.sh"
    );
    let _sidecar: Running = root.start("/bin/sh", &VARIABLES, &["-c", &text]);
    let shared = [&VARIABLES[..], &[("DTK_OCP_NIC_SHARED_DIR", "/shared")]].concat();
    let ran = root.run(&shared, &["--log", "trace", "install", "dtk"]);
    assert_eq!(ran.code, Exit::Failed as i32, "{}", ran.text());
    assert!(ran.stderr.contains("UBUNTU_PRO_TOKEN='***'"), "{}", ran.stderr);
    assert_hidden("what was printed", &ran.text());
    until("the sidecar's result", || root.path(&folder).join(".nic-driver/result.json").exists());
    // In the sidecar's own container and in the shared folder.
    let written = root.written();
    assert!(written.contains("result.json\n") && written.contains("build.log\n"), "{written}");
    assert_hidden("the shared folder", &written);
    assert!(root.path(&folder).join(format!("MLNX_OFED_SRC-{VERSION}")).exists());
}
