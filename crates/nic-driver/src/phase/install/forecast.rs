//! `plan install`: what `install` would run on this node, in order, each command with its environment and what it is for. Nothing is
//! changed.

use std::fmt;
use std::path::{Path, PathBuf};

use nic_build::{
    OnFailure, Plan, PlannedCommand, Step, Stored, Variable, certificates, fips, install_pl_with,
};
use nic_dtk::{BuildRequest, install_arguments};
use nic_host::Invocation;
use nic_packages::{
    DkmsExtent, DkmsModule, DkmsStep, HostTree, InstallPlan, InstallState, InstallStep, PackageFormat,
    PackageSet,
};
use serde::Serialize;

use super::dkms::{NOT_IN_HOST_TREE, misses_host_tree};
use super::job::{Builder, Job, ObservedNode};
use super::put::read_set;
use super::request::{InstallRequest, PackageOrigin};
use crate::context::Context;
use crate::default_paths;
use crate::phase::error::PhaseError;
use crate::phase::obtain_error::ObtainError;
use crate::phase::package_error::PackageError;

/// In the place of packages that are not there yet.
const PACKAGES: &str = "PACKAGES";
/// In the place of what the sources of packages that are not there yet are called.
const SOURCES: (&str, &str) = ("NAME", "VERSION");

/// What an installation would do, part by part.
#[derive(Debug, Clone, Serialize)]
pub struct InstallForecast {
    /// The parts, in order.
    pub parts: Vec<ForecastPart>,
}

/// A part of what an installation would do.
#[derive(Debug, Clone, Serialize)]
pub struct ForecastPart {
    /// Its name.
    pub part: &'static str,
    /// What is run, and what is to be said about it.
    #[serde(flatten)]
    pub plan: Plan,
}

/// A heading and a paragraph for each part that has something in it.
impl fmt::Display for InstallForecast {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, part) in self.parts.iter().enumerate() {
            let above = if place == 0 { "" } else { "\n" };
            write!(f, "{above}== {} ==\n{}", part.part, part.plan)?;
        }
        Ok(())
    }
}

/// What `install` would do now.
pub async fn plan_install(
    context: &Context,
    request: &InstallRequest,
) -> Result<InstallForecast, PhaseError> {
    let mut forecast = Forecast { context, request, parts: Vec::new() };
    match &request.origin {
        PackageOrigin::Folder(folder) => {
            let set = read_set(context, folder, &context.kernel)?;
            forecast.installation(&set).await?;
        }
        PackageOrigin::Precompiled => {
            let observed = ObservedNode::read(&context.host, None)?;
            forecast.start(&observed);
            forecast.image();
        }
        PackageOrigin::Sources(_) | PackageOrigin::Sidecar { .. } => {
            if let Some(job) = Job::open(&context.host, request, None)? {
                forecast.start(&job.observed);
                forecast.packages(&job).await?;
            }
        }
    }
    if request.use_dkms {
        forecast.dkms()?;
    }
    Ok(InstallForecast { parts: forecast.parts })
}

/// The packages as they are installed: from copies of this container's own.
fn own_copy(mut set: PackageSet) -> PackageSet {
    set.folder = PathBuf::from(default_paths::TEMPORARY_PACKAGES);
    for package in &mut set.packages {
        if let Some(name) = package.path.file_name() {
            package.path = set.folder.join(name);
        }
    }
    set
}

struct Forecast<'a> {
    context: &'a Context,
    request: &'a InstallRequest,
    parts: Vec<ForecastPart>,
}

impl Forecast<'_> {
    fn add(&mut self, part: &'static str, plan: Plan) {
        if plan != Plan::default() {
            self.parts.push(ForecastPart { part, plan });
        }
    }

    fn start(&mut self, observed: &ObservedNode) {
        let (node, facts) = (&observed.node, &observed.start);
        let environment = self.request.proxies.environment();
        self.add("certificates", certificates(node, facts).with_environment(environment));
        let fips = fips(node, facts, self.request.token.as_ref());
        self.add("FIPS", fips.with_environment(environment));
    }

    /// The packages, from wherever they are had the soonest.
    async fn packages(&mut self, job: &Job) -> Result<(), PhaseError> {
        let (note, stored) = self.stored(job)?;
        self.add("inventory", Plan { notes: vec![note], steps: Vec::new() });
        let preparation = job.preparation(job.work(stored)).map_err(ObtainError::from)?;
        if let Builder::Here = job.builder {
            self.add("compiler", preparation.compiler);
            self.add("prerequisites", preparation.prerequisites);
            let build = preparation.build.into_iter().map(Step::Run).collect();
            self.add("build", Plan { notes: Vec::new(), steps: build });
        }
        if let (Builder::Sidecar(request), false) = (&job.builder, stored) {
            self.handshake(request)?;
        }
        match &job.entry {
            Some(entry) if stored => {
                let set = read_set(self.context, &entry.folder, &self.context.kernel)?;
                self.installation(&own_copy(set)).await
            }
            _ => self.installation_of_unknown(job),
        }
    }

    fn stored(&self, job: &Job) -> Result<(String, bool), PhaseError> {
        let Some(entry) = &job.entry else {
            return Ok(("no inventory is given: packages are built at each start".to_owned(), false));
        };
        let folder = entry.folder.display();
        let key = job.key(&self.context.host)?;
        Ok(match entry.look_up(&self.context.host, &key).map_err(ObtainError::from)? {
            Stored::Valid { packages, trust } => {
                match read_set(self.context, &entry.folder, &self.context.kernel) {
                    Ok(_) => {
                        let count = packages.len();
                        let own = default_paths::TEMPORARY_PACKAGES;
                        let used = format!(
                            "{count} packages in {folder} are used, verified by {trust}, from copies in {own}"
                        );
                        (used, true)
                    }
                    Err(error) if error.is_of_packages() => {
                        (format!("the packages are built anew: {}", crate::error_chain(&error)), false)
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            Stored::Absent => {
                (format!("there are no packages in {folder}: what is built is stored there"), false)
            }
            Stored::Outdated(outdated) => {
                (format!("the packages are built anew: {}", crate::error_chain(&outdated)), false)
            }
        })
    }

    fn handshake(&mut self, request: &BuildRequest) -> Result<(), ObtainError> {
        let folder = request.folder.path().display();
        let env = request.env();
        let mut notes = vec![
            format!(
                "the sources, {} as `entrypoint`, and what follows are put into {folder}; last the start flag",
                request.entrypoint.display()
            ),
            format!("the done flag is waited for: {}", env.done_flag.display()),
        ];
        notes.extend(env.render().lines().map(|line| format!("dtk.env: {line}")));
        self.add("build sidecar", Plan { notes, steps: Vec::new() });
        let sources = request.folder.sources(&request.version);
        let install_pl = install_pl_with(&sources, install_arguments(&env)?);
        let mut plan = nic_sidecar::sidecar_prerequisites(nic_dtk::prerequisites());
        plan.steps.push(install_pl.into());
        self.add("what the sidecar runs", plan);
        Ok(())
    }

    /// What is run for packages that are known.
    async fn installation(&mut self, set: &PackageSet) -> Result<(), PhaseError> {
        let (context, mut notes) = (self.context, Vec::new());
        let state = if context.host.is_running_machine() {
            InstallState::observe(&context.host, set, &context.kernel).await.map_err(PackageError::from)?
        } else {
            notes
                .push("a tree has no package manager to ask: no package is taken to be installed".to_owned());
            self.state_of_tree(set.format)
        };
        let plan = InstallPlan::new(set, &context.kernel, &state);
        if !plan.installs_packages() {
            notes.push("the packages are installed already".to_owned());
        }
        let shown = self.install_steps(&plan.steps, notes);
        self.add("installation", shown);
        self.host_tree()
    }

    fn state_of_tree(&self, format: PackageFormat) -> InstallState {
        let (host, kernel) = (&self.context.host, &self.context.kernel);
        let is_ubuntu = host.os_release().is_ok_and(|os| os.id != "debian") && format == PackageFormat::Deb;
        InstallState {
            installed: Vec::new(),
            missing_modules: std::collections::BTreeSet::new(),
            missing_indexes: ["modules.order", "modules.builtin"]
                .map(|name| Path::new("/lib/modules").join(kernel.as_str()).join(name))
                .into_iter()
                .filter(|path| !host.exists(path))
                .collect(),
            modules_extra: is_ubuntu.then(|| format!("linux-modules-extra-{kernel}")),
        }
    }

    /// What is run for packages that are still to be built, none of which is installed.
    fn installation_of_unknown(&mut self, job: &Job) -> Result<(), PhaseError> {
        let format = job.observed.node.distribution.family().package_format();
        let state = self.state_of_tree(format);
        let mut steps: Vec<InstallStep> = state
            .missing_indexes
            .iter()
            .map(|path| InstallStep::CreateIndex { path: path.clone() })
            .collect();
        let files = vec![PathBuf::from(PACKAGES)];
        match format {
            PackageFormat::Rpm => steps.push(InstallStep::RpmInstall { files }),
            PackageFormat::Deb => {
                if let Some(package) = state.modules_extra {
                    steps.push(InstallStep::AptUpdate);
                    steps.push(InstallStep::FetchModulesExtra { package: package.clone() });
                    steps.push(InstallStep::ModulesExtra { package });
                }
                steps.push(InstallStep::AptInstall { files });
            }
        }
        steps.push(InstallStep::Depmod { kernel: self.context.kernel.clone() });
        let note = format!(
            "{PACKAGES} are those of the build that are not installed; another version of one is replaced, and a damaged one installed \
             again"
        );
        let shown = self.install_steps(&steps, vec![note]);
        self.add("installation", shown);
        self.host_tree()
    }

    /// Steps that are commands become steps, and the others, which come first, notes.
    fn install_steps(&self, steps: &[InstallStep], mut notes: Vec<String>) -> Plan {
        let mut shown = Vec::new();
        for step in steps {
            let on_failure = if step.may_fail() { OnFailure::Warning } else { OnFailure::Fatal };
            match step.invocation() {
                Some(invocation) => shown.push(self.command(step.to_string(), &invocation, on_failure)),
                None => notes.push(format!("before all else: {step}")),
            }
        }
        Plan { notes, steps: shown }
    }

    fn command(&self, purpose: String, invocation: &Invocation, on_failure: OnFailure) -> Step {
        let mut command = PlannedCommand::new(purpose, invocation.shown_words())
            .on_failure(on_failure)
            .deadline(invocation.time_limit());
        let own = invocation.shown_environment();
        command.environment.extend(own.into_iter().map(|(name, value)| Variable::new(name, value)));
        command.with_environment(self.request.proxies.environment()).into()
    }

    fn host_tree(&mut self) -> Result<(), PhaseError> {
        let (host, kernel) = (&self.context.host, &self.context.kernel);
        let Some(tree) = HostTree::find(host, kernel) else { return Ok(()) };
        if tree.wants_modules(host).map_err(PackageError::from)? {
            let note = format!(
                "the modules are copied into /host/lib/modules/{kernel}/extra, from which alone SELinux lets them be loaded"
            );
            let depmod = Invocation::new("depmod").args(["-b", "/host", kernel.as_str()]);
            let step = self.command("build the host's module index".to_owned(), &depmod, OnFailure::Fatal);
            self.add("host tree", Plan { notes: vec![note], steps: vec![step] });
        }
        Ok(())
    }

    fn image(&mut self) {
        let kernel = &self.context.kernel;
        let index = Path::new("/lib/modules").join(kernel.as_str()).join("modules.dep");
        let note = format!("the modules for {kernel} must be in the image");
        let missing =
            (!self.context.host.exists(index)).then(|| InstallStep::Depmod { kernel: kernel.clone() });
        let plan = self.install_steps(missing.as_slice(), vec![note]);
        self.add("modules of the image", plan);
    }

    fn dkms(&mut self) -> Result<(), PackageError> {
        let module = DkmsModule { name: SOURCES.0.to_owned(), version: SOURCES.1.to_owned() };
        let kernel = self.context.kernel.clone();
        let (extent, what) = match self.request.origin {
            PackageOrigin::Sidecar { .. } => {
                (DkmsExtent::AddOnly, "the sidecar has built the modules for this kernel")
            }
            PackageOrigin::Folder(_) | PackageOrigin::Sources(_) | PackageOrigin::Precompiled => {
                (DkmsExtent::Install, "what DKMS has done already is not done again")
            }
        };
        let mut steps = vec![DkmsStep::Add { module: module.clone() }];
        if extent == DkmsExtent::Install {
            steps.push(DkmsStep::Build { module: module.clone(), kernel: kernel.clone() });
            steps.push(DkmsStep::Install { module, kernel });
        }
        let shown = steps.iter().filter_map(|step| {
            let invocation = step.invocation()?;
            Some(self.command(step.to_string(), &invocation, OnFailure::Fatal))
        });
        let steps = shown.collect();
        let mut notes = vec![
            "a systemctl without effect is put into /usr/local/bin first, where no systemd runs".to_owned(),
            format!("for the sources of each package that brings some; {what}"),
        ];
        if misses_host_tree(self.context, extent)? {
            notes.push(NOT_IN_HOST_TREE.to_owned());
        }
        self.add("DKMS", Plan { notes, steps });
        Ok(())
    }
}
