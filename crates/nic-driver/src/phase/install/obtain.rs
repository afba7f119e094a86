//! Packages to install: those of the inventory, or newly built ones.

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use nic_build::{
    BuildKey, InventoryEntry, InventoryLock, Plan, Preparation, Progress, Stored, TemporaryPackages, Work,
    build, built_packages,
};
use nic_host::Host;

use super::job::{Builder, Job};
use super::own_folder::{OwnFolder, remove_folder};
use super::put::read_set;
use super::request::PackagesFrom;
use super::sidecar::build_in_sidecar;
use crate::context::{BeginError, Context};
use crate::default_paths;
use crate::phase::error::PhaseError;
use crate::phase::obtain_error::ObtainError;
use crate::state::{PhaseRecord, Step};

/// How long another process may build for this kernel: a build's own deadline, and some for what comes before and after it.
pub const OTHERS_BUILD_DEADLINE: Duration = Duration::from_secs(3 * 60 * 60);

/// Packages in one folder. What is temporary of them goes with this value, and so does the inventory's lock.
#[derive(Debug)]
pub(in crate::phase) struct Obtained {
    pub(in crate::phase) folder: PathBuf,
    pub(in crate::phase) from: PackagesFrom,
    _temporary: Option<TemporaryPackages>,
    _lock: Option<InventoryLock>,
}

/// Has packages, from wherever they are had the soonest.
pub(in crate::phase) async fn obtain(
    context: &Context,
    phase: &PhaseRecord,
    job: &Job,
) -> Result<Obtained, PhaseError> {
    let Some(entry) = &job.entry else {
        let packages = make(context, phase, job).await?;
        let folder = Path::new(default_paths::TEMPORARY_PACKAGES);
        let step = phase.step(Step::StorePackages { folder: folder.to_path_buf() });
        let copied = TemporaryPackages::copy(&context.host, folder, &packages.paths);
        let temporary = step.record(copied).map_err(ObtainError::from)?;
        let folder = temporary.folder().to_path_buf();
        return Ok(Obtained { folder, from: packages.from, _temporary: Some(temporary), _lock: None });
    };
    entry.remove_leftovers(&context.host, &holder(&context.host));
    let key = job.key(&context.host)?;
    if let Some(from) = look_up(context, phase, job, entry, &key)? {
        prepare(context, phase, &job.preparation(job.work(true)).map_err(ObtainError::from)?).await?;
        return Ok(Obtained { folder: entry.folder.clone(), from, _temporary: None, _lock: None });
    }
    let lock = lock(context, phase, entry).await?;
    // Whoever held the lock may have stored what is asked for.
    if let Some(from) = look_up(context, phase, job, entry, &key)? {
        prepare(context, phase, &job.preparation(job.work(true)).map_err(ObtainError::from)?).await?;
        return Ok(Obtained { folder: entry.folder.clone(), from, _temporary: None, _lock: Some(lock) });
    }
    let step = phase.step(Step::WipePackages { folder: entry.folder.clone() });
    let wiped = entry.remove_unfinished(&context.host, &lock).and_then(|_| entry.wipe(&context.host, &lock));
    step.record(wiped).map_err(ObtainError::from)?;
    let packages = make(context, phase, job).await?;
    let step = phase.step(Step::StorePackages { folder: entry.folder.clone() });
    step.record(entry.store(&context.host, &lock, &packages.paths, &key)).map_err(ObtainError::from)?;
    // What cannot be installed must not be found by the next start.
    if let Err(error) = read_set(context, &entry.folder, &job.observed.node.kernel) {
        entry.wipe(&context.host, &lock).map_err(ObtainError::from)?;
        return Err(error.into());
    }
    Ok(Obtained { folder: entry.folder.clone(), from: packages.from, _temporary: None, _lock: Some(lock) })
}

fn look_up(
    context: &Context,
    phase: &PhaseRecord,
    job: &Job,
    entry: &InventoryEntry,
    key: &BuildKey,
) -> Result<Option<PackagesFrom>, PhaseError> {
    let step = phase.step(Step::LookUpPackages { folder: entry.folder.clone() });
    match entry.look_up(&context.host, key) {
        // A checksum says that they are what was stored, and not that this was right.
        Ok(Stored::Valid { packages, trust }) => {
            match read_set(context, &entry.folder, &job.observed.node.kernel) {
                Ok(_) => {
                    step.ok(Some(format!("{} packages, verified by {trust}", packages.len())));
                    Ok(Some(PackagesFrom::Inventory { verified_by: trust.to_string() }))
                }
                Err(error) if error.is_of_packages() => {
                    step.ok(Some(format!("the packages are built anew: {}", crate::error_chain(&error))));
                    Ok(None)
                }
                Err(error) => {
                    step.failed(&error);
                    Err(error.into())
                }
            }
        }
        Ok(Stored::Absent) => {
            step.ok(Some("there are none".to_owned()));
            Ok(None)
        }
        Ok(Stored::Outdated(outdated)) => {
            step.ok(Some(format!("the packages are built anew: {}", crate::error_chain(&outdated))));
            Ok(None)
        }
        Err(error) => {
            step.failed(&error);
            Err(ObtainError::from(error).into())
        }
    }
}

async fn lock(
    context: &Context,
    phase: &PhaseRecord,
    entry: &InventoryEntry,
) -> Result<InventoryLock, PhaseError> {
    let step = phase.step(Step::LockInventory { folder: entry.kernel_folder.clone() });
    let holder = holder(&context.host);
    let waiting = InventoryLock::acquire(&context.host, entry, &holder, OTHERS_BUILD_DEADLINE);
    match context.stop.or_stop_request(waiting).await {
        Ok(lock) => Ok(step.record(lock).map_err(ObtainError::from)?),
        Err(interrupted) => {
            step.failed(&interrupted);
            Err(BeginError::from(interrupted).into())
        }
    }
}

/// How this process names itself to those who wait for it, on this node or on another one.
pub(super) fn holder(host: &Host) -> String {
    let node = host.attribute("/proc/sys/kernel/hostname").ok().flatten();
    let node = node.map(|node| format!(" on {node}")).unwrap_or_default();
    format!("nic-driver{node}, process {}, since {:.0}", std::process::id(), Timestamp::now())
}

/// What was built.
struct Made {
    paths: Vec<PathBuf>,
    from: PackagesFrom,
    _own: Option<OwnFolder>,
}

async fn make(context: &Context, phase: &PhaseRecord, job: &Job) -> Result<Made, PhaseError> {
    let host = &context.host;
    match &job.builder {
        Builder::Here => {
            let preparation = job.preparation(Work::Packages).map_err(ObtainError::from)?;
            prepare(context, phase, &preparation).await?;
            build_here(context, phase, job, &preparation).await?;
            let found = built_packages(host, &job.sources.folder, &job.observed.node.architecture);
            Ok(Made { paths: found.map_err(ObtainError::from)?, from: PackagesFrom::Build, _own: None })
        }
        Builder::Sidecar(request) => {
            let own = OwnFolder::empty(host, Path::new(default_paths::FETCHED_PACKAGES))?;
            let fetched = build_in_sidecar(context, phase, request, own.path()).await?;
            let paths = fetched.packages.into_iter().map(|package| package.path).collect();
            Ok(Made { paths, from: PackagesFrom::Sidecar, _own: Some(own) })
        }
    }
}

/// Installs what a build needs.
async fn prepare(
    context: &Context,
    phase: &PhaseRecord,
    preparation: &Preparation,
) -> Result<(), PhaseError> {
    carry_out(context, phase, Step::InstallCompiler, &preparation.compiler).await?;
    carry_out(context, phase, Step::InstallPrerequisites, &preparation.prerequisites).await
}

/// Carries a plan out as one step. A package manager is not interrupted: the request to stop is looked at before it.
pub(super) async fn carry_out(
    context: &Context,
    phase: &PhaseRecord,
    step: Step,
    plan: &Plan,
) -> Result<(), PhaseError> {
    context.check_stop()?;
    if plan.steps.is_empty() {
        plan.notes.iter().for_each(|note| tracing::info!("{note}"));
        return Ok(());
    }
    let step = phase.step(step);
    Ok(step.record(plan.apply(&context.host).await).map_err(ObtainError::from)?)
}

async fn build_here(
    context: &Context,
    phase: &PhaseRecord,
    job: &Job,
    preparation: &Preparation,
) -> Result<(), PhaseError> {
    let Some(command) = &preparation.build else { return Ok(()) };
    // What an earlier build has left would be taken for this one's.
    for outputs in ["DEBS", "RPMS"] {
        remove_folder(&context.host, &job.sources.folder.join(outputs))?;
    }
    context.check_stop()?;
    let step = phase.step(Step::BuildPackages { sources: job.sources.folder.clone() });
    let log = Path::new(default_paths::BUILD_LOG);
    // A build that is given up is killed with all that it has started.
    let building = build(&context.host, command, log, tell);
    match context.stop.or_stop_request(building).await {
        Ok(Ok(built)) => {
            step.ok(Some(format!("the output is in {}", built.log.display())));
            Ok(())
        }
        Ok(Err(error)) => {
            step.failed(&error);
            Err(ObtainError::from(error).into())
        }
        Err(interrupted) => {
            step.failed(&interrupted);
            Err(BeginError::from(interrupted).into())
        }
    }
}

fn tell(progress: &Progress) {
    let elapsed_s = progress.elapsed.as_secs();
    let (package, done, known) = (progress.package.as_deref(), progress.done, progress.known);
    tracing::info!(elapsed_s, package, done, known, "build: {}", progress.line);
}
