use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nic_host::{DriverVersion, Foreign, Host, KernelRelease};

use super::build_config::BuildKey;
use super::checksums::Checksums;
use super::incumbent::{self, Verdict};
use super::plain_files::{self, PlainFile};

/// The place of one build in the inventory. All paths are the host's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InventoryEntry {
    /// The folder of all builds for the kernel.
    pub kernel_folder: PathBuf,
    /// The folder of the package files.
    pub folder: PathBuf,
    /// The file with their SHA-256 and what went into the build.
    pub sha256: PathBuf,
    /// The file with the incumbent's checksum. An entry without it is not whole: it is written last and removed first.
    pub checksum: PathBuf,
    /// The file that says with which settings they were built.
    pub build_config: PathBuf,
    /// The inventory, as it was given.
    inventory: PathBuf,
    version: DriverVersion,
}

/// What the inventory holds of a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stored {
    /// Nothing.
    Absent,
    /// Something that must not be used.
    Outdated(Outdated),
    /// Packages that are whole, and built with what was asked for.
    Valid {
        /// The files, by name.
        packages: Vec<StoredPackage>,
        /// By what they were verified.
        trust: Trust,
    },
}

/// A stored file as it was when it was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredPackage {
    /// Where it is, as a path of the host.
    pub path: PathBuf,
    /// Its SHA-256, in hexadecimal digits.
    pub sha256: String,
}

/// By what stored packages were verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// The SHA-256 of each, and everything that went into the build.
    Sha256,
    /// The incumbent's checksum and settings. Of the compiler and the sources nothing is known but the driver's version.
    Incumbent,
}

impl fmt::Display for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sha256 => "the SHA-256 of each file",
            Self::Incumbent => "the checksum of the earlier entrypoint",
        })
    }
}

/// Why what is stored must not be used. Displayed, it is the reason behind "the packages are built anew:".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Outdated {
    /// A file is missing, so the entry was not stored to the end.
    #[error("{} is missing", path.display())]
    Missing {
        /// The file that is missing.
        path: PathBuf,
    },
    /// The folder is empty.
    #[error("{} is empty", folder.display())]
    Empty {
        /// The folder of the packages.
        folder: PathBuf,
    },
    /// Something cannot be read, or is no file where one is expected, or no folder.
    #[error("the entry cannot be used: {reason}")]
    Unreadable {
        /// What is wrong, with the path.
        reason: String,
    },
    /// The packages are not the files that were stored.
    #[error("the files in {} are not those of its checksum: {difference}", folder.display())]
    Checksum {
        /// The folder of the packages.
        folder: PathBuf,
        /// The first difference.
        difference: String,
    },
    /// They were built with other settings.
    #[error("the packages were built with {}, and now {} is asked for", Foreign(stored), Foreign(wanted))]
    Settings {
        /// What is stored.
        stored: String,
        /// What is asked for.
        wanted: String,
    },
    /// They were built from other sources, by another compiler, with other flags or for another kernel.
    #[error("the packages were built with {}, and now it is {}", Foreign(stored), Foreign(wanted))]
    Input {
        /// The first line that differs, as stored; empty where there is none.
        stored: String,
        /// The line as it is now.
        wanted: String,
    },
}

/// It cannot be told whether something is stored: building could mix two builds, and cleaning up could fail the same way.
#[derive(Debug, thiserror::Error)]
#[error("cannot tell whether there is {}", path.display())]
pub struct LookUpError {
    /// The path as this process sees it.
    pub path: PathBuf,
    /// What the kernel said.
    #[source]
    pub source: io::Error,
}

impl InventoryEntry {
    pub(super) fn new(inventory: &Path, kernel: &KernelRelease, version: &DriverVersion) -> Self {
        let kernel_folder = inventory.join(kernel.as_str());
        Self {
            sha256: kernel_folder.join(format!("{version}.sha256")),
            checksum: kernel_folder.join(format!("{version}.checksum")),
            build_config: kernel_folder.join(format!("{version}.buildconfig")),
            folder: kernel_folder.join(version.as_str()),
            kernel_folder,
            inventory: inventory.to_path_buf(),
            version: version.clone(),
        }
    }

    /// Where packages lie while they are being stored.
    pub(super) fn unfinished(&self) -> PathBuf {
        self.kernel_folder.join(format!(".{}.partial", self.version))
    }

    /// Whether a name in the kernel's folder is that of something which was being written for this entry.
    pub(super) fn is_unfinished(&self, name: &str) -> bool {
        name.strip_prefix('.')
            .and_then(|rest| rest.strip_prefix(self.version.as_str()))
            .is_some_and(|rest| rest.starts_with('.'))
    }

    /// What belongs to it, in the order in which it is taken away: what makes it whole goes first.
    pub(super) fn parts(&self) -> [&Path; 4] {
        [&self.checksum, &self.sha256, &self.build_config, &self.folder]
    }

    /// Whether packages are stored here, whole, and built with what `key` says.
    ///
    /// What the incumbent has stored is taken where its checksum and its settings are right. What this program has stored
    /// is not taken by the incumbent's checksum alone, unless the incumbent has replaced the files since.
    ///
    /// What is found may be replaced or gone the next moment: [`crate::TemporaryPackages::take`] makes it the caller's.
    ///
    /// # Errors
    /// Only where it cannot be told whether a part of it exists. Whatever else is wrong makes it outdated.
    pub fn look_up(&self, host: &Host, key: &BuildKey) -> Result<Stored, LookUpError> {
        if !is_there(&host.path(&self.folder))? {
            return Ok(Stored::Absent);
        }
        for path in [&self.checksum, &self.build_config] {
            if !is_there(&host.path(path))? {
                return Ok(Stored::Outdated(Outdated::Missing { path: path.clone() }));
            }
        }
        let has_sha256 = is_there(&host.path(&self.sha256))?;
        Ok(match self.verify(host, key, has_sha256) {
            Ok((packages, trust)) => Stored::Valid { packages, trust },
            Err(outdated) => Stored::Outdated(outdated),
        })
    }

    fn verify(
        &self,
        host: &Host,
        key: &BuildKey,
        has_sha256: bool,
    ) -> Result<(Vec<StoredPackage>, Trust), Outdated> {
        let settings = read(&host.path(&self.build_config))?;
        if !key.settings.is_text(&settings) {
            return Err(Outdated::Settings {
                stored: settings.trim().to_owned(),
                wanted: key.settings.to_string().trim().to_owned(),
            });
        }
        let mut found =
            plain_files::read(&host.path(&self.folder)).map_err(|reason| Outdated::Unreadable { reason })?;
        if found.is_empty() {
            return Err(Outdated::Empty { folder: self.folder.clone() });
        }
        let differs = |difference| Outdated::Checksum { folder: self.folder.clone(), difference };
        let noted = read(&host.path(&self.checksum))?;
        let by_incumbent = || incumbent::compare(&noted, &self.spellings(host), &found);
        let trust = if has_sha256 {
            let text = read(&host.path(&self.sha256))?;
            let Some(checksums) = Checksums::parse(&text) else {
                return Err(Outdated::Unreadable {
                    reason: format!("{} is damaged", host.path(&self.sha256).display()),
                });
            };
            match checksums.difference(&found) {
                None => {
                    same_inputs(&checksums.inputs, &key.inputs.to_string())?;
                    Trust::Sha256
                }
                // The incumbent does not touch this file when it stores another build.
                Some(_) if by_incumbent() == Verdict::Same => Trust::Incumbent,
                Some(difference) => return Err(differs(difference)),
            }
        } else {
            match by_incumbent() {
                Verdict::Same => Trust::Incumbent,
                Verdict::Different => return Err(differs("their MD5 differs".to_owned())),
                Verdict::Undecided => {
                    return Err(differs(format!(
                        "their MD5 differs in the orders in which {} files are usually listed",
                        found.len()
                    )));
                }
            }
        };
        found.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        let stored =
            |file: PlainFile| StoredPackage { path: self.folder.join(file.name), sha256: file.sha256 };
        Ok((found.into_iter().map(stored).collect(), trust))
    }

    /// The texts by which a program may have named the folder to `find`: a path that was given with a slash at its end has
    /// two in the middle where texts are put together, and one where paths are.
    fn spellings(&self, host: &Host) -> Vec<String> {
        let folder: PathBuf = host.path(&self.folder).components().collect();
        let mut spellings = vec![folder.display().to_string()];
        if self.inventory.as_os_str().as_encoded_bytes().ends_with(b"/")
            && let Ok(below) = self.folder.strip_prefix(&self.inventory)
        {
            let inventory: PathBuf = host.path(&self.inventory).components().collect();
            spellings.push(format!("{}//{}", inventory.display(), below.display()));
        }
        spellings
    }
}

/// Whether something is at the path. A folder above it that is missing means that nothing is.
fn is_there(path: &Path) -> Result<bool, LookUpError> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(LookUpError { path: path.to_path_buf(), source }),
    }
}

fn read(path: &Path) -> Result<String, Outdated> {
    let is_file = fs::symlink_metadata(path).map(|metadata| metadata.is_file());
    match is_file.and_then(|is_file| if is_file { fs::read_to_string(path).map(Some) } else { Ok(None) }) {
        Ok(Some(text)) => Ok(text),
        Ok(None) => Err(Outdated::Unreadable { reason: format!("{} is no regular file", path.display()) }),
        Err(error) => Err(Outdated::Unreadable { reason: format!("{}: {error}", path.display()) }),
    }
}

fn same_inputs(stored: &str, wanted: &str) -> Result<(), Outdated> {
    if stored == wanted {
        return Ok(());
    }
    let mut stored = stored.lines();
    let different = wanted.lines().map(|wanted| (stored.next().unwrap_or_default(), wanted));
    let (stored, wanted) = different
        .into_iter()
        .find(|(stored, wanted)| stored != wanted)
        .unwrap_or(("more than that", "no more than that"));
    Err(Outdated::Input { stored: stored.to_owned(), wanted: wanted.to_owned() })
}
