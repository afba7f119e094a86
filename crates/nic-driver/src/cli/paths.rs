//! Paths on the command line: whose they are, and made absolute.
//!
//! `--root`, `--state-dir` and a family's file are paths of this process. All others are paths of the machine, below
//! its root; a relative one is nevertheless meant as the shell shows it, from the folder this process was started in.

use std::io;
use std::path::{Path, PathBuf};

use super::arguments::{Cli, Command, Planned};

/// A path that means nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum PathError {
    /// It is empty, or the current folder is gone.
    #[error("{path:?} cannot be made an absolute path")]
    Absolute {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// It is outside the machine.
    #[error("{} is not below the root {}", path.display(), root.display())]
    OutsideRoot { path: PathBuf, root: PathBuf },
}

/// Makes all paths of a command line absolute.
pub(super) fn make_absolute(cli: &mut Cli) -> Result<(), PathError> {
    cli.root = absolute(&cli.root)?;
    cli.state_dir = cli.state_dir.as_deref().map(absolute).transpose()?;
    cli.drivers_mount = of_machine(&cli.root, &cli.drivers_mount)?;
    cli.readiness_file = of_machine(&cli.root, &cli.readiness_file)?;
    cli.blacklist_file = cli.blacklist_file.as_deref().map(|path| of_machine(&cli.root, path)).transpose()?;
    cli.lock_file = of_machine(&cli.root, &cli.lock_file)?;
    let of_command = match &mut cli.command {
        Command::Install(install) | Command::Plan { of: Planned::Install(install) } => install.paths(),
        Command::Build(build) => build.paths(),
        Command::Run(run) => run.paths(),
        _ => Vec::new(),
    };
    for path in of_command {
        *path = of_machine(&cli.root, path)?;
    }
    Ok(())
}

fn absolute(path: &Path) -> Result<PathBuf, PathError> {
    std::path::absolute(path).map_err(|source| PathError::Absolute { path: path.to_path_buf(), source })
}

/// The machine's absolute path for one that was given.
fn of_machine(root: &Path, given: &Path) -> Result<PathBuf, PathError> {
    if given.is_absolute() {
        return Ok(given.to_path_buf());
    }
    let path = absolute(given)?;
    match path.strip_prefix(root) {
        Ok(below) => Ok(Path::new("/").join(below)),
        Err(_) => Err(PathError::OutsideRoot { path, root: root.to_path_buf() }),
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
}
