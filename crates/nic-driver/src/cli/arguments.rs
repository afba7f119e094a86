//! The arguments: commands and options, each option with its variable.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::build_command::BuildCommand;
use super::debugging::DEFAULT_FILTER;
use super::in_force::ConfigArguments;
use super::install::InstallArguments;
use super::modules::{ModuleArguments, parse_bool};
use super::report_arguments::ReportArguments;
use super::run::RunArguments;
use super::status_arguments::StatusArguments;
use crate::context::{Assumption, Lossy, ManagementNic, ReloadWith};
use crate::default_paths;
use crate::phase::Probe;

/// Swaps a NIC's kernel driver and gives every SR-IOV virtual function back exactly as it was.
#[derive(Debug, Parser)]
#[command(name = "nic-driver", version, max_term_width = 110)]
#[command(after_help = "Example: nic-driver reload && nic-driver restore-sriov\n\n\
    Exit codes: 0 done; 2 wrong usage; 3 blocked, nothing changed; 4 failed and rolled back; \
    5 failed, node degraded; 1 and 10-18 failed before anything was changed (docs/exit-codes.md).")]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// The NIC family: mlx5, igb, netdevsim, or a path to a TOML file that describes one.
    #[arg(long, global = true, env = "NIC_DRIVER_FAMILY", default_value = "mlx5")]
    pub family: String,
    /// A TOML file with settings: the names of the options, without their dashes. Options and variables go before it.
    #[arg(long, global = true, env = "NIC_DRIVER_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// How results are printed to stdout.
    #[arg(long, global = true, value_enum, default_value_t = Output::Text)]
    pub output: Output,
    /// The machine's root folder: `/`, or a tree to look at.
    #[arg(long, global = true, env = "NIC_DRIVER_ROOT", default_value = "/")]
    pub root: PathBuf,
    /// Where snapshot and journal are kept [default: .nic-driver in MLX_DRIVERS_MOUNT below the root].
    #[arg(long, global = true, env = "NIC_DRIVER_STATE_DIR")]
    pub state_dir: Option<PathBuf>,
    /// What one operation on a NIC may take, in seconds; 2 s more for each VF where it makes all VFs of a PF, or unloads a driver. So long
    /// another nic-driver at work is waited for, too; by install and build for as long as it may be building.
    #[arg(long, global = true, env = "NIC_DRIVER_TIMEOUT", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub timeout: u64,
    /// How many VFs are bound at the same time; each PF has its share.
    #[arg(long, global = true, env = "NIC_DRIVER_JOBS", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..))]
    pub jobs: u16,
    /// How long after SIGTERM the process will be killed, in seconds: what takes longer is not begun.
    #[arg(long, global = true, env = "NIC_DRIVER_GRACE", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub grace: Option<u64>,
    /// What a reload does when the node's default route or the Kubernetes API is behind the NICs that go.
    #[arg(long, global = true, value_enum, env = "NIC_DRIVER_MANAGEMENT_NIC", default_value_t = ManagementNic::Warn)]
    pub management_nic: ManagementNic,
    /// What a reload does when something hangs on the NICs that goes with their driver and is not given back.
    #[arg(long, global = true, value_enum, env = "NIC_DRIVER_LOSSY", default_value_t = Lossy::Warn)]
    pub lossy: Lossy,
    /// A kind of what stands in the way of a reload and is passed over, for those who know better. May be repeated.
    #[arg(
        long,
        global = true,
        value_enum,
        env = "NIC_DRIVER_ASSUME_OK",
        value_name = "KIND",
        value_delimiter = ','
    )]
    pub assume_ok: Vec<Assumption>,
    /// How a reload unloads and loads: by itself, or with the vendor's init script. `terminate` always does it itself.
    #[arg(long, global = true, value_enum, env = "NIC_DRIVER_RELOAD_WITH", default_value_t = ReloadWith::Native)]
    pub reload_with: ReloadWith,
    /// How logs are printed to stderr.
    #[arg(long, global = true, value_enum, env = "NIC_DRIVER_LOG_FORMAT", default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// What is logged, as a tracing filter: `info`, `debug`, `nic_sriov=trace`…
    #[arg(long, global = true, env = "NIC_DRIVER_LOG", default_value = DEFAULT_FILTER)]
    pub log: String,
    /// Where other containers find this one's files.
    #[arg(
        long,
        global = true,
        env = "MLX_DRIVERS_MOUNT",
        default_value = default_paths::DRIVERS_MOUNT,
        hide = true
    )]
    pub drivers_mount: PathBuf,
    /// The readiness file.
    #[arg(
        long,
        global = true,
        env = "DRIVER_READY_PATH",
        default_value = default_paths::READINESS_FILE,
        hide = true
    )]
    pub readiness_file: PathBuf,
    /// The lock file.
    #[arg(
        long,
        global = true,
        env = "LOCK_FILE_PATH",
        default_value = default_paths::LOCK_FILE,
        hide = true
    )]
    pub lock_file: PathBuf,
    /// The blacklist that exists while modules are swapped [default: the host's, where its /etc is mounted].
    #[arg(long, global = true, env = "OFED_BLACKLIST_MODULES_FILE", hide = true)]
    pub blacklist_file: Option<PathBuf>,
    /// Modules that are not the family's own.
    #[command(flatten)]
    pub modules: ModuleArguments,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Install driver packages and make the module index anew. What runs stays as it is.
    #[command(
        after_help = "Example: nic-driver install packages /mnt/drivers-inventory/5.14.0/25.10-1.2.8.0"
    )]
    Install(InstallArguments),
    /// Build packages without installing them: for the inventory, or laid out for an image.
    #[command(after_help = "Example: nic-driver build --driver-version 25.10-1.2.8.0 \
                      --driver-sources /src/MLNX_OFED_SRC-25.10-1.2.8.0 --layer image --archive layer.tar")]
    Build(BuildCommand),
    /// The build sidecar: build what the driver container asks for by dtk.env, and stay until told to stop.
    #[command(after_help = "Example: nic-driver dtk-build, started by dtk_nic_driver_build.sh")]
    DtkBuild,
    /// Swap the loaded modules for the installed ones, when they differ. Leaves an armed snapshot.
    #[command(
        after_help = "Example: nic-driver --family igb reload && nic-driver --family igb restore-sriov"
    )]
    Reload(ReloadArguments),
    /// Show everything that stands in the way of a reload, and what to do about it. Changes nothing.
    #[command(after_help = "Example: nic-driver preflight --output json | jq '.blockers[].what'")]
    Preflight(ReloadArguments),
    /// Give PFs and VFs back what is owed to them by the stored snapshot, and verify it.
    #[command(after_help = "Example: nic-driver restore-sriov --output json")]
    RestoreSriov {
        /// Restore from the record of the last swap, although nothing is owed: what has changed since is undone.
        #[arg(long)]
        from_record: bool,
        /// Let a PF go that was lost in the swap, such as 0000:3b:00.1: nothing is owed to it any more. May be repeated.
        #[arg(long, value_name = "ADDRESS")]
        forget_pf: Vec<String>,
    },
    /// Take readiness away and clean up; on demand go back to the inbox driver.
    #[command(after_help = "Example: nic-driver terminate --restore-driver")]
    Terminate {
        /// Go back to the driver that the distribution brought, and restore the NICs under it.
        #[arg(long, env = "RESTORE_DRIVER_ON_POD_TERMINATION", default_value_t = false, value_parser = parse_bool, num_args = 0..=1, default_missing_value = "true")]
        restore_driver: bool,
    },
    /// The driver container's entrypoint: everything from packages to readiness, then wait to be told to stop.
    #[command(after_help = "Example: nic-driver run sources")]
    Run(RunArguments),
    /// Take a snapshot of the NICs and store it.
    #[command(after_help = "Example: nic-driver snapshot --output json | jq '.snapshot.nics.pfs[].num_vfs'")]
    Snapshot,
    /// Show what a command would do, and do nothing.
    #[command(after_help = "Example: nic-driver plan restore-sriov")]
    Plan {
        /// The command.
        #[command(subcommand)]
        of: Planned,
    },
    /// Tell how the node is and what to do next: NICs, modules, what is owed, the way back, the last night.
    #[command(after_help = "Example: nic-driver status --output json | jq .verdict")]
    Status(StatusArguments),
    /// Answer a probe of the kubelet, within milliseconds: 0 when it passes, 1 when it does not.
    #[command(after_help = "Example: nic-driver probe ready")]
    Probe {
        /// What is asked.
        #[arg(value_enum)]
        asked: Probe,
    },
    /// Show every setting in force, and where it comes from: an option, a variable, the file, or nobody. Takes the options of all commands.
    #[command(
        after_help = "Example: nic-driver config --output json | jq '.settings[] | select(.from != \"default\")'"
    )]
    Config(ConfigArguments),
    /// Tell what happened, from the journal: how it ended, swaps, srcversions, VFs, what was in the way, and how long what was away.
    #[command(after_help = "Example: nic-driver report --last --format html --file night.html")]
    Report(ReportArguments),
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

impl Command {
    /// Whether the command changes nothing: what it shows is all that it does.
    pub(super) fn only_shows(&self) -> bool {
        match self {
            Self::Preflight { .. }
            | Self::Plan { .. }
            | Self::Status(_)
            | Self::Probe { .. }
            | Self::Config(_)
            | Self::Report(_)
            | Self::Completions { .. }
            | Self::Man => true,
            Self::Install(_)
            | Self::Build(_)
            | Self::DtkBuild
            | Self::Reload { .. }
            | Self::RestoreSriov { .. }
            | Self::Terminate { .. }
            | Self::Run(_)
            | Self::Snapshot => false,
        }
    }
}

/// What `plan` can plan.
#[derive(Debug, Subcommand)]
pub enum Planned {
    /// What `install` would run on this node: each command with its environment, and what it is for.
    Install(InstallArguments),
    /// What `reload` would do with the same options: each step, what stands in the way, and what is left out.
    Reload(ReloadArguments),
    /// What `restore-sriov` would do.
    RestoreSriov {
        /// From the record of the last swap.
        #[arg(long)]
        from_record: bool,
    },
}

/// What is asked of one reload, and of its plan.
#[derive(Debug, Clone, Copy, Args)]
pub struct ReloadArguments {
    /// Try a driver again that was rolled back, although nothing has changed since.
    #[arg(long, env = "NIC_DRIVER_RETRY_ROLLED_BACK", default_value_t = false, value_parser = parse_bool, num_args = 0..=1, default_missing_value = "true")]
    pub retry_rolled_back: bool,
    /// Swap the modules also when the loaded ones are the installed ones.
    #[arg(long)]
    pub force: bool,
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
