use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nic_host::{CommandError, Host, Invocation, KernelRelease, ReadError, WriteError};
use serde::Serialize;

use super::module::{DkmsModule, DkmsState, DkmsStatus, status};
use super::sources::{DkmsSource, FindSourcesError};
use super::systemctl::SystemctlStub;

/// The driver's modules take minutes, on a small machine many.
const BUILD_DEADLINE: Duration = Duration::from_secs(60 * 60);

/// What is asked of DKMS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DkmsExtent {
    /// To know the sources. The modules for this kernel come from the build sidecar.
    AddOnly,
    /// To build and install modules for the running kernel.
    Install,
}

/// What of the machine decides what DKMS is to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DkmsFacts {
    /// The sources.
    pub sources: Vec<DkmsSource>,
    /// Those of them that DKMS does not find under their name.
    pub unnamed: Vec<DkmsModule>,
    /// What DKMS knows.
    pub status: Vec<DkmsStatus>,
    /// Whether the kernel's headers are there, which a build needs.
    pub has_headers: bool,
}

/// The steps that register sources with DKMS, and build and install modules from them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DkmsPlan {
    /// The steps, in order. What DKMS has done already is not done again.
    pub steps: Vec<DkmsStep>,
    /// The folders of the sources, for [`crate::InstallRecord::dkms_sources`], so that a removal takes them out again.
    pub sources: Vec<PathBuf>,
    kernel: KernelRelease,
    extent: DkmsExtent,
    modules: Vec<DkmsModule>,
}

/// One step of a registration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "step")]
pub enum DkmsStep {
    /// Make the link by which DKMS finds sources that lie elsewhere.
    Link {
        /// The link.
        link: PathBuf,
        /// The folder of the sources.
        target: PathBuf,
    },
    /// Register sources.
    Add {
        /// The modules.
        module: DkmsModule,
    },
    /// Build modules.
    Build {
        /// The modules.
        module: DkmsModule,
        /// The kernel.
        kernel: KernelRelease,
    },
    /// Put modules into the kernel's tree.
    Install {
        /// The modules.
        module: DkmsModule,
        /// The kernel.
        kernel: KernelRelease,
    },
}

/// DKMS could not be given the modules.
#[derive(Debug, thiserror::Error)]
pub enum DkmsError {
    /// There is no program `dkms`.
    #[error("modules are to be registered with DKMS, and there is no program dkms")]
    NoProgram,
    /// There are no sources.
    #[error(transparent)]
    Sources(#[from] FindSourcesError),
    /// A link could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// DKMS does not say what it knows.
    #[error("cannot ask DKMS which modules it knows")]
    Status(#[source] CommandError),
    /// Modules are to be built, and the kernel's headers are missing.
    #[error("DKMS cannot build {module}: there is no {}", headers.display())]
    NoHeaders {
        /// The modules.
        module: DkmsModule,
        /// Where the headers should be.
        headers: PathBuf,
    },
    /// A link to sources could not be made.
    #[error("cannot let DKMS find its sources")]
    Link(#[source] WriteError),
    /// A step's command failed.
    #[error("cannot {step}{}", if log.is_empty() { String::new() } else { format!("; the end of its build log:\n{log}") })]
    Step {
        /// The step.
        step: Box<DkmsStep>,
        /// The end of the build's log, where the step was a build that has one.
        log: String,
        /// How the command failed.
        #[source]
        source: CommandError,
    },
    /// DKMS reported success, and does not have the modules.
    #[error("dkms reported success, and yet {module} is not {wanted:?} for {kernel}")]
    NotDone {
        /// The modules.
        module: DkmsModule,
        /// How far it should have got.
        wanted: DkmsState,
        /// The kernel.
        kernel: KernelRelease,
    },
}

impl DkmsFacts {
    /// Looks for sources and at what DKMS knows. `recorded` are the folders of sources that installed packages brought;
    /// without any, see [`DkmsSource::find`].
    ///
    /// # Errors
    /// There is no DKMS, there are no sources, or one of them cannot be asked.
    pub async fn observe(
        host: &Host,
        kernel: &KernelRelease,
        recorded: &[PathBuf],
    ) -> Result<Self, DkmsError> {
        if host.find_program("dkms").is_none() {
            return Err(DkmsError::NoProgram);
        }
        let sources = DkmsSource::find(host, recorded)?;
        let mut unnamed = Vec::new();
        for source in &sources {
            if !source.is_found_by_name(host)? {
                unnamed.push(source.module.clone());
            }
        }
        let status = status(host).await.map_err(DkmsError::Status)?;
        Ok(Self { sources, unnamed, status, has_headers: host.path(headers(kernel)).exists() })
    }

    /// How far DKMS has got with these modules for this kernel.
    fn state(&self, module: &DkmsModule, kernel: &KernelRelease) -> Option<DkmsState> {
        let of_module = self.status.iter().filter(|line| line.module == *module);
        // What is built for another kernel is known, and no more than that for this one.
        of_module
            .map(|line| match line.kernel.as_deref() == Some(kernel.as_str()) {
                true => line.state,
                false => DkmsState::Added,
            })
            .max()
    }
}

impl DkmsPlan {
    /// Decides what DKMS is to do.
    ///
    /// # Errors
    /// Something is to be built, and there are no headers.
    pub fn new(kernel: &KernelRelease, extent: DkmsExtent, facts: &DkmsFacts) -> Result<Self, DkmsError> {
        let mut steps = Vec::new();
        for source in &facts.sources {
            let (module, kernel) = (source.module.clone(), kernel.clone());
            let state = facts.state(&module, &kernel);
            let has_reached = |wanted| state >= Some(wanted);
            if facts.unnamed.contains(&module) {
                steps.push(DkmsStep::Link { link: module.source_folder(), target: source.folder.clone() });
            }
            if !has_reached(DkmsState::Added) {
                steps.push(DkmsStep::Add { module: module.clone() });
            }
            if extent == DkmsExtent::AddOnly {
                continue;
            }
            if !has_reached(DkmsState::Built) {
                if !facts.has_headers {
                    return Err(DkmsError::NoHeaders { module, headers: headers(&kernel) });
                }
                steps.push(DkmsStep::Build { module: module.clone(), kernel: kernel.clone() });
            }
            if !has_reached(DkmsState::Installed) {
                steps.push(DkmsStep::Install { module, kernel });
            }
        }
        Ok(Self {
            steps,
            sources: facts.sources.iter().map(|source| source.folder.clone()).collect(),
            kernel: kernel.clone(),
            extent,
            modules: facts.sources.iter().map(|source| source.module.clone()).collect(),
        })
    }

    /// Carries out the steps in order, stops at the first that fails, and then asks DKMS whether it has what was asked for.
    ///
    /// # Errors
    /// A step failed, or was not done whatever DKMS said.
    pub async fn apply(&self, host: &Host) -> Result<(), DkmsError> {
        for step in &self.steps {
            tracing::info!("{step}");
            match step.invocation() {
                None => step.make_link(host).map_err(DkmsError::Link)?,
                Some(invocation) => {
                    host.run(&invocation).await.map_err(|source| DkmsError::Step {
                        log: step.log(host),
                        step: Box::new(step.clone()),
                        source,
                    })?;
                }
            }
        }
        if self.steps.is_empty() {
            return Ok(());
        }
        let status = status(host).await.map_err(DkmsError::Status)?;
        let facts = DkmsFacts { sources: Vec::new(), unnamed: Vec::new(), status, has_headers: true };
        let wanted = match self.extent {
            DkmsExtent::AddOnly => DkmsState::Added,
            DkmsExtent::Install => DkmsState::Installed,
        };
        let missing = self.modules.iter().find(|module| facts.state(module, &self.kernel) < Some(wanted));
        missing.map_or(Ok(()), |module| {
            Err(DkmsError::NotDone { module: module.clone(), wanted, kernel: self.kernel.clone() })
        })
    }
}

fn headers(kernel: &KernelRelease) -> PathBuf {
    Path::new("/lib/modules").join(kernel.as_str()).join("build")
}

impl DkmsStep {
    /// The command that carries it out; `None` for a step that is none.
    #[must_use]
    pub fn invocation(&self) -> Option<Invocation> {
        let invocation = match self {
            Self::Link { .. } => return None,
            Self::Add { module } => module.command("add"),
            Self::Build { module, kernel } => {
                module.command("build").args(["-k", kernel.as_str()]).deadline(BUILD_DEADLINE)
            }
            Self::Install { module, kernel } => module.command("install").args(["-k", kernel.as_str()]),
        };
        Some(invocation.env("PATH", SystemctlStub::search_path()))
    }

    fn make_link(&self, host: &Host) -> Result<(), WriteError> {
        let Self::Link { link, target } = self else { return Ok(()) };
        // A dangling link is left behind by packages of another version that were removed.
        if host.path(link).is_symlink() && !host.path(link).exists() {
            host.remove_file(link)?;
        }
        host.make_link(link, target)
    }

    /// The end of a build's log, in which the compiler's words are.
    fn log(&self, host: &Host) -> String {
        let (Self::Build { module, .. }, Some(invocation)) = (self, self.invocation()) else {
            return String::new();
        };
        let path = Path::new("/var/lib/dkms").join(&module.name).join(&module.version).join("build/make.log");
        match host.read_bytes(&path) {
            Ok(bytes) => {
                let text = host.hide_secrets(&invocation, &String::from_utf8_lossy(&bytes));
                let lines: Vec<&str> = text.trim_end().lines().collect();
                lines.iter().skip(lines.len().saturating_sub(20)).copied().collect::<Vec<_>>().join("\n")
            }
            Err(error) => {
                tracing::debug!(error = nic_host::error_chain(&error), "there is no log of DKMS's build");
                String::new()
            }
        }
    }
}

/// What the step does, to stand behind "cannot".
impl fmt::Display for DkmsStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Link { link, target } => {
                write!(f, "make {} a link to {}", link.display(), target.display())
            }
            Self::Add { module } => write!(f, "register {module} with DKMS"),
            Self::Build { module, kernel } => write!(f, "build {module} with DKMS for {kernel}"),
            Self::Install { module, kernel } => write!(f, "install {module} with DKMS for {kernel}"),
        }
    }
}

/// One line a step: what it does, and the command.
impl fmt::Display for DkmsPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.steps.iter().try_for_each(|step| match step.invocation() {
            Some(invocation) => writeln!(f, "{step}: {invocation}"),
            None => writeln!(f, "{step}"),
        })
    }
}
