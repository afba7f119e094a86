use std::fmt;
use std::path::{Path, PathBuf};

use nic_host::{FileLifetime, Host, ReadError, WriteError};

use crate::ModuleName;

/// How the first line of every blacklist begins that [`Blacklist::write`] has ever written.
const HEADER: &str = "# Written by nic-driver";

/// The name of the file in the state directory that a link leads to. A link to a file of this name is this program's,
/// whichever state directory it is in.
const LINKED_FILE: &str = "nic-driver-blacklist.conf";

/// A file of modprobe's configuration that keeps modules from being loaded for a device that appears.
///
/// udev asks for modules by alias, and a module listed here is then not loaded. `modprobe NAME` still works, which is
/// how the modules are loaded anew while the file is there. An `install NAME /bin/false` would prevent that too.
///
/// It must not outlive the boot: a machine that is reset in mid-swap would come up without its driver. So the path,
/// which lies on the disk, holds a link to a file that lies in memory. modprobe reads what the link leads to, and passes
/// over a link that leads nowhere (`conf_files_list` and `kmod_config_parse` in kmod's `libkmod-config.c`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blacklist {
    path: PathBuf,
    linked_file: Option<PathBuf>,
    modules: Vec<ModuleName>,
}

/// What is at a blacklist's path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundBlacklist {
    /// The path.
    pub path: PathBuf,
    /// Whose it is.
    pub origin: BlacklistOrigin,
}

/// Whose a blacklist is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BlacklistOrigin {
    /// This program's: a link to a file in a state directory, which may be gone.
    OurLink {
        /// The file.
        target: PathBuf,
    },
    /// This program's: a file.
    OurFile,
    /// A driver container's of the kind that this program replaces: one comment, and then nothing but lines
    /// `blacklist MODULE`. One that was killed while it wrote has left the beginning of that, or an empty file.
    OtherContainer,
    /// Somebody else's. It is neither removed nor written through.
    Foreign,
}

/// A blacklist could not be written or removed.
#[derive(Debug, thiserror::Error)]
pub enum BlacklistError {
    /// What is there could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It could not be written or removed.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// Somebody else's file is in its place.
    #[error("{} is neither this program's nor a driver container's blacklist: it is not touched", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
}

/// The longest file that is looked at, in bytes: a blacklist has some hundred.
const LONGEST_BLACKLIST: u64 = 1 << 20;

impl Blacklist {
    /// The blacklist at `path`, e.g. `/host/etc/modprobe.d/blacklist-ofed-modules.conf` (modprobe reads files ending in
    /// `.conf` only). It is a link to a file in `state_folder` where that dies with the boot, and otherwise a file.
    ///
    /// `state_folder` is a path that leads to the same folder in this process and on the machine whose modprobe reads
    /// the blacklist.
    ///
    /// # Errors
    /// It cannot be told what file system the state folder is on.
    pub fn new(
        host: &Host,
        path: impl Into<PathBuf>,
        state_folder: &Path,
        modules: Vec<ModuleName>,
    ) -> Result<Self, ReadError> {
        let linked_file = match host.file_lifetime(state_folder)? {
            FileLifetime::UntilReboot => Some(state_folder.join(LINKED_FILE)),
            FileLifetime::Persistent | FileLifetime::WithLayer => None,
        };
        Ok(Self { path: path.into(), linked_file, modules })
    }

    /// Whether a machine that is reset while it is there would still have it: it is a file and no link.
    #[must_use]
    pub fn outlives_the_boot(&self) -> bool {
        self.linked_file.is_none()
    }

    fn content(&self) -> String {
        let lines = self.modules.iter().map(|module| format!("blacklist {module}\n"));
        format!(
            "{HEADER} while it swaps kernel modules. It is removed when that is done.\n\
             # If no nic-driver is running, it was left behind, and may be deleted.\n{}",
            lines.collect::<String>()
        )
    }

    /// Writes it, in place of one that was left behind. Killed anywhere in between, what is there is recognised.
    ///
    /// # Errors
    /// Among others, that somebody else's file is in its place; nothing was written then.
    pub fn write(&self, host: &Host) -> Result<(), BlacklistError> {
        if let Some(found) = FoundBlacklist::find(host, &self.path)? {
            found.remove(host)?;
        }
        match &self.linked_file {
            None => host.write_durably(&self.path, self.content().as_bytes())?,
            Some(file) => {
                host.write_durably(file, self.content().as_bytes())?;
                // Made at once or not at all, and never over something that has come there meanwhile.
                host.make_link(&self.path, file)?;
            }
        }
        Ok(())
    }

    /// Removes it. What somebody else has put there meanwhile stays, and is an error.
    ///
    /// # Errors
    /// It could not be read or removed, or is somebody else's.
    pub fn remove(&self, host: &Host) -> Result<(), BlacklistError> {
        FoundBlacklist::find(host, &self.path)?.map_or(Ok(()), |found| found.remove(host))
    }
}

impl FoundBlacklist {
    /// Looks for what is at `path`; `None` where nothing is.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn find(host: &Host, path: impl Into<PathBuf>) -> Result<Option<Self>, ReadError> {
        let path = path.into();
        if !host.exists(&path) {
            return Ok(None);
        }
        if let Some(target) = host.link_target(&path)? {
            let is_ours =
                target.file_name().is_some_and(|name| name == LINKED_FILE) && leads_to_ours(host, &target)?;
            let origin = if is_ours { BlacklistOrigin::OurLink { target } } else { BlacklistOrigin::Foreign };
            return Ok(Some(Self { path, origin }));
        }
        if !host.path(&path).is_file() {
            return Ok(Some(Self { path, origin: BlacklistOrigin::Foreign }));
        }
        let bytes = host.read_bytes_up_to(&path, LONGEST_BLACKLIST)?;
        let origin = std::str::from_utf8(&bytes).map_or(BlacklistOrigin::Foreign, BlacklistOrigin::of_text);
        Ok(Some(Self { path, origin }))
    }

    /// Whether it is neither this program's nor another driver container's.
    #[must_use]
    pub fn is_foreign(&self) -> bool {
        self.origin == BlacklistOrigin::Foreign
    }

    /// Removes it: the link first, and then what it leads to.
    ///
    /// # Errors
    /// Among others, that it is somebody else's; it stays then.
    pub fn remove(&self, host: &Host) -> Result<(), BlacklistError> {
        match &self.origin {
            BlacklistOrigin::Foreign => {
                return Err(BlacklistError::Foreign { path: host.path(&self.path) });
            }
            BlacklistOrigin::OurLink { target } => {
                host.remove_file(&self.path)?;
                host.remove_file(target)?;
            }
            BlacklistOrigin::OurFile | BlacklistOrigin::OtherContainer => {
                host.remove_file(&self.path)?;
            }
        }
        Ok(())
    }
}

/// Whether what our link leads to may go with it: nothing is there, or what this program has written, be it a part of it.
fn leads_to_ours(host: &Host, target: &Path) -> Result<bool, ReadError> {
    if host.link_target(target)?.is_some() {
        return Ok(false);
    }
    if !host.exists(target) {
        return Ok(true);
    }
    let bytes = host.read_bytes_up_to(target, LONGEST_BLACKLIST)?;
    let origin = std::str::from_utf8(&bytes).map_or(BlacklistOrigin::Foreign, BlacklistOrigin::of_text);
    Ok(bytes.is_empty() || origin == BlacklistOrigin::OurFile)
}

impl BlacklistOrigin {
    fn of_text(text: &str) -> Self {
        // Who was killed while it wrote, or found the disk full, has left the beginning of a text: none of it, or a line half done.
        let (text, cut_off) = match text.rsplit_once('\n') {
            Some((whole, cut_off)) => (whole, cut_off),
            None if text.starts_with('#') => (text, ""),
            None => ("", text),
        };
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let Some(first) = lines.next() else {
            return if cut_off.is_empty() { Self::OtherContainer } else { Self::Foreign };
        };
        let is_blacklist = |line: &str| {
            let module = line.strip_prefix("blacklist ").map(str::trim);
            module.is_some_and(|module| module.parse::<ModuleName>().is_ok())
        };
        let is_beginning = "blacklist ".starts_with(cut_off) || is_blacklist(cut_off);
        // What somebody has added to ours is theirs.
        let of_ours = |line: &str| line.starts_with('#') || is_blacklist(line);
        if first.starts_with(HEADER)
            && lines.clone().all(of_ours)
            && (is_beginning || cut_off.starts_with('#'))
        {
            Self::OurFile
        } else if first.starts_with('#') && lines.all(is_blacklist) && is_beginning {
            Self::OtherContainer
        } else {
            Self::Foreign
        }
    }
}

impl fmt::Display for BlacklistOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OurLink { target } => write!(f, "this program's link to {}", target.display()),
            Self::OurFile => f.write_str("this program's file"),
            Self::OtherContainer => f.write_str("another driver container's file"),
            Self::Foreign => f.write_str("somebody else's"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::Command;

    use super::*;
    use crate::fixture::{file, names};

    const PATH: &str = "/host/etc/modprobe.d/blacklist-ofed-modules.conf";

    fn blacklist(linked_file: Option<&Path>) -> Blacklist {
        Blacklist {
            path: PATH.into(),
            linked_file: linked_file.map(Path::to_path_buf),
            modules: names("mlx5-core ib_core"),
        }
    }

    #[test]
    fn where_the_state_outlives_the_boot_it_is_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::at(dir.path());
        assert_eq!(FoundBlacklist::find(&host, PATH).unwrap(), None);

        blacklist(None).write(&host).unwrap();
        insta::assert_snapshot!(host.read(PATH).unwrap(), @r"
        # Written by nic-driver while it swaps kernel modules. It is removed when that is done.
        # If no nic-driver is running, it was left behind, and may be deleted.
        blacklist mlx5_core
        blacklist ib_core
        ");
        let found = FoundBlacklist::find(&host, PATH).unwrap().unwrap();
        assert_eq!(found.origin, BlacklistOrigin::OurFile);
        found.remove(&host).unwrap();
        assert_eq!(FoundBlacklist::find(&host, PATH).unwrap(), None);
    }

    #[test]
    fn the_file_system_of_the_state_decides() {
        let host = Host::running();
        let of = |folder: &str| Blacklist::new(&host, PATH, Path::new(folder), Vec::new()).unwrap();
        assert!(!of("/dev/shm/nic-driver").outlives_the_boot());
        assert!(of("/proc/sys").outlives_the_boot());
    }

    #[test]
    fn a_link_is_recognised_wherever_its_writer_was_killed() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::at(dir.path());
        let state = "/run/state/nic-driver-blacklist.conf";
        let linked = blacklist(Some(Path::new(state)));
        let target = BlacklistOrigin::OurLink { target: state.into() };

        // Killed before the link was made: modprobe does not see the file.
        file(dir.path(), state, linked.content());
        assert_eq!(FoundBlacklist::find(&host, PATH).unwrap(), None);

        linked.write(&host).unwrap();
        assert_eq!(host.read(state).unwrap(), linked.content());
        let found = FoundBlacklist::find(&host, PATH).unwrap().unwrap();
        assert_eq!(found.origin, target);
        // Written over one that was left behind.
        linked.write(&host).unwrap();

        // A boot later, the link leads nowhere.
        host.remove_file(state).unwrap();
        let dangling = FoundBlacklist::find(&host, PATH).unwrap().unwrap();
        assert_eq!(dangling.origin, target);
        dangling.remove(&host).unwrap();
        assert!(!host.exists(PATH));

        linked.write(&host).unwrap();
        found.remove(&host).unwrap();
        assert!(!host.exists(PATH) && !host.exists(state));
    }

    #[test]
    fn whose_a_file_is() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::at(dir.path());
        for (text, origin) in [
            (&b"# Written by nic-driver while it exchanges kernel modules.\n"[..], BlacklistOrigin::OurFile),
            (b"# of a container\nblacklist mlx5_core\nblacklist ib_core\n", BlacklistOrigin::OtherContainer),
            // Cut off anywhere.
            (b"", BlacklistOrigin::OtherContainer),
            (b"# of a con", BlacklistOrigin::OtherContainer),
            (b"# of a container\n", BlacklistOrigin::OtherContainer),
            (b"# of a container\nblack", BlacklistOrigin::OtherContainer),
            (b"# of a container\nblacklist ", BlacklistOrigin::OtherContainer),
            (b"# of a container\nblacklist mlx5_core\nblacklist ib_", BlacklistOrigin::OtherContainer),
            (b"blacklist", BlacklistOrigin::Foreign),
            (b"# by hand\nblackl\n", BlacklistOrigin::Foreign),
            (b"# by hand\nblacklist mlx5_core\ninstall igb", BlacklistOrigin::Foreign),
            (b"blacklist mlx5_core\n", BlacklistOrigin::Foreign),
            (b"# by hand\nblacklist mlx5_core\ninstall igb /bin/true\n", BlacklistOrigin::Foreign),
            (b"# by hand\nblacklist mlx5_core\n# and this one\nblacklist igb\n", BlacklistOrigin::Foreign),
            (b"# by hand\nblacklist mlx5_core igb\n", BlacklistOrigin::Foreign),
            (b"# by hand\nblacklist\n", BlacklistOrigin::Foreign),
            (b"# \xff\nblacklist igb\n", BlacklistOrigin::Foreign),
        ] {
            file(dir.path(), PATH, text);
            let found = FoundBlacklist::find(&host, PATH).unwrap().unwrap();
            assert_eq!(found.origin, origin, "{}", String::from_utf8_lossy(text));
            assert_eq!(found.remove(&host).is_err(), origin == BlacklistOrigin::Foreign);
            assert_eq!(host.exists(PATH), origin == BlacklistOrigin::Foreign);
        }
    }

    #[test]
    fn trial_w8_what_was_added_to_ours_and_what_a_link_of_ours_leads_to_is_somebody_elses() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::at(dir.path());
        let ours = blacklist(None).content();
        for (added, is_foreign) in [
            ("options mlx5_core debug_mask=1\n", true),
            ("install igb /bin/true", true),
            ("# a note\nblacklist igb\n", false),
            ("# a no", false),
            ("blackl", false),
        ] {
            file(dir.path(), PATH, format!("{ours}{added}"));
            let found = FoundBlacklist::find(&host, PATH).unwrap().unwrap();
            assert_eq!(found.is_foreign(), is_foreign, "{added}");
            assert_eq!(found.remove(&host).is_err(), is_foreign);
        }
        host.remove_file(PATH).unwrap();
        let target = "/run/state/nic-driver-blacklist.conf";
        host.make_link(PATH, Path::new(target)).unwrap();
        for (text, is_foreign) in
            [("# by hand\nblacklist igb\n", true), ("x", true), ("", false), (&*ours, false)]
        {
            file(dir.path(), target, text);
            let found = FoundBlacklist::find(&host, PATH).unwrap().unwrap();
            assert_eq!(found.is_foreign(), is_foreign, "{text}");
        }
        // A link behind the link leads to somebody else's.
        host.remove_file(target).unwrap();
        host.make_link(target, Path::new("/precious")).unwrap();
        file(dir.path(), "/precious", &ours);
        FoundBlacklist::find(&host, PATH).unwrap().unwrap().remove(&host).unwrap_err();
        assert!(host.exists(PATH) && host.exists("/precious"));
    }

    #[test]
    fn what_is_somebody_elses_is_not_touched() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::at(dir.path());
        let linked = blacklist(Some(Path::new("/run/state/nic-driver-blacklist.conf")));
        let refused = |what: &str| {
            for blacklist in [&linked, &blacklist(None)] {
                let error = blacklist.write(&host).unwrap_err();
                assert!(matches!(&error, BlacklistError::Foreign { .. }), "{what}: {error}");
                assert!(error.to_string().contains(PATH), "{what}: {error}");
            }
            assert!(!host.exists("/run/state"), "{what}: something was written");
        };
        file(dir.path(), PATH, "blacklist igb\n");
        refused("a file");
        assert_eq!(host.read(PATH).unwrap(), "blacklist igb\n");

        host.remove_file(PATH).unwrap();
        file(dir.path(), "/elsewhere.conf", "# by hand\n");
        host.make_link(PATH, &dir.path().join("elsewhere.conf")).unwrap();
        refused("a link");
        assert_eq!(host.read(PATH).unwrap(), "# by hand\n");

        host.remove_file(PATH).unwrap();
        std::fs::create_dir(host.path(PATH)).unwrap();
        refused("a folder");
    }

    #[test]
    fn modprobe_follows_the_link_and_passes_over_a_dangling_one() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::at(dir.path());
        let configuration = || {
            Command::new("modprobe").arg("-C").arg(dir.path().join("modprobe.d")).arg("--showconfig").output()
        };
        // modprobe knows nothing of the test's root, and the link must lead there for it.
        let linked_file = dir.path().join(LINKED_FILE);
        let path = "/modprobe.d/nic.conf".into();
        let linked = Blacklist { path, linked_file: None, modules: names("mlx5_core") };
        std::fs::write(&linked_file, linked.content()).unwrap();
        host.make_link(&linked.path, &linked_file).unwrap();
        let Ok(read) = configuration() else {
            writeln!(std::io::stderr(), "SKIPPED: there is no modprobe on this machine").unwrap();
            return;
        };
        assert!(read.status.success());
        assert!(String::from_utf8_lossy(&read.stdout).contains("blacklist mlx5_core"), "{read:?}");

        std::fs::remove_file(&linked_file).unwrap();
        let read = configuration().unwrap();
        assert!(read.status.success(), "{read:?}");
        assert!(!String::from_utf8_lossy(&read.stdout).contains("blacklist mlx5_core"), "{read:?}");
    }
}
