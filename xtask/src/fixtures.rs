//! `cargo xtask fixtures`: writes the trees below `fixtures/` that stand for machines.
//!
//! They are generated, so that what they say of a machine is read in a table of some hundred lines and not in as many
//! files, and committed, so that tests and people need nothing to use them. `cargo xtask check` compares the two.

mod documented_night;
mod documented_node;
mod infiniband;
mod module;
mod node;
mod tree;

use std::path::Path;

use crate::workspace;
use tree::Tree;

/// The journal of a night like the documented one, with so many VFs of each PF.
pub(crate) fn night(vfs: &[usize]) -> anyhow::Result<String> {
    documented_night::journal(vfs)
}

/// Every tree, by its folder below the workspace's root.
fn trees() -> anyhow::Result<Vec<(&'static str, Tree)>> {
    Ok(vec![
        ("fixtures/documented-node/before", documented_node::before().tree()?),
        ("fixtures/documented-node/after-reload", documented_node::after_reload().tree()?),
        ("fixtures/documented-night/state", documented_night::state()?),
        ("fixtures/infiniband", infiniband::node().tree()?),
    ])
}

pub(crate) fn run() -> anyhow::Result<()> {
    let metadata = workspace::metadata()?;
    let root = metadata.workspace_root.as_std_path();
    for (folder, tree) in trees()? {
        tree.write(&root.join(folder))?;
        println!("{folder}: {} files and links", tree.len());
    }
    Ok(())
}

/// How the committed trees differ from what would be written now.
pub(crate) fn differences(root: &Path) -> anyhow::Result<Vec<String>> {
    let mut differences = Vec::new();
    for (folder, tree) in trees()? {
        for difference in tree.differences(&root.join(folder))? {
            differences.push(format!("{folder}/{difference} (`cargo xtask fixtures` writes it anew)"));
        }
    }
    Ok(differences)
}
