//! The command line.

mod environment;
mod modules;
mod paths;
mod signals;
mod text;

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{CommandFactory as _, Parser, Subcommand, ValueEnum};
use nic_host::Host;
use serde::Serialize;

use text::{InstalledText, ReloadedText, RestoredText, SnapshotText, TerminatedText};

use crate::context::{Context, HOST_ROOT, ManagementNic, ReloadWith, Settings};
use crate::family::NicFamily;
use crate::phase;
use crate::report::Report;
use crate::state::{Journal, StateStore};
use crate::swap::ModuleTree;
use crate::{Exit, error_chain};

/// Swaps a NIC's kernel driver and gives every SR-IOV virtual function back exactly as it was.
#[derive(Debug, Parser)]
#[command(name = "nic-driver", version, max_term_width = 110)]
#[command(after_help = "Example: nic-driver reload && nic-driver restore-sriov\n\n\
    Exit codes: 0 done; 2 wrong usage; 3 blocked, nothing changed; 4 failed and put back; \
    5 failed, node degraded; 1 and 10-18 failed before anything was changed (docs/exit-codes.md).")]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// The NIC family: mlx5, igb, netdevsim, or a path to a TOML file that describes one.
    #[arg(long, global = true, env = "NIC_DRIVER_FAMILY", default_value = "mlx5")]
    pub family: String,
    /// How results are printed to stdout.
    #[arg(long, global = true, value_enum, default_value_t = Output::Text)]
    pub output: Output,
    /// The machine's root folder: `/`, or a tree to look at.
    #[arg(long, global = true, env = "NIC_DRIVER_ROOT", default_value = "/")]
    pub root: PathBuf,
    /// Where snapshot and journal are kept [default: .nic-driver in MLX_DRIVERS_MOUNT below the root].
    #[arg(long, global = true, env = "NIC_DRIVER_STATE_DIR")]
    pub state_dir: Option<PathBuf>,
    /// What one operation may take on a NIC with a single VF, in seconds; grows with the number of VFs.
    #[arg(long, global = true, env = "NIC_DRIVER_TIMEOUT", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub timeout: u64,
    /// How many VFs are bound at the same time.
    #[arg(long, global = true, env = "NIC_DRIVER_JOBS", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..))]
    pub jobs: u16,
    /// How long after SIGTERM the process will be killed, in seconds: what takes longer is not begun.
    #[arg(long, global = true, env = "NIC_DRIVER_GRACE", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub grace: Option<u64>,
    /// What a reload does when the node's default route or the Kubernetes API is behind the NICs that go.
    #[arg(long, global = true, value_enum, env = "NIC_DRIVER_MANAGEMENT_NIC", default_value_t = ManagementNic::Warn)]
    pub management_nic: ManagementNic,
    /// How a reload unloads and loads: by itself, or with the vendor's init script. `terminate` always does it itself.
    #[arg(long, global = true, value_enum, env = "NIC_DRIVER_RELOAD_WITH", default_value_t = ReloadWith::Native)]
    pub reload_with: ReloadWith,
    /// How logs are printed to stderr.
    #[arg(long, global = true, value_enum, env = "NIC_DRIVER_LOG_FORMAT", default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// What is logged, as a tracing filter: `info`, `debug`, `nic_sriov=trace`…
    #[arg(long, global = true, env = "NIC_DRIVER_LOG", default_value = "info")]
    pub log: String,
    /// Where other containers find this one's files.
    #[arg(
        long,
        global = true,
        env = "MLX_DRIVERS_MOUNT",
        default_value = "/run/mellanox/drivers",
        hide = true
    )]
    pub drivers_mount: PathBuf,
    /// The readiness file.
    #[arg(
        long,
        global = true,
        env = "DRIVER_READY_PATH",
        default_value = "/run/mellanox/drivers/.driver-ready",
        hide = true
    )]
    pub readiness_file: PathBuf,
    /// The lock file [default: .lock in MLX_DRIVERS_MOUNT].
    #[arg(long, global = true, env = "LOCK_FILE_PATH", hide = true)]
    pub lock_file: Option<PathBuf>,
    /// The blacklist that exists while modules are swapped [default: the host's, where its /etc is mounted].
    #[arg(long, global = true, env = "OFED_BLACKLIST_MODULES_FILE", hide = true)]
    pub blacklist_file: Option<PathBuf>,
    /// Modules that are not the family's own.
    #[command(flatten)]
    pub modules: modules::ModuleArguments,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Install driver packages and make the module index anew. What runs stays as it is.
    #[command(
        after_help = "Example: nic-driver install --packages /mnt/drivers-inventory/5.14.0/25.10-1.2.8.0"
    )]
    Install {
        /// The folder that holds the packages (.rpm or .deb, as the distribution has them).
        #[arg(long)]
        packages: PathBuf,
    },
    /// Swap the loaded modules for the installed ones, when they differ. Leaves an armed snapshot.
    #[command(
        after_help = "Example: nic-driver --family igb reload && nic-driver --family igb restore-sriov"
    )]
    Reload {
        /// Try a driver again that was rolled back, although nothing has changed since.
        #[arg(long, env = "NIC_DRIVER_RETRY_ROLLED_BACK", default_value_t = false, value_parser = parse_bool, num_args = 0..=1, default_missing_value = "true")]
        retry_rolled_back: bool,
        /// Swap them also when the loaded modules are the installed ones.
        #[arg(long)]
        force: bool,
    },
    /// Show everything that stands in the way of a reload, and what to do about it. Changes nothing.
    #[command(after_help = "Example: nic-driver preflight --output json | jq '.blockers[].what'")]
    Preflight {
        /// Look also when no reload is due.
        #[arg(long)]
        force: bool,
    },
    /// Give PFs and VFs back what the stored snapshot says, and verify it.
    #[command(after_help = "Example: nic-driver restore-sriov --output json")]
    RestoreSriov,
    /// Take readiness away and clean up; on demand go back to the inbox driver.
    #[command(after_help = "Example: nic-driver terminate --restore-driver")]
    Terminate {
        /// Go back to the driver that the distribution brought, and restore the NICs under it.
        #[arg(long, env = "RESTORE_DRIVER_ON_POD_TERMINATION", default_value_t = false, value_parser = parse_bool, num_args = 0..=1, default_missing_value = "true")]
        restore_driver: bool,
    },
    /// Take a snapshot of the NICs and store it.
    #[command(after_help = "Example: nic-driver snapshot --output json | jq '.snapshot.nics.pfs[].num_vfs'")]
    Snapshot,
    /// Show what a command would do, and do nothing.
    #[command(after_help = "Example: nic-driver plan restore-sriov")]
    Plan {
        /// The command.
        #[arg(value_enum)]
        of: Planned,
    },
    /// Show NICs, modules and stored state.
    #[command(after_help = "Example: nic-driver status --output json")]
    Status,
    /// Tell what happened, from the journal: timeline, srcversions, VFs, and how long the NIC was away.
    #[command(after_help = "Example: nic-driver report")]
    Report,
    /// Print completions for a shell.
    #[command(after_help = "Example: nic-driver completions bash > /etc/bash_completion.d/nic-driver")]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Print the manual page.
    #[command(after_help = "Example: nic-driver man | man -l -")]
    Man,
}

/// What `plan` can plan.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Planned {
    /// What `reload` would do.
    Reload,
    /// What `restore-sriov` would do.
    RestoreSriov,
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// How logs are printed.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For log collectors.
    Json,
}

fn parse_bool(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" => Ok(true),
        "false" | "0" | "" => Ok(false),
        _ => Err("neither true nor false".to_owned()),
    }
}

/// Carries out a command line: results go to stdout, logs and errors to stderr.
#[must_use]
pub fn run(mut cli: Cli) -> Exit {
    let paths = paths::make_absolute(&mut cli);
    let cli = &cli;
    if let Err(error) = paths {
        return fail(cli, &error, Exit::Usage);
    }
    if let Err(error) = set_up_logs(cli) {
        return fail(cli, &error, Exit::Usage);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(cli, &error, Exit::Failed),
    };
    let exit = runtime.block_on(dispatch(cli));
    // A write that hangs in the kernel must not keep the process from ending.
    runtime.shutdown_background();
    exit
}

async fn dispatch(cli: &Cli) -> Exit {
    match &cli.command {
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "nic-driver", &mut script);
            return print(cli, &script, Exit::Success);
        }
        Command::Man => {
            let mut page = Vec::new();
            return match clap_mangen::Man::new(Cli::command()).render(&mut page) {
                Ok(()) => print(cli, &page, Exit::Success),
                Err(error) => fail(cli, &error, Exit::Failed),
            };
        }
        Command::Report => {
            return match Journal::read(&store(cli)) {
                Ok(events) => show(cli, &Report::of(&events), Exit::Success),
                Err(error) => fail(cli, &error, Exit::Failed),
            };
        }
        _ => {}
    }
    let mut family = match NicFamily::open(&cli.family) {
        Ok(family) => family,
        Err(error) => return fail(cli, &error, Exit::Usage),
    };
    if let Err(error) = cli.modules.apply(&mut family) {
        return fail(cli, &error, Exit::Usage);
    }
    // What is gone back to is the inbox driver as the distribution loads it.
    if cli.modules.enable_nfsrdma && !matches!(cli.command, Command::Terminate { .. }) {
        family.modules.enable_nfsrdma();
    }
    let context = match Context::new(host(cli), family, store(cli), settings(cli)) {
        Ok(context) => context,
        Err(error) => return fail(cli, &error, Exit::Failed),
    };
    let listening = match &cli.command {
        Command::Install { .. }
        | Command::Reload { .. }
        | Command::RestoreSriov
        | Command::Terminate { .. }
        | Command::Snapshot => match signals::listen(context.stop.clone(), context.lock.clone()) {
            Ok(listening) => Some(listening),
            Err(error) => return fail(cli, &error, Exit::Failed),
        },
        // What only looks ends with the first signal, as any program.
        _ => None,
    };
    let exit = carry_out(cli, &context).await;
    drop(listening);
    if context.stop.since().is_some() && exit != Exit::Interrupted {
        tracing::warn!("asked to stop meanwhile; what was begun was finished first");
    }
    exit
}

async fn carry_out(cli: &Cli, context: &Context) -> Exit {
    match &cli.command {
        Command::Install { packages } => match phase::install(context, packages).await {
            Ok(installed) => show(cli, &InstalledText(&installed), Exit::Success),
            Err(error) => fail(cli, &error, error.exit()),
        },
        Command::Reload { .. } => match phase::reload(context, &ModuleTree::Own).await {
            Ok(reloaded) => show(cli, &ReloadedText(&reloaded), reloaded.exit()),
            Err(error) => fail(cli, &error, error.exit()),
        },
        Command::Preflight { .. } => match phase::preflight(context) {
            Ok(found) => show(cli, &found, found.exit()),
            Err(error) => fail(cli, &error, error.exit()),
        },
        Command::RestoreSriov => match phase::restore_sriov(context).await {
            Ok(restored) => show(cli, &RestoredText(&restored), restored.exit()),
            Err(error) => fail(cli, &error, error.exit()),
        },
        Command::Terminate { restore_driver } => match phase::terminate(context, *restore_driver).await {
            Ok(terminated) => show(cli, &TerminatedText(&terminated), terminated.exit()),
            Err(error) => fail(cli, &error, error.exit()),
        },
        Command::Snapshot => match phase::snapshot(context).await {
            Ok(taken) => show(cli, &SnapshotText(&taken), Exit::Success),
            Err(error) => fail(cli, &error, error.exit()),
        },
        Command::Plan { of: Planned::RestoreSriov } => match phase::plan_restore_sriov(context).await {
            Ok(plan) => show(cli, &plan, Exit::Success),
            Err(error) => fail(cli, &error, error.exit()),
        },
        Command::Plan { of: Planned::Reload } => match phase::plan_reload(context) {
            Ok(forecast) => show(cli, &forecast, Exit::Success),
            Err(error) => fail(cli, &error, error.exit()),
        },
        Command::Status => match phase::status(context).await {
            Ok(status) => show(cli, &status, Exit::Success),
            Err(error) => fail(cli, &error, error.exit()),
        },
        Command::Report | Command::Completions { .. } | Command::Man => Exit::Success,
    }
}

fn host(cli: &Cli) -> Host {
    Host::at(&cli.root)
}

fn store(cli: &Cli) -> StateStore {
    let default = || host(cli).path(&cli.drivers_mount).join(".nic-driver");
    StateStore::new(cli.state_dir.clone().unwrap_or_else(default))
}

fn settings(cli: &Cli) -> Settings {
    // In the container the host's /etc is mounted below /host, and it is the host's udev that must not load modules.
    let of_host = Path::new(HOST_ROOT);
    let machine = if host(cli).exists(of_host.join("etc")) { of_host } else { Path::new("/") };
    let default = || machine.join("etc/modprobe.d/blacklist-ofed-modules.conf");
    Settings {
        timeout: Duration::from_secs(cli.timeout),
        jobs: usize::from(cli.jobs),
        readiness_file: cli.readiness_file.clone(),
        blacklist_file: cli.blacklist_file.clone().unwrap_or_else(default),
        lock_file: cli.lock_file.clone().unwrap_or_else(|| cli.drivers_mount.join(".lock")),
        management_nic: cli.management_nic,
        kubernetes_api: kubernetes_api(),
        grace: cli.grace.map(Duration::from_secs),
        retry_rolled_back: matches!(cli.command, Command::Reload { retry_rolled_back: true, .. }),
        without_way_back: cli.modules.without_way_back,
        reload_with: cli.reload_with,
        force: matches!(
            cli.command,
            Command::Reload { force: true, .. } | Command::Preflight { force: true }
        ),
        may_unload: cli.modules.may_unload(),
    }
}

/// The Kubernetes API's address as every container of a cluster is told it.
fn kubernetes_api() -> Option<std::net::IpAddr> {
    let text = std::env::var("KUBERNETES_SERVICE_HOST").ok().filter(|text| !text.is_empty())?;
    let address = text.parse();
    if address.is_err() {
        tracing::warn!(text, "KUBERNETES_SERVICE_HOST is no IP address: the way to the API is not looked at");
    }
    address.ok()
}

/// Logs that could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("cannot log with the filter {filter:?}")]
struct LogError {
    filter: String,
    #[source]
    source: Box<dyn std::error::Error + Send + Sync>,
}

fn set_up_logs(cli: &Cli) -> Result<(), LogError> {
    let log_error = |source| LogError { filter: cli.log.clone(), source };
    let filter = tracing_subscriber::EnvFilter::try_new(&cli.log).map_err(|error| log_error(error.into()))?;
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    let installed = match cli.log_format {
        LogFormat::Text => subscriber.with_ansi(io::IsTerminal::is_terminal(&io::stderr())).try_init(),
        LogFormat::Json => subscriber.json().try_init(),
    };
    installed.map_err(log_error)
}

fn show<T: Serialize + std::fmt::Display>(cli: &Cli, result: &T, exit: Exit) -> Exit {
    match cli.output {
        Output::Text => print(cli, result.to_string().as_bytes(), exit),
        Output::Json => match serde_json::to_vec_pretty(result) {
            Ok(mut text) => {
                text.push(b'\n');
                print(cli, &text, exit)
            }
            Err(error) => fail(cli, &error, Exit::Failed),
        },
    }
}

/// Prints a result. A reader that has gone away is not the command's failure.
fn print(cli: &Cli, text: &[u8], exit: Exit) -> Exit {
    match io::stdout().write_all(text) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => fail(cli, &error, Exit::Failed),
        Ok(()) | Err(_) => exit,
    }
}

fn fail(cli: &Cli, error: &dyn std::error::Error, exit: Exit) -> Exit {
    let chain = error_chain(error);
    let text = match cli.output {
        Output::Text => format!("nic-driver: {chain}\n"),
        Output::Json => {
            let object = serde_json::json!({ "error": chain, "exit": exit as u8 });
            // Errors are results too: a program that reads JSON finds them where it reads.
            if let Err(error) = writeln!(io::stdout(), "{object}") {
                tracing::debug!(%error, "stdout is closed");
            }
            format!("nic-driver: {chain}\n")
        }
    };
    if let Err(error) = io::stderr().write_all(text.as_bytes()) {
        tracing::debug!(%error, "stderr is closed");
    }
    exit
}
