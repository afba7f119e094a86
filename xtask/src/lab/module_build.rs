//! Building one kernel module out of tree, with its sources edited.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};

use super::kernel::KernelTree;
use super::process;

/// The PF's driver.
pub(super) const IGB: Source = Source {
    module: "igb",
    folder: "drivers/net/ethernet/intel/igb",
    main: "igb_main.c",
    switches: &["CONFIG_IGB=m"],
};
/// Where a module's sources are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source {
    pub(super) module: &'static str,
    pub(super) folder: &'static str,
    pub(super) main: &'static str,
    /// What make is told.
    pub(super) switches: &'static [&'static str],
}

/// Source text that is put in before the first `before` that follows `after`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Insertion {
    pub(super) text: &'static str,
    pub(super) before: &'static str,
    pub(super) after: &'static str,
}

/// A built module.
#[derive(Debug, Clone)]
pub(crate) struct Built {
    /// Its name.
    pub(crate) module: &'static str,
    /// The folder of its sources in the kernel's tree; packages keep that path.
    pub(crate) folder: &'static str,
    /// The stripped file.
    pub(crate) file: PathBuf,
}

/// Builds one module out of tree, its main file edited, and returns a stripped copy. The second variant of a module is
/// built where the first one was, so that make compiles only what differs.
///
/// `MODULE_VERSION` gives it a version, and with it a srcversion (scripts/mod/modpost.c, `add_srcversion`), which the inbox
/// modules of this distribution lack.
pub(super) fn build(
    tree: &KernelTree,
    source: Source,
    variant: &str,
    builds: &Path,
    edit: impl FnOnce(String) -> anyhow::Result<String>,
) -> anyhow::Result<PathBuf> {
    let build = builds.join(source.module);
    if !build.exists() {
        process::run(Command::new("cp").arg("--recursive").arg(tree.source(source.folder)).arg(&build))?;
    }
    let original = tree.source(source.folder).join(source.main);
    let text =
        fs::read_to_string(&original).with_context(|| format!("cannot read {}", original.display()))?;
    let text = edit(text).with_context(|| format!("cannot edit {}", original.display()))?;
    let main = build.join(source.main);
    fs::write(&main, text).with_context(|| format!("cannot write {}", main.display()))?;
    make_modules(tree, &build, source.switches)?;
    let built = build.join(format!("{}.ko", source.module));
    let file = builds.join(format!("{}-{variant}.ko", source.module));
    process::run(Command::new("strip").arg("--strip-debug").arg("-o").arg(&file).arg(&built))?;
    Ok(file)
}

fn make_modules(tree: &KernelTree, build: &Path, switches: &[&str]) -> anyhow::Result<()> {
    let jobs = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut make = Command::new("make");
    make.arg(format!("-j{jobs}")).arg("-C").arg(tree.headers()).arg(format!("M={}", build.display()));
    process::run(make.args(switches).arg("modules"))
}

pub(super) fn build_own(
    tree: &KernelTree,
    module: &str,
    source: &str,
    builds: &Path,
    packages: &Path,
) -> anyhow::Result<()> {
    let build = builds.join(module);
    fs::create_dir(&build).with_context(|| format!("cannot create {}", build.display()))?;
    fs::write(build.join(format!("{module}.c")), source).context("cannot write a module's source")?;
    fs::write(build.join("Kbuild"), format!("obj-m := {module}.o\n")).context("cannot write its Kbuild")?;
    make_modules(tree, &build, &["W="])?;
    let file = format!("{module}.ko");
    fs::copy(build.join(&file), packages.join(&file)).context("cannot copy a module").map(drop)
}

pub(super) fn insert(text: &str, insertion: &Insertion) -> anyhow::Result<String> {
    let not_there = |part: &str| format!("{:?} is not in it", part.lines().next().unwrap_or_default());
    let from =
        text.find(insertion.after).with_context(|| not_there(insertion.after))? + insertion.after.len();
    let (head, tail) = text.split_at(from);
    let at = tail.find(insertion.before).with_context(|| not_there(insertion.before))?;
    let (between, tail) = tail.split_at(at);
    Ok(format!("{head}{between}{}{tail}", insertion.text))
}

pub(super) fn srcversion(module: &Path) -> anyhow::Result<String> {
    let text = process::output(Command::new("/sbin/modinfo").args(["-F", "srcversion"]).arg(module))?;
    let srcversion = text.trim();
    ensure!(!srcversion.is_empty(), "{} has no srcversion", module.display());
    Ok(srcversion.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_put_in_at_its_place_or_not_at_all() {
        let source = "int a;\nint a(void)\n{\n\treturn 1;\n}\nint b(void)\n{\n\treturn 1;\n}\n";
        let insertion = |before, after| insert(source, &Insertion { text: "\tx();\n", before, after });
        let edited = insertion("\treturn", "int b(void)\n{\n").unwrap();
        assert_eq!(edited, source.replace("b(void)\n{\n", "b(void)\n{\n\tx();\n"));
        insertion("\treturn", "int c(void)").unwrap_err();
        insertion("\tbreak", "int b(void)").unwrap_err();
    }
}
