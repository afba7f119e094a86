//! The vendor's sources: igb and igbvf of the kernel's own source in a version, behind an `install.pl` that takes the vendor's
//! flags and writes its output layout.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::Context as _;

use crate::lab::{KernelTree, process};

/// Where the kernel's source tree has the modules, and the files that get the version.
const MODULES: [(&str, &str); 2] = [("igb", "igb_main.c"), ("igbvf", "netdev.c")];
/// What the name of the package begins with.
pub(super) const NAME: &str = "lab-igb";

/// Lays out the sources of `version` in `folder`, which must not exist.
pub(crate) fn lay_out(tree: &KernelTree, version: &str, folder: &Path) -> anyhow::Result<()> {
    let sources = folder.join("SOURCES");
    fs::create_dir_all(&sources).with_context(|| format!("cannot create {}", sources.display()))?;
    for (module, main) in MODULES {
        let original = tree.source(&format!("drivers/net/ethernet/intel/{module}"));
        process::run(Command::new("cp").arg("--recursive").arg(&original).arg(&sources))?;
        let main = sources.join(module).join(main);
        let text = fs::read_to_string(&main).with_context(|| format!("cannot read {}", main.display()))?;
        fs::write(&main, format!("{text}\nMODULE_VERSION(\"{version}\");\n"))
            .with_context(|| format!("cannot write {}", main.display()))?;
    }
    let spec = format!("{NAME}.spec");
    for (name, text, mode) in [
        ("SOURCES/Kbuild", include_str!("vendor/Kbuild"), 0o644),
        ("SOURCES/dkms.conf", include_str!("vendor/dkms.conf"), 0o644),
        (&spec, include_str!("vendor/lab-igb.spec"), 0o644),
        ("install.pl", include_str!("vendor/install.pl"), 0o755),
    ] {
        let file = folder.join(name);
        fs::write(&file, text.replace("@VERSION@", version))
            .and_then(|()| fs::set_permissions(&file, fs::Permissions::from_mode(mode)))
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}
