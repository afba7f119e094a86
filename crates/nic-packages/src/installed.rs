use nic_host::{CommandError, Foreign, Host, Invocation, ReadError};
use serde::{Deserialize, Serialize};

use crate::PackageFormat;
use crate::rpm_header::with_epoch;

/// A package that the machine's package database lists as installed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstalledPackage {
    /// Its name.
    pub name: String,
    /// Its version, in the form of [`crate::PackageFile::version`].
    pub version: String,
    /// Its architecture, in the package manager's words.
    pub architecture: String,
    /// Whether it is wholly installed. dpkg also knows half installed, unpacked and half configured packages.
    pub complete: bool,
}

/// The package database could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum InstalledError {
    /// The query failed, for another reason than that a package is not installed.
    #[error("cannot ask which packages are installed")]
    Query(#[from] CommandError),
    /// DKMS could not be asked.
    #[error("cannot ask DKMS which modules it knows")]
    Dkms(#[source] CommandError),
    /// Where the sources of modules for DKMS lie could not be told.
    #[error("cannot tell whose sources DKMS knows")]
    DkmsSources(#[source] ReadError),
    /// The query's output is not what was asked for.
    #[error("`{command}` printed {}, which is no record of a package", Foreign(line))]
    Record {
        /// The command line.
        command: String,
        /// The line.
        line: String,
    },
}

/// Which of the packages of these names are installed. One name can have several versions at once with rpm.
pub async fn installed<N: AsRef<str>>(
    host: &Host,
    format: PackageFormat,
    names: impl IntoIterator<Item = N>,
) -> Result<Vec<InstalledPackage>, InstalledError> {
    let names: Vec<String> = names.into_iter().map(|name| name.as_ref().to_owned()).collect();
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let query = match format {
        PackageFormat::Rpm => Invocation::new("rpm").args([
            "-q",
            "--qf",
            r"%{NAME}\t%{EPOCHNUM}\t%{VERSION}-%{RELEASE}\t%{ARCH}\n",
        ]),
        PackageFormat::Deb => Invocation::new("dpkg-query").args([
            "-W",
            "-f",
            r"${Package}\t${Version}\t${Architecture}\t${db:Status-Abbrev}\n",
        ]),
    }
    // What follows is no option, whatever it looks like.
    .arg("--")
    .args(&names);
    let captured = host.run_to_end(&query).await?;
    // Both exit with a code other than 0 when one of the packages is not installed, and also when the database
    // cannot be read. Only where absence is all they complain of, all is well.
    let (absences, records): (Vec<&str>, Vec<&str>) =
        lines(&captured.stdout).partition(|line| is_absence(format, line));
    let (more_absences, complaints): (Vec<&str>, Vec<&str>) =
        lines(&captured.stderr).partition(|line| is_absence(format, line));
    let (warnings, complaints): (Vec<&str>, Vec<&str>) =
        complaints.into_iter().partition(|line| captured.is_success() || is_warning(line));
    let explained = !absences.is_empty() || !more_absences.is_empty();
    if !captured.is_success() && (!explained || !complaints.is_empty()) {
        return Err(InstalledError::Query(CommandError::Failed {
            command: query.to_string(),
            code: captured.code,
            last_words: captured.last_words(),
        }));
    }
    for warning in warnings {
        tracing::warn!(command = %query, warning, "the package database was read, with a warning");
    }
    let mut packages = Vec::new();
    for line in records {
        let record = parse_record(format, line)
            .ok_or_else(|| InstalledError::Record { command: query.to_string(), line: line.to_owned() })?;
        packages.extend(record);
    }
    Ok(packages)
}

fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| !line.trim().is_empty())
}

fn is_warning(line: &str) -> bool {
    line.starts_with("warning: ") || line.starts_with("dpkg-query: warning: ")
}

/// `package NAME is not installed` (rpm's lib/query.c), `dpkg-query: no packages found matching NAME`.
fn is_absence(format: PackageFormat, line: &str) -> bool {
    match format {
        PackageFormat::Rpm => line.starts_with("package ") && line.ends_with(" is not installed"),
        PackageFormat::Deb => line.starts_with("dpkg-query: no packages found matching "),
    }
}

/// One line of the query: `None` if it is none, `Some(None)` for what dpkg knows, but of which nothing is on the
/// machine except perhaps its configuration.
fn parse_record(format: PackageFormat, line: &str) -> Option<Option<InstalledPackage>> {
    let fields: Vec<&str> = line.split('\t').collect();
    let (name, version, architecture, complete) = match (format, fields.as_slice()) {
        (PackageFormat::Rpm, [name, epoch, version_release, architecture]) => {
            (name, with_epoch(epoch.parse().ok()?, version_release), architecture, true)
        }
        (PackageFormat::Deb, [name, version, architecture, status]) => {
            // dpkg-query(1), db:Status-Abbrev: the desired state, then the state: n(ot installed), c(onfig-files),
            // half installed and so on, i(nstalled).
            match status.chars().nth(1)? {
                'n' | 'c' => return Some(None),
                state => (name, (*version).to_owned(), architecture, state == 'i'),
            }
        }
        _ => return None,
    };
    Some(Some(InstalledPackage {
        name: (*name).to_owned(),
        version,
        architecture: (*architecture).to_owned(),
        complete,
    }))
}
