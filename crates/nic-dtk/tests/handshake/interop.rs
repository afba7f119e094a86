//! Each side of ours with the incumbent's on the other, and with its own. The peers are written from the contract.

use std::fs;
use std::path::Path;
use std::process::Command;

use nic_dtk::{DriverEvent, DriverSideError, NfsRdma, Proof, WaitError, appended_flags};
use rustix::process::{Signal, kill_process};

use crate::pod::{self, Container, Pod, names, our_sidecar, peer};

/// What `install.pl` writes into each package after its name.
fn arguments_of(package: &Path) -> Vec<String> {
    let text = fs::read_to_string(package).unwrap();
    let (_, arguments) = text.split_once('\n').unwrap();
    let inner = arguments.trim_end().strip_prefix('<').unwrap().strip_suffix('>').unwrap();
    inner.split(">\n<").map(ToOwned::to_owned).collect()
}

#[tokio::test]
async fn our_driver_container_with_the_incumbents_sidecar() {
    let odd = ["--with a'\"b", "$(touch /nonexistent)`id`$HOME", "two\nlines \\ # ;&|"].map(String::from);
    for use_dkms in [false, true] {
        let mut pod = Pod::new();
        pod.request.use_dkms = use_dkms;
        pod.request.appended_flags = appended_flags(NfsRdma::LeftOut, &pod.request.kernel, "rhel9.6", &odd);
        let runs = pod.runs();
        let _sidecar = pod.container(&[("INSTALL_PL_RUNS", &runs)]);
        let (fetched, events) = pod.driver().await;
        let fetched = fetched.unwrap();
        assert_eq!(names(&fetched), ["mlnx-ofa_kernel-25.10-1.rpm", "mlnx-tools-25.10-0.rpm"]);
        assert_eq!(fetched.proof, Proof::DoneFlag);
        let (last, steps) = events.split_last().unwrap();
        assert_eq!(*last, DriverEvent::Built);
        assert!(steps.iter().all(|event| matches!(event, DriverEvent::Step(_))), "{events:?}");

        let arguments = arguments_of(&fetched.packages[0].path);
        let expected = pod.request.appended_flags.as_slice();
        assert!(arguments.ends_with(expected), "{arguments:?}");
        for flag in ["--without-dkms", "--disable-kmp"] {
            assert_eq!(arguments.iter().any(|argument| argument == flag), !use_dkms, "{flag}");
        }
        // The next start takes what is there.
        let (again, events) = pod.driver().await;
        assert_eq!(names(&again.unwrap()), names(&fetched));
        assert_eq!((events.len(), pod.run_count()), (0, 1));
    }
}

#[tokio::test]
async fn the_incumbents_driver_container_with_our_sidecar() {
    for use_dkms in ["false", "true"] {
        let pod = Pod::new();
        let into = pod.dir.path().join("into");
        let mut sidecar = pod.container(&[]);
        let mut driver = Command::new(peer("incumbent_driver.sh"));
        let flags = format!("--without-mlnx-nfsrdma --kernel {} --distro rhel9.6", pod.request.kernel);
        driver.arg(pod.request.folder.path()).arg(pod::VERSION).arg(&pod.request.sources);
        driver.arg(our_sidecar()).args([&flags, use_dkms]).arg(&into);
        let mut driver = Container::start(driver, &[]);
        let ended = tokio::task::spawn_blocking(move || driver.wait()).await.unwrap();
        assert!(ended.success());
        let arguments = arguments_of(&into.join("mlnx-ofa_kernel-25.10-1.rpm"));
        assert!(arguments.join(" ").ends_with(&flags), "{arguments:?}");
        assert_eq!(arguments.contains(&"--without-dkms".to_owned()), use_dkms == "false");
        assert_eq!(arguments.contains(&"--disable-kmp".to_owned()), use_dkms == "false");
        pod::until(|| !pod.request.folder.start_flag().exists()).await;
        assert!(pod.request.folder.done_flag(&pod.request.version).exists());
        // It stays until it is told to stop, which is its good end.
        kill_process(sidecar.id(), Signal::TERM).unwrap();
        let ended = tokio::task::spawn_blocking(move || sidecar.wait()).await.unwrap();
        assert_eq!(ended.code(), Some(0));
    }
}

#[tokio::test]
async fn both_sides_are_ours() {
    let mut pod = Pod::new();
    pod.request.entrypoint = our_sidecar();
    let runs = pod.runs();
    let _sidecar = pod.container(&[("INSTALL_PL_RUNS", &runs)]);
    let (fetched, events) = pod.driver().await;
    let fetched = fetched.unwrap();
    assert_eq!(fetched.proof, Proof::Result);
    assert_eq!(names(&fetched), ["mlnx-ofa_kernel-25.10-1.rpm", "mlnx-tools-25.10-0.rpm"]);
    for package in &fetched.packages {
        assert_eq!(package.path.metadata().unwrap().len(), package.size);
    }
    assert!(events.len() >= 12, "{events:?}");
    let (again, events) = pod.driver().await;
    assert_eq!((again.unwrap().proof, events.len(), pod.run_count()), (Proof::Result, 0, 1));
    // Other flags are another build, though the done flag is of the same version.
    pod.request.appended_flags.push("--with-something".to_owned());
    let (other, _) = pod.driver().await;
    let arguments = arguments_of(&other.unwrap().packages[0].path);
    assert_eq!(arguments.last().unwrap(), "--with-something");
    assert_eq!(pod.run_count(), 2);
}

#[tokio::test]
async fn what_the_build_needs_and_cannot_be_installed_is_named() {
    for lacks in ["perl", "automake"] {
        let mut pod = Pod::new();
        pod.request.entrypoint = our_sidecar();
        let runs = pod.runs();
        let _sidecar = pod.container(&[("DNF_LACKS", Path::new(lacks)), ("INSTALL_PL_RUNS", &runs)]);
        let (result, _) = pod.driver().await;
        let Err(DriverSideError::Wait(WaitError::Failed(failed))) = result else { panic!("{result:?}") };
        assert!(failed.reason.starts_with("dnf ended with"), "{}", failed.reason);
        assert_eq!(failed.log_tail, [format!("No match for argument: {lacks}")]);
        assert_eq!(pod.run_count(), 0);
    }
}

#[test]
fn a_sidecar_without_its_variables_is_refused() {
    let output = Command::new(our_sidecar()).arg("dtk-build").env_clear().output().unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("DTK_OCP_NIC_SHARED_DIR"), "{said}");
}
