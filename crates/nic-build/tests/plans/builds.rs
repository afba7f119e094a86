//! Builds that run: real processes in place of install.pl.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use nic_build::{BuildError, PlannedCommand, Progress, build};
use nic_host::{Host, error_chain};

fn script(text: &str) -> PlannedCommand {
    PlannedCommand::new("build the driver's packages", ["sh", "-c", text])
}

async fn run(
    command: &PlannedCommand,
    folder: &Path,
) -> (Vec<Progress>, Result<nic_build::Built, BuildError>) {
    let mut told = Vec::new();
    let log = folder.join("build.log");
    let built = build(&Host::running(), command, &log, |progress| told.push(progress.clone())).await;
    (told, built)
}

#[tokio::test]
async fn output_is_told_line_by_line_while_the_build_runs() {
    let dir = tempfile::tempdir().unwrap();
    let text = "printf 'Below is the list of packages\\n\\nmlnx-tools\\nmlnx-ofa_kernel\\n\\n'\n\
         echo 'Build mlnx-tools 25.10 RPM'; sleep 0.4; echo 'Build mlnx-ofa_kernel 25.10 RPM' >&2; echo done";
    let mut told = Vec::new();
    let started = Instant::now();
    let log = dir.path().join("build.log");
    let built = build(&Host::running(), &script(text), &log, |progress| {
        told.push((started.elapsed(), progress.clone()));
    })
    .await
    .unwrap();
    let at = |line: &str| told.iter().find(|(_, progress)| progress.line.starts_with(line)).unwrap();
    let (first, second) = (at("Build mlnx-tools"), at("Build mlnx-ofa_kernel"));
    assert!(second.0 - first.0 >= Duration::from_millis(300), "lines come as they are printed");
    assert_eq!((first.1.done, first.1.known), (0, Some(2)));
    assert_eq!((second.1.done, second.1.package.as_deref()), (1, Some("mlnx-ofa_kernel")));
    assert!(second.1.elapsed >= Duration::from_millis(300));
    assert_eq!(built.log, log);
    let kept = fs::read_to_string(&log).unwrap();
    assert_eq!(kept, told.iter().map(|(_, progress)| format!("{}\n", progress.line)).collect::<String>());
}

#[tokio::test]
async fn a_failed_build_tells_its_end_and_that_of_the_log_it_names() {
    let dir = tempfile::tempdir().unwrap();
    let named = dir.path().join("mlnx-ofa_kernel.rpmbuild.log");
    fs::write(&named, format!("{}core.c:7: error: too few arguments\n", "CC [M] core.o\n".repeat(9000)))
        .unwrap();
    let text = format!("echo compiling; echo 'Failed to build. See {}' >&2; exit 9", named.display());
    let started = Instant::now();
    let error = run(&script(&text), dir.path()).await.1.unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    let told = error_chain(&error).replace(&dir.path().display().to_string(), "DIR");
    assert!(told.starts_with("cannot build the driver's packages: `sh -c"), "{told}");
    assert!(
        told.contains("failed (exit code 9); its output is in DIR/build.log, and ends: | compiling | "),
        "{told}"
    );
    assert!(told.contains("DIR/mlnx-ofa_kernel.rpmbuild.log ends: | CC [M] core.o | "), "{told}");
    assert!(told.ends_with("core.c:7: error: too few arguments"), "{told}");
    // What it names need not be there, nor be a file.
    for named in ["/nonexistent/x.log", "/proc/self/fd/../x.log"] {
        let text = format!("echo 'See {named}'; exit 1");
        let error = run(&script(&text), dir.path()).await.1.unwrap_err();
        assert!(matches!(error, BuildError::Failed { named_log: None, .. }), "{error}");
    }
    let fifo = dir.path().join("fifo.log");
    let text = format!("mkfifo {0}; echo 'See {0}'; exit 1", fifo.display());
    let late = tokio::time::timeout(Duration::from_secs(5), run(&script(&text), dir.path())).await;
    assert!(late.is_ok(), "a FIFO is waited for");
}

#[tokio::test]
async fn a_build_ends_at_its_deadline_or_when_it_is_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let survivor = dir.path().join("survivor");
    let text = format!("(sleep 1.5; touch {}) & echo begun; wait", survivor.display());
    let overdue = script(&text).deadline(Duration::from_millis(300));
    let error = run(&overdue, dir.path()).await.1.unwrap_err();
    assert!(error_chain(&error).contains("ends: | begun: `sh -c"), "{}", error_chain(&error));
    assert!(matches!(error, BuildError::Command { .. }));

    let unwanted = script(&text);
    let given_up = tokio::time::timeout(Duration::from_millis(300), run(&unwanted, dir.path())).await;
    assert!(given_up.is_err());
    assert_eq!(fs::read_to_string(dir.path().join("build.log")).unwrap(), "begun\n");
    tokio::time::sleep(Duration::from_millis(1700)).await;
    assert!(!survivor.exists(), "a part of the build outlived it");

    let missing = PlannedCommand::new("build the driver's packages", ["/nonexistent/install.pl"]);
    let error = error_chain(&run(&missing, dir.path()).await.1.unwrap_err());
    assert!(error.contains("cannot start `/nonexistent/install.pl`"), "{error}");
}

#[tokio::test]
async fn a_full_disk_stops_no_build() {
    let dir = tempfile::tempdir().unwrap();
    // Every write to it fails with ENOSPC.
    std::os::unix::fs::symlink("/dev/full", dir.path().join("build.log")).unwrap();
    let (told, built) = run(&script("echo 1; echo 2; exit 3"), dir.path()).await;
    assert_eq!(told.len(), 2);
    let error = built.unwrap_err().to_string();
    assert!(error.ends_with("1\n2"), "{error}");
}
