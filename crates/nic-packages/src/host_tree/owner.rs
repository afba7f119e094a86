//! Whose modules in the host's tree are of which no note of ours tells.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nic_host::{CommandError, HOST_MOUNT, Host, Invocation, ListError};
use walkdir::WalkDir;

/// Where the host's package database may lie, of what a container is given of the host.
const DATABASES: [&str; 3] = ["usr/lib/sysimage/rpm", "usr/share/rpm", "var/lib/rpm"];
/// In what form: SQLite, Berkeley DB, NDB.
const DATABASE_FILES: [&str; 3] = ["rpmdb.sqlite", "Packages", "Packages.db"];
/// What a driver that was installed on the host itself has there, and the incumbent does not leave.
const TRACES: [&str; 3] =
    ["etc/infiniband/openib.conf", "etc/init.d/openibd", "usr/lib/systemd/system/openibd.service"];
const CONFIGURATION_OF_DEPMOD: &str = "etc/depmod.d";
const QUERY_DEADLINE: Duration = Duration::from_secs(120);

/// Whose a folder of modules on the host is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostFolderOwner {
    /// Nobody is known to whom it belongs.
    Unknown,
    /// A package that is installed on the host.
    Package(String),
    /// The package database cannot be seen, and a driver seems to be installed on the host: it has this file.
    Installation(PathBuf),
}

impl fmt::Display for HostFolderOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("nothing tells who has put it there"),
            Self::Package(package) => write!(f, "it belongs to the host's package {package}"),
            Self::Installation(trace) => {
                write!(f, "a driver is installed on the host itself, which has {}", trace.display())
            }
        }
    }
}

/// It cannot be told whose a folder is.
#[derive(Debug, thiserror::Error)]
pub enum OwnerError {
    /// The host's package database cannot be asked.
    #[error("cannot ask the host's package database")]
    Query(#[from] CommandError),
    /// The folder cannot be searched.
    #[error("cannot search the folder")]
    Search(#[from] walkdir::Error),
    /// The configuration of the host's depmod cannot be listed.
    #[error(transparent)]
    List(#[from] ListError),
}

/// Asks the host's package database for the files in `folder`, a path below [`HOST_MOUNT`]. A container is not always given the
/// database: then it is looked for traces of an installation.
pub(super) async fn owner(host: &Host, folder: &Path, name: &str) -> Result<HostFolderOwner, OwnerError> {
    let Some(database) = database(host) else { return Ok(trace(host, name)?) };
    let mut paths = Vec::new();
    for entry in WalkDir::new(host.path(folder)).sort_by_file_name() {
        let entry = entry?;
        if let Ok(below) = entry.path().strip_prefix(host.path(folder))
            && let Ok(folder) = folder.strip_prefix(HOST_MOUNT)
            && !entry.file_type().is_dir()
        {
            // A package has noted one of the two names of the folder.
            paths.extend(["/", "/usr"].map(|root| Path::new(root).join(folder).join(below)));
        }
    }
    if paths.is_empty() {
        return Ok(HostFolderOwner::Unknown);
    }
    let query = Invocation::new("rpm")
        .arg("--dbpath")
        .arg(database)
        .args(["-q", "--qf", r"%{NAME}-%{VERSION}-%{RELEASE}\n", "-f"])
        .args(&paths)
        .deadline(QUERY_DEADLINE);
    let answer = host.run_to_end(&query).await?;
    // The exit code is that of the last file, or a count, by the version of rpm: the lines tell.
    if let Some(package) = answer.stdout.lines().find(|line| !line.trim().is_empty() && !is_absence(line)) {
        return Ok(HostFolderOwner::Package(package.trim().to_owned()));
    }
    let complaints =
        answer.stderr.lines().filter(|line| !line.trim().is_empty() && !line.starts_with("warning: "));
    let explained = answer.stdout.lines().chain(answer.stderr.lines()).any(is_absence);
    if explained && complaints.clone().all(is_absence) {
        return Ok(HostFolderOwner::Unknown);
    }
    Err(OwnerError::Query(CommandError::Failed {
        command: query.to_string(),
        code: answer.code,
        last_words: answer.last_words(),
    }))
}

fn database(host: &Host) -> Option<PathBuf> {
    let folders = DATABASES.map(|folder| Path::new(HOST_MOUNT).join(folder));
    folders
        .into_iter()
        .find(|folder| DATABASE_FILES.iter().any(|file| host.path(folder.join(file)).is_file()))
}

/// `file … is not owned by any package`; `error: file …: No such file or directory` where the container has no such file.
fn is_absence(line: &str) -> bool {
    (line.starts_with("file ") && line.ends_with(" is not owned by any package"))
        || (line.starts_with("error: file ") && line.ends_with(": No such file or directory"))
}

fn trace(host: &Host, name: &str) -> Result<HostFolderOwner, ListError> {
    let configuration = Path::new(HOST_MOUNT).join(CONFIGURATION_OF_DEPMOD);
    let of_depmod = host.list_if_exists(&configuration)?.into_iter().filter(|file| file.contains(name));
    let trace = TRACES
        .map(|trace| Path::new(HOST_MOUNT).join(trace))
        .into_iter()
        .filter(|trace| host.exists(trace))
        .chain(of_depmod.map(|file| configuration.join(file)))
        .next();
    Ok(trace.map_or(HostFolderOwner::Unknown, HostFolderOwner::Installation))
}
