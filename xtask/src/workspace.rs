//! The workspace as cargo describes it.

use anyhow::Context as _;
use cargo_metadata::{Metadata, MetadataCommand};

/// The workspace this program was built in. Only its own packages: dependencies need not be resolved for that.
pub(crate) fn metadata() -> anyhow::Result<Metadata> {
    MetadataCommand::new()
        .manifest_path(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"))
        .no_deps()
        .exec()
        .context("cannot ask cargo about the workspace")
}
