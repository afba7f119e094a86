//! Modules in the host's tree, from a container that sees it below `/host`.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use nic_host::{Captured, Host, KernelRelease, Replay};
use nic_packages::{HostTree, HostTreeError};
use rustix::mount::{MountFlags, UnmountFlags};

const KERNEL: &str = "5.14.0-570.73.1.el9_6.x86_64";
const DEPMOD: &str = "depmod -b /host 5.14.0-570.73.1.el9_6.x86_64";

/// A container with a package's modules on a host with its own.
struct Node {
    dir: tempfile::TempDir,
    replay: Replay,
}

impl Node {
    fn new() -> Self {
        let node = Self {
            dir: tempfile::tempdir().unwrap(),
            replay: Replay::default().answer(DEPMOD, Captured::success("")),
        };
        node.write("/host/etc/os-release", "ID=\"rhel\"\nVERSION_ID=\"9.6\"\n");
        node.write(&host("kernel/mlx5_core.ko.xz"), "inbox");
        node.write(&container("extra/mlnx-ofa_kernel/core/mlx5_core.ko"), "new");
        node.write(&container("extra/mlnx-ofa_kernel/ib/mlx5_ib.ko"), "new ib");
        symlink("core/mlx5_core.ko", node.path(&container("extra/mlnx-ofa_kernel/link.ko"))).unwrap();
        node
    }

    fn host(&self) -> Host {
        Host::at(self.dir.path()).with_replay(self.replay.clone())
    }

    fn path(&self, path: &str) -> PathBuf {
        self.host().path(path)
    }

    fn write(&self, path: &str, text: &str) {
        fs::create_dir_all(self.path(path).parent().unwrap()).unwrap();
        fs::write(self.path(path), text).unwrap();
    }

    /// The files below a folder, with what is in them.
    fn files(&self, folder: &str) -> Vec<String> {
        let entries =
            walkdir::WalkDir::new(self.path(folder)).sort_by_file_name().into_iter().map(Result::unwrap);
        entries
            .filter(|entry| !entry.file_type().is_dir())
            .map(|entry| {
                let below = entry.path().strip_prefix(self.path(folder)).unwrap().display().to_string();
                match entry.file_type().is_symlink() {
                    true => format!("{below} -> {}", fs::read_link(entry.path()).unwrap().display()),
                    false if below.ends_with(".json") => below,
                    false => format!("{below}: {}", fs::read_to_string(entry.path()).unwrap()),
                }
            })
            .collect()
    }

    fn tree(&self) -> HostTree {
        HostTree::find(&self.host(), &kernel()).unwrap()
    }

    async fn put(&self) -> Result<Vec<PathBuf>, HostTreeError> {
        self.tree().put(&self.host(), &modules()).await
    }
}

fn kernel() -> KernelRelease {
    KERNEL.parse().unwrap()
}

fn host(path: &str) -> String {
    format!("/host/lib/modules/{KERNEL}/{path}")
}

fn container(path: &str) -> String {
    format!("/lib/modules/{KERNEL}/{path}")
}

fn modules() -> Vec<PathBuf> {
    // One that lies in no folder of its own stays where it is.
    [
        "extra/mlnx-ofa_kernel/core/mlx5_core.ko",
        "extra/mlnx-ofa_kernel/ib/mlx5_ib.ko",
        "extra/alone.ko",
        "updates/x/y.ko",
    ]
    .map(|path| container(path).into())
    .to_vec()
}

const PUT: [&str; 5] = [
    "extra/mlnx-ofa_kernel/.nic-driver.json",
    "extra/mlnx-ofa_kernel/core/mlx5_core.ko: new",
    "extra/mlnx-ofa_kernel/ib/mlx5_ib.ko: new ib",
    "extra/mlnx-ofa_kernel/link.ko -> core/mlx5_core.ko",
    "kernel/mlx5_core.ko.xz: inbox",
];

#[tokio::test]
async fn what_is_put_there_is_found_through_a_link_and_taken_out_again() {
    let node = Node::new();
    let folder = PathBuf::from(host("extra/mlnx-ofa_kernel"));
    assert_eq!(node.put().await.unwrap(), std::slice::from_ref(&folder));
    assert_eq!(node.files(&host("")), PUT);
    let link = node.path(&container("extra/mlnx-ofa_kernel"));
    assert_eq!(fs::read_link(&link).unwrap(), folder);
    assert_eq!(node.replay.asked(), [DEPMOD]);
    // Once more changes nothing, and neither does what brings no module.
    assert_eq!(node.put().await.unwrap(), Vec::<PathBuf>::new());
    assert_eq!(node.tree().put(&node.host(), &[]).await.unwrap(), Vec::<PathBuf>::new());
    assert_eq!(node.replay.asked(), [DEPMOD]);

    let withdrawn = node.tree().take_out(&node.host()).await.unwrap();
    assert_eq!((withdrawn.folders, withdrawn.left), (vec![folder], vec![]));
    assert_eq!(node.files(&host("")), ["kernel/mlx5_core.ko.xz: inbox"]);
    assert!(!node.path(&host("extra/mlnx-ofa_kernel")).exists() && !link.is_symlink());
    assert_eq!(node.replay.asked(), [DEPMOD, DEPMOD]);
    assert_eq!(node.tree().take_out(&node.host()).await.unwrap(), Default::default());
    assert_eq!(node.replay.asked(), [DEPMOD, DEPMOD]);
}

#[tokio::test]
async fn modules_of_another_kernel_go_into_the_running_ones_folder() {
    let node = Node::new();
    let other = |path: &str| format!("/lib/modules/5.14.0-570.12.1.el9_6.x86_64/extra/{path}");
    node.write(&other("kmod-x/x.ko"), "linked");
    node.write(&other("mlnx-ofa_kernel/core/mlx5_core.ko"), "hidden by the kernel's own");
    let linked = ["kmod-x/x.ko", "mlnx-ofa_kernel/core/mlx5_core.ko"].map(|path| PathBuf::from(other(path)));
    let all: Vec<PathBuf> = modules().into_iter().chain(linked).collect();
    let folders = node.tree().put(&node.host(), &all).await.unwrap();
    assert_eq!(folders, [host("extra/kmod-x"), host("extra/mlnx-ofa_kernel")].map(PathBuf::from));
    let linked = ["extra/kmod-x/.nic-driver.json", "extra/kmod-x/x.ko: linked"];
    let expected: Vec<&str> = linked.into_iter().chain(PUT).collect();
    assert_eq!(node.files(&host("")), expected);
    assert_eq!(
        fs::read_link(node.path(&container("extra/kmod-x"))).unwrap(),
        Path::new(&host("extra/kmod-x"))
    );
    assert!(node.path(&other("kmod-x/x.ko")).is_file(), "the package's files stay");
    node.tree().take_out(&node.host()).await.unwrap();
    assert_eq!(node.files(&host("")), ["kernel/mlx5_core.ko.xz: inbox"]);
}

#[tokio::test]
async fn a_new_container_replaces_what_an_older_one_has_put_there() {
    let node = Node::new();
    node.put().await.unwrap();
    // Another container: its tree is of its own image, and a run before it was killed half way.
    fs::remove_file(node.path(&container("extra/mlnx-ofa_kernel"))).unwrap();
    node.write(&container("extra/mlnx-ofa_kernel/core/mlx5_core.ko"), "newer");
    node.write(&host("extra/.mlnx-ofa_kernel.nic-driver-new/half.ko"), "half");
    node.put().await.unwrap();
    let expected =
        ["extra/mlnx-ofa_kernel/.nic-driver.json", "extra/mlnx-ofa_kernel/core/mlx5_core.ko: newer"];
    assert_eq!(node.files(&host(""))[..2], expected);
    assert_eq!(node.files(&host("")).len(), 3);
}

#[tokio::test]
async fn a_package_manager_does_not_write_through_the_link() {
    let node = Node::new();
    node.put().await.unwrap();
    node.tree().unlink(&node.host()).unwrap();
    assert!(!node.path(&container("extra/mlnx-ofa_kernel")).is_symlink());
    assert_eq!(node.files(&host("")), PUT);
    // A link of somebody else's is none of ours.
    symlink("/elsewhere", node.path(&container("extra/other"))).unwrap();
    node.tree().unlink(&node.host()).unwrap();
    assert!(node.path(&container("extra/other")).is_symlink());
}

#[tokio::test]
async fn without_the_hosts_index_nothing_is_linked_and_the_next_one_goes_on() {
    let failing = Node { replay: Replay::default(), ..Node::new() };
    let error = failing.put().await.unwrap_err();
    assert!(matches!(error, HostTreeError::Depmod(_)), "{error}");
    assert!(!failing.path(&container("extra/mlnx-ofa_kernel")).is_symlink());
    let again = Node { replay: Replay::default().answer(DEPMOD, Captured::success("")), ..failing };
    assert_eq!(again.put().await.unwrap().len(), 1);
    assert_eq!(again.files(&host("")), PUT);
    assert!(again.path(&container("extra/mlnx-ofa_kernel")).is_symlink());
}

/// A file system without attributes, gone with the value; `None` without the right to mount one.
struct WithoutLabels(PathBuf);

impl WithoutLabels {
    fn mount(folder: PathBuf) -> Option<Self> {
        fs::create_dir_all(&folder).unwrap();
        if let Err(error) = rustix::mount::mount("ramfs", &folder, "ramfs", MountFlags::empty(), None) {
            // Where this must be tested, being unable to is a failure.
            assert!(std::env::var_os("CI").is_none(), "cannot mount a ramfs: {error}");
            writeln!(std::io::stderr(), "SKIPPED: cannot mount a ramfs: {error}").unwrap();
            return None;
        }
        Some(Self(folder))
    }
}

impl Drop for WithoutLabels {
    fn drop(&mut self) {
        rustix::mount::unmount(&self.0, UnmountFlags::DETACH).unwrap();
    }
}

#[tokio::test]
async fn modules_that_cannot_be_labelled_are_put_there_all_the_same() {
    let node = Node::new();
    node.write("/proc/filesystems", "nodev\tselinuxfs\n");
    let Some(_mounted) = WithoutLabels::mount(node.path(&host("extra"))) else { return };
    node.host().label_module_files([host("extra")]).unwrap_err();
    node.put().await.unwrap();
    assert_eq!(node.files(&host("")), PUT);
}

#[tokio::test]
async fn what_the_incumbent_left_is_taken_over_and_taken_out() {
    let node = Node::new();
    node.write(&host("extra/mlnx-ofa_kernel/core/mlx5_core.ko"), "the incumbent's");
    node.write(&host("extra/mlnx-ofa_kernel/old/gone_in_the_new.ko"), "the incumbent's");
    node.put().await.unwrap();
    assert_eq!(node.files(&host("")), PUT);
    let manifest = fs::read_to_string(node.path(&host("extra/mlnx-ofa_kernel/.nic-driver.json"))).unwrap();
    let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    assert_eq!(manifest["taken_over"], serde_json::json!(["core/mlx5_core.ko", "old/gone_in_the_new.ko"]));
    assert_eq!(node.tree().take_out(&node.host()).await.unwrap().left, Vec::<PathBuf>::new());
    assert_eq!(node.files(&host("")), ["kernel/mlx5_core.ko.xz: inbox"]);

    // Also where this program has not put anything: the inbox driver is asked for.
    let node = Node::new();
    node.write(&host("extra/mlnx-ofa_kernel/core/mlx5_core.ko"), "the incumbent's");
    let withdrawn = node.tree().take_out(&node.host()).await.unwrap();
    assert_eq!(withdrawn.folders, [PathBuf::from(host("extra/mlnx-ofa_kernel"))]);
    assert_eq!(node.files(&host("")), ["kernel/mlx5_core.ko.xz: inbox"]);
    assert_eq!(node.replay.asked(), [DEPMOD]);

    // Not where the host is none into which the incumbent puts anything.
    for os_release in ["ID=rhel\nVERSION_ID=9.6\nOPENSHIFT_VERSION=\"4.19\"\n", "ID=ubuntu\n"] {
        let node = Node::new();
        node.write("/host/etc/os-release", os_release);
        node.write(&host("extra/mlnx-ofa_kernel/core/mlx5_core.ko"), "the image's");
        assert_eq!(node.tree().take_out(&node.host()).await.unwrap(), Default::default());
        assert_eq!(node.files(&host("extra")), ["mlnx-ofa_kernel/core/mlx5_core.ko: the image's"]);
    }
}

const OWNER_QUERY: &str = r"rpm --dbpath /host/usr/lib/sysimage/rpm -q --qf '%{NAME}-%{VERSION}-%{RELEASE}\n' -f /lib/modules/5.14.0-570.73.1.el9_6.x86_64/extra/mlnx-ofa_kernel/core/mlx5_core.ko /usr/lib/modules/5.14.0-570.73.1.el9_6.x86_64/extra/mlnx-ofa_kernel/core/mlx5_core.ko";
const NOT_OWNED: &str = "file /lib/modules/5.14.0-570.73.1.el9_6.x86_64/extra/mlnx-ofa_kernel/core/mlx5_core.ko is not owned by any package\n";
const NO_SUCH_FILE: &str = "error: file /usr/lib/modules/5.14.0-570.73.1.el9_6.x86_64/extra/mlnx-ofa_kernel/core/mlx5_core.ko: No such file or directory\n";

#[tokio::test]
async fn what_a_package_of_the_host_owns_is_not_touched() {
    let answered = |code, stdout: &str, stderr: &str| {
        let mut node = Node::new();
        node.write("/host/usr/lib/sysimage/rpm/rpmdb.sqlite", "");
        node.write(&host("extra/mlnx-ofa_kernel/core/mlx5_core.ko"), "somebody's");
        let answer = Captured { code: Some(code), stdout: stdout.to_owned(), stderr: stderr.to_owned() };
        node.replay = node.replay.answer(OWNER_QUERY, answer);
        node
    };
    let owned = answered(1, &format!("{NOT_OWNED}kmod-mlnx-ofa_kernel-25.10-1\n"), "");
    let error = owned.put().await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "{} is not of this program: it has no .nic-driver.json, and it belongs to the host's package \
             kmod-mlnx-ofa_kernel-25.10-1",
            owned.path(&host("extra/mlnx-ofa_kernel")).display()
        )
    );
    assert_eq!(owned.tree().take_out(&owned.host()).await.unwrap(), Default::default());
    assert_eq!(owned.files(&host("extra")), ["mlnx-ofa_kernel/core/mlx5_core.ko: somebody's"]);

    for (stdout, stderr) in
        [(NOT_OWNED, NO_SUCH_FILE), ("", NO_SUCH_FILE), (NOT_OWNED, "warning: Found BDB database\n")]
    {
        let nobodys = answered(2, stdout, stderr);
        nobodys.put().await.unwrap();
        assert_eq!(nobodys.files(&host("")), PUT);
    }
    // A database that cannot be asked is no empty one.
    for (stdout, stderr) in
        [("", "error: cannot open Packages database\n"), (NOT_OWNED, "error: rpmdb: failed\n"), ("", "")]
    {
        let node = answered(1, stdout, stderr);
        let error = node.put().await.unwrap_err();
        assert!(matches!(error, HostTreeError::Owner { .. }), "{error}");
        assert_eq!(node.files(&host("extra")), ["mlnx-ofa_kernel/core/mlx5_core.ko: somebody's"]);
    }
}

#[tokio::test]
async fn without_the_hosts_database_traces_of_an_installation_count() {
    for trace in [
        "/host/etc/infiniband/openib.conf",
        "/host/etc/init.d/openibd",
        "/host/usr/lib/systemd/system/openibd.service",
        "/host/etc/depmod.d/zz01-mlnx-ofa_kernel-mlx5_core.conf",
    ] {
        let node = Node::new();
        node.write(trace, "");
        node.write(&host("extra/mlnx-ofa_kernel/core/mlx5_core.ko"), "of the host's own package");
        let error = node.put().await.unwrap_err();
        assert!(
            error.to_string().ends_with(&format!("installed on the host itself, which has {trace}")),
            "{error}"
        );
        assert!(node.path(&container("extra/mlnx-ofa_kernel")).is_dir());
        assert_eq!(node.tree().take_out(&node.host()).await.unwrap(), Default::default());
        assert_eq!(
            node.files(&host("extra")),
            ["mlnx-ofa_kernel/core/mlx5_core.ko: of the host's own package"]
        );
        assert_eq!(node.replay.asked(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn what_is_not_of_this_program_is_left_alone() {
    // Another name, and a link or a file in the folder's place.
    let node = Node::new();
    node.write(&host("extra/other/mlx5_core.ko"), "another's");
    node.write(&container("extra/other/mlx5_core.ko"), "new");
    let modules = [PathBuf::from(container("extra/other/mlx5_core.ko"))];
    let error = node.tree().put(&node.host(), &modules).await.unwrap_err();
    assert!(error.to_string().ends_with("and nothing tells who has put it there"), "{error}");
    node.write(&host("elsewhere/mlx5_core.ko"), "another's");
    symlink("../elsewhere", node.path(&host("extra/mlnx-ofa_kernel"))).unwrap();
    let error = node.put().await.unwrap_err();
    assert!(matches!(error, HostTreeError::Foreign { .. }), "{error}");
    assert_eq!(node.tree().take_out(&node.host()).await.unwrap(), Default::default());
    assert_eq!(
        node.files(&host("extra")),
        ["mlnx-ofa_kernel -> ../elsewhere", "other/mlx5_core.ko: another's"]
    );
    assert_eq!(node.replay.asked(), Vec::<String>::new());

    // What was changed since it was put there, or added.
    let node = Node::new();
    node.put().await.unwrap();
    node.write(&host("extra/mlnx-ofa_kernel/core/mlx5_core.ko"), "patched");
    node.write(&host("extra/mlnx-ofa_kernel/notes.txt"), "by hand");
    let withdrawn = node.tree().take_out(&node.host()).await.unwrap();
    let left = ["extra/mlnx-ofa_kernel/core/mlx5_core.ko", "extra/mlnx-ofa_kernel/notes.txt"];
    assert_eq!(withdrawn.left, left.map(|path| PathBuf::from(host(path))));
    assert_eq!(
        node.files(&host("extra")),
        ["mlnx-ofa_kernel/core/mlx5_core.ko: patched", "mlnx-ofa_kernel/notes.txt: by hand"]
    );
}

#[tokio::test]
async fn a_removal_that_was_cut_off_is_begun_anew() {
    let node = Node::new();
    node.put().await.unwrap();
    let failing = Node { dir: node.dir, replay: Replay::default() };
    let error = failing.tree().take_out(&failing.host()).await.unwrap_err();
    assert!(matches!(error, HostTreeError::Depmod(_)), "{error}");
    let again = Node { dir: failing.dir, replay: Replay::default().answer(DEPMOD, Captured::success("")) };
    assert_eq!(again.tree().take_out(&again.host()).await.unwrap().folders.len(), 1);
    assert_eq!(again.replay.asked(), [DEPMOD]);
    assert!(!again.path(&host("extra/mlnx-ofa_kernel")).exists());

    again.write(&host("extra/mlnx-ofa_kernel/.nic-driver.json"), "{");
    let error = again.tree().take_out(&again.host()).await.unwrap_err();
    assert!(matches!(error, HostTreeError::Manifest { .. }), "{error}");
}

#[test]
fn only_a_plain_red_hat_wants_modules() {
    let node = Node::new();
    for (os, wants) in [
        ("ID=rhel\nVERSION_ID=9.6\n", true),
        ("ID=rocky\nID_LIKE=\"rhel centos fedora\"\n", true),
        ("ID=rhcos\nVERSION_ID=4.18\n", false),
        ("ID=ubuntu\n", false),
        ("ID=sles\n", false),
        ("ID=fedora\n", false),
        ("ID=nixos\n", false),
        // Each of these alone says that the host is updated as an image.
        ("ID=rhel\nVERSION_ID=9.6\nOPENSHIFT_VERSION=4.19\n", false),
        ("ID=rhel\nVERSION_ID=9.6\nVARIANT_ID=coreos\n", false),
        ("ID=rhel\nVERSION_ID=9.6\nOSTREE_VERSION=9.6.20250530-0\n", false),
    ] {
        node.write("/host/etc/os-release", os);
        assert_eq!(node.tree().wants_modules(&node.host()).unwrap(), wants, "{os}");
    }
    node.write("/host/etc/os-release", "ID=rhel\nVERSION_ID=9.6\n");
    node.write("/proc/cmdline", "root=UUID=1d rw ostree=/ostree/boot.1/default/3f/0\n");
    assert!(!node.tree().wants_modules(&node.host()).unwrap(), "image mode by the kernel's command line");
    fs::remove_file(node.path("/proc/cmdline")).unwrap();
    // The host's own file through an absolute link is not the container's.
    fs::remove_file(node.path("/host/etc/os-release")).unwrap();
    symlink("/usr/lib/os-release", node.path("/host/etc/os-release")).unwrap();
    node.write("/usr/lib/os-release", "ID=ubuntu\n");
    node.write("/host/usr/lib/os-release", "ID=rhel\n");
    assert!(node.tree().wants_modules(&node.host()).unwrap());
    fs::remove_file(node.path("/host/usr/lib/os-release")).unwrap();
    fs::remove_file(node.path("/host/etc/os-release")).unwrap();
    assert!(!node.tree().wants_modules(&node.host()).unwrap());
    assert_eq!(HostTree::find(&Host::at(Path::new("/nonexistent")), &kernel()), None);
}
