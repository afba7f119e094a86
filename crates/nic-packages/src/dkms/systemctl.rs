use std::ffi::OsString;
use std::path::{Path, PathBuf};

use nic_host::{Host, WriteError};

const FOLDER: &str = "/usr/local/bin";
const NAME: &str = "systemctl";
const WITHOUT_PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// A `systemctl` without effect for containers. DKMS and packages' scriptlets call it, and there is no systemd to answer.
#[derive(Debug, Clone, Copy)]
pub struct SystemctlStub;

impl SystemctlStub {
    /// Puts it there, as a link to true(1); nothing where systemd runs, where there is a `systemctl` of that place already,
    /// or no `true`. Returns where it is when it was made.
    ///
    /// # Errors
    /// It cannot be made. No installation fails for that.
    pub fn install(host: &Host) -> Result<Option<PathBuf>, WriteError> {
        // sd_booted(3).
        let systemd_runs = host.exists("/run/systemd/system");
        let Some(program) = host.find_program("true").filter(|_| !systemd_runs) else { return Ok(None) };
        let stub = Path::new(FOLDER).join(NAME);
        if host.exists(&stub) {
            return Ok(None);
        }
        host.make_link(&stub, &program)?;
        Ok(Some(stub))
    }

    /// `PATH` with the stub's folder first, for what calls it.
    #[must_use]
    pub fn search_path() -> OsString {
        in_front_of(std::env::var_os("PATH").filter(|path| !path.is_empty()))
    }
}

fn in_front_of(path: Option<OsString>) -> OsString {
    let mut all = OsString::from(FOLDER);
    all.push(":");
    // Where nothing is set programs are found in folders of the C library's choice; with this set, they must stand in it.
    all.push(path.unwrap_or_else(|| WITHOUT_PATH.into()));
    all
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_stub_is_made_in_containers_alone() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::at(dir.path());
        assert_eq!(SystemctlStub::install(&host).unwrap(), None, "no true");
        fs::create_dir_all(dir.path().join("usr/bin")).unwrap();
        let program = dir.path().join("usr/bin/true");
        fs::write(&program, "").unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();

        fs::create_dir_all(dir.path().join("run/systemd/system")).unwrap();
        assert_eq!(SystemctlStub::install(&host).unwrap(), None, "systemd runs");
        fs::remove_dir(dir.path().join("run/systemd/system")).unwrap();
        let stub = PathBuf::from("/usr/local/bin/systemctl");
        assert_eq!(SystemctlStub::install(&host).unwrap(), Some(stub.clone()));
        assert_eq!(fs::read_link(host.path(&stub)).unwrap(), Path::new("/usr/bin/true"));
        assert_eq!(SystemctlStub::install(&host).unwrap(), None, "it is there");
        assert_eq!(in_front_of(Some("/opt/bin".into())), "/usr/local/bin:/opt/bin");
        assert_eq!(in_front_of(None), "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");

        // A file where the folder should be.
        fs::remove_dir_all(dir.path().join("usr/local")).unwrap();
        fs::write(dir.path().join("usr/local"), "").unwrap();
        assert!(SystemctlStub::install(&host).is_err());
    }
}
