//! Paths on the command line: whose they are, and made absolute.
//!
//! `--root`, `--state-dir` and a family's file are paths of this process. All others are paths of the machine, below
//! its root; a relative one is nevertheless meant as the shell shows it, from the folder this process was started in.

use std::io;
use std::path::{Path, PathBuf};

use nic_host::Foreign;

use super::arguments::{Cli, Command, Planned};

/// A path that means nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum PathError {
    /// It is empty, or the current folder is gone.
    #[error("{setting}: {} cannot be made an absolute path", Foreign(&path.to_string_lossy()))]
    Absolute {
        setting: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// It is outside the machine.
    #[error(
        "{setting}: {} is not below the root {}",
        Foreign(&path.to_string_lossy()), Foreign(&root.to_string_lossy())
    )]
    OutsideRoot { setting: &'static str, path: PathBuf, root: PathBuf },
    /// No result, no journal and no state file could name it.
    #[error("{setting}: {} is not UTF-8", Foreign(&path.to_string_lossy()))]
    NotUtf8 { setting: &'static str, path: PathBuf },
}

/// Makes all paths of a command line absolute.
pub(super) fn make_absolute(cli: &mut Cli) -> Result<(), PathError> {
    cli.root = absolute("--root (NIC_DRIVER_ROOT)", &cli.root)?;
    if let Some(path) = &mut cli.state_dir {
        *path = absolute("--state-dir (NIC_DRIVER_STATE_DIR)", path)?;
    }
    let of_machines = [
        ("MLX_DRIVERS_MOUNT (--drivers-mount)", Some(&mut cli.drivers_mount)),
        ("DRIVER_READY_PATH (--readiness-file)", Some(&mut cli.readiness_file)),
        ("LOCK_FILE_PATH (--lock-file)", Some(&mut cli.lock_file)),
        ("OFED_BLACKLIST_MODULES_FILE (--blacklist-file)", cli.blacklist_file.as_mut()),
    ];
    for (setting, path) in of_machines {
        if let Some(path) = path {
            *path = of_machine(setting, &cli.root, path)?;
        }
    }
    let of_command = match &mut cli.command {
        Command::Install(install) | Command::Plan { of: Planned::Install(install) } => install.paths(),
        Command::Build(build) => build.paths(),
        Command::Run(run) => run.paths(),
        _ => Vec::new(),
    };
    for (setting, path) in of_command {
        *path = of_machine(setting, &cli.root, path)?;
    }
    Ok(())
}

fn absolute(setting: &'static str, path: &Path) -> Result<PathBuf, PathError> {
    if path.to_str().is_none() {
        return Err(PathError::NotUtf8 { setting, path: path.to_path_buf() });
    }
    std::path::absolute(path).map_err(|source| PathError::Absolute {
        setting,
        path: path.to_path_buf(),
        source,
    })
}

/// The machine's absolute path for one that was given.
fn of_machine(setting: &'static str, root: &Path, given: &Path) -> Result<PathBuf, PathError> {
    let path = absolute(setting, given)?;
    if given.is_absolute() {
        return Ok(given.to_path_buf());
    }
    match path.strip_prefix(root) {
        Ok(below) => Ok(Path::new("/").join(below)),
        Err(_) => Err(PathError::OutsideRoot { setting, path, root: root.to_path_buf() }),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    fn parsed(arguments: &[&str]) -> Result<Cli, PathError> {
        let mut cli = Cli::parse_from([&["nic-driver"], arguments].concat());
        make_absolute(&mut cli).map(|()| cli)
    }

    fn packages(cli: &Cli) -> &Path {
        match &cli.command {
            Command::Install(install) => install.packages.as_ref().unwrap(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn relative_paths_are_meant_from_the_current_folder() {
        let here = std::env::current_dir().unwrap();
        let cli = parsed(&["install", "--packages", "rpms", "--state-dir", "./state"]).unwrap();
        assert_eq!((cli.root.as_path(), packages(&cli)), (Path::new("/"), here.join("rpms").as_path()));
        assert_eq!(cli.state_dir, Some(here.join("state")));
        let cli = parsed(&["--root", "tree", "install", "--packages", "tree/rpms"]).unwrap();
        assert_eq!((cli.root.clone(), packages(&cli)), (here.join("tree"), Path::new("/rpms")));
    }

    #[test]
    fn absolute_paths_are_the_machines_own() {
        let cli = parsed(&["--root", "/tree", "install", "--packages", "/mnt/rpms"]).unwrap();
        assert_eq!(packages(&cli), Path::new("/mnt/rpms"));
        // The same folder, spelled otherwise.
        assert_eq!(parsed(&["--root", "/./", "status"]).unwrap().root, Path::new("/"));
    }

    #[test]
    fn a_relative_path_outside_the_tree_is_refused() {
        let error = parsed(&["--root", "/tree", "install", "--packages", "rpms"]).unwrap_err();
        assert!(matches!(error, PathError::OutsideRoot { .. }), "{error}");
    }

    #[test]
    fn trial_w15_a_wrong_path_is_told_with_its_variable() {
        let error = parsed(&["--root", "/tree", "--lock-file", "lock", "status"]).unwrap_err().to_string();
        assert!(error.starts_with("LOCK_FILE_PATH (--lock-file): "), "{error}");
    }

    #[test]
    fn trial_w6_a_path_that_no_result_could_name_is_refused() {
        use std::os::unix::ffi::OsStrExt as _;
        let mut cli = Cli::parse_from(["nic-driver", "snapshot"]);
        cli.state_dir = Some(Path::new(std::ffi::OsStr::from_bytes(b"x\xff")).to_path_buf());
        let error = make_absolute(&mut cli).unwrap_err().to_string();
        assert_eq!(error, "--state-dir (NIC_DRIVER_STATE_DIR): \"x\u{fffd}\" is not UTF-8");
    }
}
