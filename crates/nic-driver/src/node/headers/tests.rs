//! Real mounts: each test runs again in a mount namespace of its own, on a tree like that of a container and its host.

use std::process::{Command, Stdio};

use super::*;
use crate::context::Context;
use crate::fixture;
use crate::state::{Journal, Phase};

const INSIDE: &str = "NIC_DRIVER_TEST_NAMESPACE";

/// What the container shares with its host, and where the host has it.
const MOUNT: &str = "/run/mellanox/drivers";
const ON_HOST: &str = "/run/drivers-on-host";
/// The container's root file system, and the headers in it.
const IMAGE: &str = "/run/image";
const HEADERS: &str = "/run/image/usr/src/";

/// Whether the caller is in a namespace of its own and is to go on; if not, its body has run in a child.
fn in_namespace(test: &str) -> bool {
    std::env::var_os(INSIDE).is_some() || {
        run_again(test, &["--mount", "--propagation", "private"], "1");
        false
    }
}

fn run_again(test: &str, namespaces: &[&str], stage: &str) {
    let mut command = Command::new("unshare");
    if !Host::is_privileged() && !namespaces.contains(&"--user") {
        // In a user namespace of one's own one may.
        command.args(["--user", "--map-root-user"]);
    }
    let child = command
        .args(namespaces)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", &format!("node::headers::tests::{test}"), "--nocapture", "--test-threads=1"])
        .env(INSIDE, stage)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&[child.stdout, child.stderr].concat()).into_owned();
    assert!(child.status.success() && said.contains("1 passed"), "{test} failed in its namespace:\n{said}");
}

struct Container {
    context: Context,
    phase: PhaseRecord,
}

impl Container {
    /// The mounts as a runtime makes them for a pod with bidirectional propagation: all are shared, and what is shared with the host
    /// is its peer. The headers have mounts below them.
    fn new() -> Self {
        mount_file_system("tmpfs", "/run");
        for folder in [MOUNT, ON_HOST, IMAGE] {
            fs::create_dir_all(folder).unwrap();
        }
        rustix::mount::mount_bind(ON_HOST, MOUNT).unwrap();
        mount_file_system("ramfs", IMAGE);
        fs::create_dir_all(format!("{HEADERS}nested")).unwrap();
        fs::write(format!("{HEADERS}kernel"), "new").unwrap();
        mount_file_system("tmpfs", &format!("{HEADERS}nested"));
        fs::write(format!("{HEADERS}nested/file"), "new").unwrap();
        fs::write(format!("{MOUNT}/.driver-ready"), "").unwrap();
        Self::again()
    }

    /// The mounts that are there.
    fn again() -> Self {
        let context = fixture::context(Host::running(), &Path::new(MOUNT).join(".nic-driver"));
        let phase = context.journal.phase(Phase::Reload);
        Self { context, phase }
    }

    fn mount(&self) -> Result<(), HeadersError> {
        mount_headers(&self.context.host, &self.phase, Path::new(MOUNT), Path::new(HEADERS))
    }

    fn unmount(&self) -> Result<bool, HeadersError> {
        unmount_headers(&self.context.host, &self.phase, Path::new(MOUNT), Path::new(HEADERS))
    }
}

fn mount_file_system(file_system: &str, folder: &str) {
    rustix::mount::mount(file_system, folder, file_system, MountFlags::empty(), c"").unwrap();
    mount_change(folder, MountPropagationFlags::SHARED).unwrap();
}

/// The headers' place, as the container and as its host sees it.
fn places() -> [String; 2] {
    [MOUNT, ON_HOST].map(|view| format!("{view}{}", HEADERS.trim_end_matches('/')))
}

fn target() -> String {
    let [target, _] = places();
    target
}

/// How many mounts there are at a path, seen or covered.
fn mounts_at(path: &str) -> usize {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    table.lines().filter(|line| line.split(' ').nth(4) == Some(path)).count()
}

fn content(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| format!("{path}: {error}"))
}

#[track_caller]
fn assert_mounted() {
    for place in places() {
        assert_eq!(content(&format!("{place}/kernel")), "new");
        assert_eq!(content(&format!("{place}/nested/file")), "new");
        assert_eq!(mounts_at(&place), 1, "{place}");
    }
    assert_rest_is_untouched();
}

#[track_caller]
fn assert_not_mounted() {
    for place in places() {
        assert_eq!(mounts_at(&place), 0, "{place}");
    }
    assert_rest_is_untouched();
}

#[track_caller]
fn assert_rest_is_untouched() {
    assert_eq!(content(&format!("{HEADERS}kernel")), "new");
    assert_eq!(content(&format!("{HEADERS}nested/file")), "new", "a mount of the container's own is gone");
    assert_eq!(mounts_at(MOUNT), 1);
    for view in [MOUNT, ON_HOST] {
        assert_eq!(content(&format!("{view}/.driver-ready")), "");
    }
    assert!(!Path::new(STAGING).exists(), "{STAGING} is left behind");
}

#[test]
fn the_host_sees_the_headers_with_all_that_is_mounted_in_them_until_they_are_unmounted() {
    if !in_namespace("the_host_sees_the_headers_with_all_that_is_mounted_in_them_until_they_are_unmounted") {
        return;
    }
    let container = Container::new();
    assert!(!container.unmount().unwrap(), "nothing is mounted yet");
    for _ in 0..3 {
        container.mount().unwrap();
        assert_mounted();
    }
    // Who builds against them makes a link in them.
    std::os::unix::fs::symlink("x86_64/6.12.1", format!("{ON_HOST}{HEADERS}6.12.1")).unwrap();
    assert!(Path::new(HEADERS).join("6.12.1").is_symlink());

    assert!(container.unmount().unwrap());
    assert_not_mounted();
    assert!(!Path::new(MOUNT).join("run").exists(), "the folders on the way stay");
    assert!(!container.unmount().unwrap());
    container.mount().unwrap();
    assert_mounted();

    let events = Journal::read(&container.context.store).unwrap();
    let steps = |step: Step| events.iter().filter(|event| event.entry.begins(|begun| *begun == step)).count();
    assert_eq!(steps(Step::MountHeaders { folder: target().into() }), 4);
    assert_eq!(
        steps(Step::UnmountHeaders { folder: target().into() }),
        1,
        "where there is none, there is no step"
    );
}

/// What a container that is gone has bound there, twice, one on the other.
fn leave_mounts_of_a_dead_container() {
    fs::create_dir_all("/run/dead").unwrap();
    mount_file_system("ramfs", "/run/dead");
    fs::create_dir_all("/run/dead/nested").unwrap();
    fs::write("/run/dead/kernel", "old").unwrap();
    mount_file_system("tmpfs", "/run/dead/nested");
    fs::create_dir_all(target()).unwrap();
    for _ in 0..2 {
        mount_bind_recursive("/run/dead", target()).unwrap();
    }
    unmount("/run/dead", UnmountFlags::DETACH).unwrap();
}

#[test]
fn the_mounts_of_a_dead_container_are_taken_away_first() {
    if !in_namespace("the_mounts_of_a_dead_container_are_taken_away_first") {
        return;
    }
    let container = Container::new();
    leave_mounts_of_a_dead_container();
    assert_eq!(content(&format!("{}/kernel", target())), "old");
    container.mount().unwrap();
    assert_mounted();

    assert!(container.unmount().unwrap());
    leave_mounts_of_a_dead_container();
    assert!(container.unmount().unwrap(), "at the end, too");
    assert_not_mounted();
}

#[test]
fn a_tmpfs_of_somebody_else_is_covered_and_stays() {
    if !in_namespace("a_tmpfs_of_somebody_else_is_covered_and_stays") {
        return;
    }
    let container = Container::new();
    fs::create_dir_all(target()).unwrap();
    mount_file_system("tmpfs", &target());
    let file = format!("{}/file", target());
    fs::write(&file, "somebody else's").unwrap();
    for _ in 0..2 {
        container.mount().unwrap();
        assert_eq!(content(&format!("{}/nested/file", target())), "new");
        assert_eq!(mounts_at(&target()), 2, "the tmpfs, and the headers on it");
    }
    assert!(container.unmount().unwrap());
    assert_eq!(content(&file), "somebody else's");
    assert!(!container.unmount().unwrap());
    assert_eq!(content(&file), "somebody else's");
    assert_rest_is_untouched();
}

#[test]
fn headers_that_lie_in_a_tmpfs_are_known_again() {
    if !in_namespace("headers_that_lie_in_a_tmpfs_are_known_again") {
        return;
    }
    let container = Container::new();
    let headers = format!("{HEADERS}nested");
    let (mount, headers) = (Path::new(MOUNT), Path::new(&headers));
    let host = &container.context.host;
    for _ in 0..2 {
        mount_headers(host, &container.phase, mount, headers).unwrap();
        assert_eq!(mounts_at(&format!("{}/nested", target())), 1);
    }
    assert!(unmount_headers(host, &container.phase, mount, headers).unwrap());
    assert_not_mounted();
}

#[test]
fn wherever_a_mount_was_killed_the_next_one_ends_as_if_it_was_not() {
    if !in_namespace("wherever_a_mount_was_killed_the_next_one_ends_as_if_it_was_not") {
        return;
    }
    let container = Container::new();
    let copy = format!("{STAGING}/headers");
    let calls: [&dyn Fn(); 7] = [
        &|| fs::create_dir(STAGING).unwrap(),
        &|| rustix::mount::mount("x", STAGING, "tmpfs", MountFlags::empty(), c"").unwrap(),
        &|| mount_change(STAGING, MountPropagationFlags::PRIVATE).unwrap(),
        &|| fs::create_dir(&copy).unwrap(),
        &|| mount_bind_recursive(HEADERS, &copy).unwrap(),
        &|| mount_change(&copy, MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap(),
        &|| {
            fs::create_dir_all(target()).unwrap();
            mount_move(&copy, target()).unwrap();
        },
    ];
    for killed_after in 1..=calls.len() {
        calls[..killed_after].iter().for_each(|call| call());
        container.mount().unwrap();
        assert_mounted();
        // In mid-unmount: the mount is gone, its folders are not.
        unmount(target(), UnmountFlags::DETACH).unwrap();
        assert!(!container.unmount().unwrap());
        assert_not_mounted();
    }
}

#[test]
fn a_mount_that_cannot_be_undone_is_covered_and_its_folder_is_not_removed() {
    const TEST: &str = "a_mount_that_cannot_be_undone_is_covered_and_its_folder_is_not_removed";
    if !in_namespace(TEST) {
        return;
    }
    if std::env::var(INSIDE).unwrap() == "1" {
        Container::new();
        leave_mounts_of_a_dead_container();
        // Mounts that come from a less privileged namespace's parent are locked there (`MNT_LOCKED` in `fs/namespace.c`).
        run_again(TEST, &["--user", "--map-root-user", "--mount", "--propagation", "unchanged"], "2");
        return;
    }
    let container = Container::again();
    let error = container.unmount().unwrap_err();
    assert_eq!(error.to_string(), format!("cannot unmount {}", target()));
    assert_eq!(content(&format!("{}/kernel", target())), "old");
    container.mount().unwrap();
    assert_eq!(content(&format!("{}/nested/file", target())), "new");
    assert_rest_is_untouched();
}

#[test]
fn nothing_is_mounted_through_a_link() {
    if !in_namespace("nothing_is_mounted_through_a_link") {
        return;
    }
    let container = Container::new();
    fs::create_dir("/run/elsewhere").unwrap();
    let link = Path::new(MOUNT).join("run");
    std::os::unix::fs::symlink("/run/elsewhere", &link).unwrap();
    for error in [container.mount().unwrap_err(), container.unmount().unwrap_err()] {
        assert!(matches!(&error, HeadersError::Link { path } if *path == link), "{error}");
    }
    assert_eq!(fs::read_dir("/run/elsewhere").unwrap().count(), 0);
    assert_rest_is_untouched();
}

#[test]
fn what_fails_is_named() {
    if !in_namespace("what_fails_is_named") {
        return;
    }
    let container = Container::new();
    let (host, phase) = (&container.context.host, &container.phase);
    let missing = Path::new("/run/image/not-there");
    let error = mount_headers(host, phase, Path::new(MOUNT), missing).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("cannot bind {} on {MOUNT}{} (copying the mounts)", missing.display(), missing.display())
    );
    let in_the_way = Path::new(MOUNT).join("run");
    fs::remove_dir_all(&in_the_way).unwrap();
    fs::write(&in_the_way, "").unwrap();
    let error = container.mount().unwrap_err();
    assert!(matches!(&error, HeadersError::Folder { .. }), "{error}");
    assert!(error.to_string().contains(MOUNT), "{error}");
    assert_rest_is_untouched();
}

#[test]
fn settings_that_cannot_be_are_refused() {
    let running = Host::running();
    let place = |mount: &str, headers: &str| Place::new(&running, Path::new(mount), Path::new(headers));
    assert_eq!(place(MOUNT, "/usr/src/").unwrap().target, Path::new("/run/mellanox/drivers/usr/src"));
    for headers in ["/", "/run", "/run/mellanox/drivers", "/run/mellanox/drivers/"] {
        let error = place(MOUNT, headers).unwrap_err();
        assert!(matches!(error, HeadersError::Overlap { .. }), "{error}");
    }
    for (mount, headers) in
        [("run", "/usr/src"), (MOUNT, "usr/src"), (MOUNT, "/usr/../etc"), ("/run/..", "/usr")]
    {
        let error = place(mount, headers).unwrap_err();
        assert!(matches!(error, HeadersError::NoPath { .. }), "{error}");
    }
    let tree = Place::new(&Host::at("/tree"), Path::new(MOUNT), Path::new(HEADERS)).unwrap_err();
    assert_eq!(tree.to_string(), "headers are mounted on the running machine only; /tree is a tree");
}
