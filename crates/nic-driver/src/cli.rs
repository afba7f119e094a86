//! The command line.

mod arguments;
mod build;
mod build_command;
mod completions;
mod config;
mod config_file;
mod debugging;
mod dtk_build;
mod environment;
mod in_force;
mod install;
mod modules;
mod output;
mod paths;
mod pid_1;
mod probe;
mod report;
mod report_arguments;
mod run;
mod setting;
mod settings;
mod signals;
mod status;
mod status_arguments;
mod terminal;
mod text;
mod usage_error;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::CommandFactory as _;
use nic_sriov::DeviceAddress;

pub use arguments::{Cli, Command, LogFormat, Output, Planned, ReloadArguments};
pub use build::{BuildArguments, DkmsArguments, SidecarArguments};
pub use build_command::BuildCommand;
pub use debugging::DebuggingArguments;
pub use in_force::{ConfigArguments, Origin, SettingInForce};
pub use install::{InstallArguments, InstallMode, SourcesArguments};
pub use modules::ModuleArguments;
pub use report_arguments::{Nights, ReportArguments, ReportFormat};
pub use run::{RunArguments, RunMode};
pub use status_arguments::StatusArguments;

use build::SettingError;
use output::{fail, print, set_up_logs, show, show_outcome};
use settings::{family, machine, settings, store};
use terminal::Terminal;
use text::{BuiltText, InstalledText, ReloadedText, RestoredText, SnapshotText, TerminatedText};

use crate::Exit;
use crate::build_progress::BuildObserver;
use crate::context::Context;
use crate::node::tell_machine;
use crate::phase::{
    self, BuildPackagesRequest, DriverAfterwards, InstallRequest, PhaseError, RunEnded, RunRequest,
};
use crate::swap::ModuleTree;

/// Carries out this process's command line: results go to stdout, logs and errors to stderr.
#[must_use]
pub fn run() -> ExitCode {
    let command_line: Vec<OsString> = std::env::args_os().collect();
    if pid_1::is_this(&command_line) {
        return match pid_1::supervise() {
            Ok(code) => code.into(),
            Err(error) => output::tell(&error, Exit::Failed).into(),
        };
    }
    run_here(Cli::of_process()).into()
}

fn run_here(mut cli: Cli) -> Exit {
    let paths = paths::make_absolute(&mut cli);
    let cli = &cli;
    if let Err(error) = paths {
        return fail(cli, &error, Exit::Usage);
    }
    // Its start-up is what it costs: it needs neither logs nor a runtime.
    if let Command::Probe { asked } = &cli.command {
        return probe::probe(cli, *asked);
    }
    let terminal = Terminal::of(cli);
    if let Err(error) = set_up_logs(cli, terminal.clone()) {
        return fail(cli, &error, Exit::Usage);
    }
    if let Command::Config(arguments) = &cli.command {
        return config::config(cli, arguments);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(cli, &error, Exit::Failed),
    };
    let exit = runtime.block_on(dispatch(cli, terminal));
    // A write that hangs in the kernel must not keep the process from ending.
    runtime.shutdown_background();
    exit
}

async fn dispatch(cli: &Cli, terminal: Option<Terminal>) -> Exit {
    match &cli.command {
        Command::Completions { shell } => {
            return print(cli, &completions::completions(*shell), Exit::Success);
        }
        Command::Man => {
            let mut page = Vec::new();
            return match clap_mangen::Man::new(Cli::command()).render(&mut page) {
                Ok(()) => print(cli, &page, Exit::Success),
                Err(error) => fail(cli, &error, Exit::Failed),
            };
        }
        Command::DtkBuild => return dtk_build::dtk_build(cli).await,
        Command::Run(run) => {
            run.introduce(&cli.family);
            config::tell(cli, &run.settings);
            tell_machine(&machine(cli));
            if matches!(run.mode, RunMode::DtkBuild) {
                return dtk_build::dtk_build(cli).await;
            }
        }
        Command::Report(arguments) => return report::report(cli, arguments),
        _ => {}
    }
    let request = match request(cli) {
        Ok(request) => request,
        Err(error) => return fail(cli, &error, Exit::Usage),
    };
    let mut family = match family(cli) {
        Ok(family) => family,
        Err(error) => return fail(cli, &error, Exit::Usage),
    };
    if let Err(error) = cli.modules.apply(&mut family) {
        return fail(cli, &error, Exit::Usage);
    }
    if cli.modules.enable_nfsrdma {
        family.modules.enable_nfsrdma();
    }
    let mut context = match Context::new(machine(cli), family, store(cli), settings(cli)) {
        Ok(context) => context,
        Err(error) => return fail(cli, &error, Exit::Failed),
    };
    if let Some(terminal) = terminal {
        context.builds = BuildObserver::new(terminal);
    }
    let listening = match &cli.command {
        Command::Build(_)
        | Command::Install(_)
        | Command::Reload(_)
        | Command::RestoreSriov { .. }
        | Command::Terminate { .. }
        | Command::Run(_)
        | Command::Snapshot => match signals::listen(context.stop.clone(), context.lock.clone()) {
            Ok(listening) => Some(listening),
            Err(error) => return fail(cli, &error, Exit::Failed),
        },
        // What only looks ends with the first signal, as any program.
        _ => None,
    };
    let exit = run_command(cli, &context, request.as_ref()).await;
    await_transactions().await;
    drop(listening);
    // To be told to stop is how a container ends.
    let is_container = matches!(cli.command, Command::Run(_));
    if context.stop.since().is_some() && exit != Exit::Interrupted && !is_container {
        tracing::warn!("asked to stop meanwhile; what was begun was finished first");
    }
    exit
}

/// A package manager that nobody waits for any more is not left in mid-transaction: the end of a container's first process would be its
/// end. A second signal ends this wait.
async fn await_transactions() {
    for command in nic_host::running_transactions() {
        tracing::warn!(command, "the command is in mid-transaction: its end is waited for");
    }
    nic_host::transactions_ended().await;
}

/// What a command is to get packages for.
enum PackagesRequest {
    Install(InstallRequest),
    Build(BuildPackagesRequest),
    Run(RunRequest),
}

/// What is to be installed or built, where the command is about that.
fn request(cli: &Cli) -> Result<Option<PackagesRequest>, SettingError> {
    match &cli.command {
        Command::Build(build) => {
            build.request(cli.modules.enable_nfsrdma).map(PackagesRequest::Build).map(Some)
        }
        Command::Install(install) | Command::Plan { of: Planned::Install(install) } => {
            install.request(cli.modules.enable_nfsrdma).map(PackagesRequest::Install).map(Some)
        }
        Command::Run(run) => {
            Ok(run.request(cli.modules.enable_nfsrdma, &cli.drivers_mount)?.map(PackagesRequest::Run))
        }
        _ => Ok(None),
    }
}

async fn run_command(cli: &Cli, context: &Context, request: Option<&PackagesRequest>) -> Exit {
    match &cli.command {
        Command::Reload(_) => match phase::reload(context, &ModuleTree::Own).await {
            Ok(reloaded) => {
                show_outcome(cli, &ReloadedText(&reloaded), reloaded.exit(), reloaded.why_not().as_deref())
            }
            Err(error) => fail(cli, &error, error.exit()),
        },
        Command::Preflight(_) => match phase::preflight(context).await {
            Ok(found) => show_outcome(cli, &found, found.exit(), found.why_not().as_deref()),
            Err(error) => fail(cli, &error, error.exit()),
        },
        Command::RestoreSriov { from_record, forget_pf } => {
            let bus = &context.family.devices.bus;
            let forget: Result<Vec<DeviceAddress>, _> =
                forget_pf.iter().map(|pf| DeviceAddress::new(bus, pf)).collect();
            let forget = match forget {
                Ok(forget) => forget,
                Err(error) => return fail(cli, &error, Exit::Usage),
            };
            match phase::restore_sriov(context, *from_record, &forget).await {
                Ok(restored) => show_outcome(
                    cli,
                    &RestoredText(&restored),
                    restored.exit(),
                    restored.why_not().as_deref(),
                ),
                Err(error) => fail(cli, &error, error.exit()),
            }
        }
        Command::Terminate { restore_driver } => {
            match phase::terminate(context, DriverAfterwards::of(*restore_driver)).await {
                Ok(terminated) => show_outcome(
                    cli,
                    &TerminatedText(&terminated),
                    terminated.exit(),
                    terminated.why_not().as_deref(),
                ),
                Err(error) => fail(cli, &error, error.exit()),
            }
        }
        Command::Snapshot => match phase::snapshot(context).await {
            Ok(taken) => show(cli, &SnapshotText(&taken), Exit::Success),
            Err(error) => fail(cli, &error, error.exit()),
        },
        Command::Plan { of: Planned::RestoreSriov { from_record } } => {
            match phase::plan_restore_sriov(context, *from_record).await {
                Ok(plan) => show_outcome(cli, &plan, plan.exit(), plan.why_not().as_deref()),
                Err(error) => fail(cli, &error, error.exit()),
            }
        }
        Command::Plan { of: Planned::Reload(_) } => match phase::plan_reload(context).await {
            Ok(forecast) => show(cli, &forecast, Exit::Success),
            Err(error) => fail(cli, &error, error.exit()),
        },
        Command::Status(arguments) => status::status(cli, arguments, context).await,
        Command::Build(_) | Command::Install(_) | Command::Plan { of: Planned::Install(_) } => {
            match request {
                Some(PackagesRequest::Install(request)) => run_install(cli, context, request).await,
                Some(PackagesRequest::Build(request)) => {
                    match phase::build_packages(context, request).await {
                        Ok(built) => show(cli, &BuiltText(&built), Exit::Success),
                        Err(error) => fail(cli, &error, error.exit()),
                    }
                }
                // It was made for these commands.
                Some(PackagesRequest::Run(_)) | None => Exit::Usage,
            }
        }
        Command::Run(arguments) => match request {
            Some(PackagesRequest::Run(request)) => run_container(cli, arguments, context, request).await,
            _ => Exit::Usage,
        },
        // They have been answered already.
        Command::Config(_)
        | Command::DtkBuild
        | Command::Probe { .. }
        | Command::Report(_)
        | Command::Completions { .. }
        | Command::Man => Exit::Success,
    }
}

async fn run_container(cli: &Cli, arguments: &RunArguments, context: &Context, request: &RunRequest) -> Exit {
    let ended = phase::run(context, request).await;
    let exit = ended.as_ref().map_or_else(PhaseError::exit, RunEnded::exit);
    arguments.debugging.pause(exit, &context.stop, context.settings.grace).await;
    match &ended {
        Ok(RunEnded { failure: None, terminated: Ok(terminated) }) => {
            show_outcome(cli, &TerminatedText(terminated), exit, terminated.why_not().as_deref())
        }
        Ok(RunEnded { failure: Some(error), .. } | RunEnded { terminated: Err(error), .. }) | Err(error) => {
            fail(cli, error, exit)
        }
    }
}

async fn run_install(cli: &Cli, context: &Context, request: &InstallRequest) -> Exit {
    if matches!(cli.command, Command::Plan { .. }) {
        return match phase::plan_install(context, request).await {
            Ok(forecast) => show(cli, &forecast, Exit::Success),
            Err(error) => fail(cli, &error, error.exit()),
        };
    }
    match phase::install(context, request).await {
        Ok(installed) => show(cli, &InstalledText(&installed), Exit::Success),
        Err(error) => fail(cli, &error, error.exit()),
    }
}
