//! The arguments of `status`.

use clap::Args;

/// How much is told, and how often.
#[derive(Debug, Args)]
pub struct StatusArguments {
    /// In text: each module and each VF, and not only what is wrong.
    #[arg(long)]
    pub all: bool,
    /// End with 0 only when the node is ready and nothing is to be done, and else with 1.
    #[arg(long)]
    pub check: bool,
    /// Tell it again every two seconds, until asked to stop.
    #[arg(long, conflicts_with = "check")]
    pub watch: bool,
}
