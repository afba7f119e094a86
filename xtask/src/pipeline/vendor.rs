//! The vendor's sources: igb and igbvf of the kernel's own source in a version, behind an `install.pl` that takes the vendor's
//! flags and writes its output layout.

use std::fmt::Write as _;
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

/// What rpmbuild goes by.
const SPEC: &str = "lab-igb.spec";

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
        compile_as_one(&sources.join(module), module, &main)?;
    }
    let more = [
        ("SOURCES/Kbuild", include_str!("vendor/Kbuild")),
        ("SOURCES/dkms.conf", include_str!("vendor/dkms.conf")),
        (SPEC, include_str!("vendor/lab-igb.spec")),
    ];
    write(folder, version, &more)
}

/// Makes one source file of a module's, `main` before the others. A guest's compiler is emulated, and reads the kernel's headers for
/// each file anew: one file, without what a debugger reads and with the lesser optimisations, takes a third of the time.
fn compile_as_one(folder: &Path, module: &str, main: &Path) -> anyhow::Result<()> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        files.push(entry.with_context(|| format!("cannot list {}", folder.display()))?.path());
    }
    files.retain(|file| file.extension().is_some_and(|extension| extension == "c"));
    files.sort_by_key(|file| (file != main, file.clone()));
    let mut text = String::new();
    for file in &files {
        let name = file.file_name().context("a source file has no name")?.display();
        writeln!(text, "#include \"{name}\"")?;
    }
    let makefile = format!("obj-m := {module}.o\nccflags-y := -g0 -O1\n");
    for (name, text) in [(format!("{module}.c"), text), ("Makefile".to_owned(), makefile)] {
        let file = folder.join(name);
        fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}

/// The same for Red Hat's systems alone, with modules that were compiled before: what takes a compiler minutes in a guest takes
/// rpmbuild seconds. Packages, folders and headers have the names of the vendor's own, by which others find them on a node.
/// `compiled` holds the modules.
pub(crate) fn lay_out_compiled(compiled: &Path, version: &str, folder: &Path) -> anyhow::Result<()> {
    let sources = folder.join("SOURCES");
    fs::create_dir_all(&sources).with_context(|| format!("cannot create {}", sources.display()))?;
    for (module, _) in MODULES {
        let (module, name) = (compiled.join(format!("{module}.ko")), format!("{module}.ko"));
        fs::copy(&module, sources.join(name)).with_context(|| format!("cannot copy {}", module.display()))?;
    }
    write(folder, version, &[(SPEC, include_str!("vendor/mlnx-ofa_kernel.spec"))])
}

/// Writes `install.pl` and `more` files.
fn write(folder: &Path, version: &str, more: &[(&str, &str)]) -> anyhow::Result<()> {
    let install = ("install.pl", include_str!("vendor/install.pl"));
    for (name, text) in more.iter().chain([&install]) {
        let mode = if *name == install.0 { 0o755 } else { 0o644 };
        let file = folder.join(name);
        fs::write(&file, text.replace("@VERSION@", version))
            .and_then(|()| fs::set_permissions(&file, fs::Permissions::from_mode(mode)))
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}
