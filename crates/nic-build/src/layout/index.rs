//! The index of a tree's modules, as modprobe(8) reads it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use nic_host::{Host, Invocation, KernelRelease};
use walkdir::WalkDir;

use super::error::LayoutError;
use super::tree::TreeError;

const DEADLINE: Duration = Duration::from_secs(5 * 60);
/// Written for the time of one command, and not what the building machine has in `/etc/depmod.d`. `host` is not named, so the
/// kernel's own modules come last.
const CONFIGURATION: &str = "search updates extra weak-updates built-in\n";
const CONFIGURATION_FILE: &str = "depmod.conf.nic-driver";

/// Builds the index of `folder`, the kernel's folder below `base`. Returns the modules in it, sorted, as paths below it.
pub(super) async fn build(
    host: &Host,
    base: &Path,
    folder: &Path,
    kernel: &KernelRelease,
) -> Result<Vec<PathBuf>, LayoutError> {
    let seen = host.path(folder);
    let mut modules = Vec::new();
    for entry in WalkDir::new(&seen).sort_by_file_name() {
        let entry = entry.map_err(|error| TreeError::Make {
            path: error.path().unwrap_or(&seen).to_path_buf(),
            source: error.into(),
        })?;
        let is_module = [".ko", ".ko.xz", ".ko.zst", ".ko.gz"]
            .iter()
            .any(|suffix| entry.file_name().to_string_lossy().ends_with(suffix));
        if is_module && let Ok(below) = entry.path().strip_prefix(&seen) {
            modules.push(below.to_path_buf());
        }
    }
    // depmod sorts by the first of these two. Without it the index would rest on how depmod happens to walk the folder.
    let order: String = modules.iter().map(|module| format!("{}\n", uncompressed(module))).collect();
    host.write_durably(folder.join("modules.order"), order.as_bytes())?;
    host.write_durably(folder.join("modules.builtin"), b"")?;
    let configuration = folder.join(CONFIGURATION_FILE);
    host.write_durably(&configuration, CONFIGURATION.as_bytes())?;
    let depmod = Invocation::new("depmod")
        .arg("-b")
        .arg(host.path(base))
        .arg("-C")
        .arg(host.path(&configuration))
        .arg(kernel.as_str())
        .deadline(DEADLINE);
    let result = host.run(&depmod).await;
    host.remove_file(&configuration)?;
    result?;
    Ok(modules)
}

/// `modules.order` names modules as they were built, before they were compressed.
fn uncompressed(module: &Path) -> String {
    let text = module.to_string_lossy();
    match text.rsplit_once(".ko") {
        Some((name, _compression)) => format!("{name}.ko"),
        None => text.into_owned(),
    }
}
