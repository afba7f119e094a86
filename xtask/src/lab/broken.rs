//! Drivers that are packed and installed like any other, and do not come up: of another kernel, with a symbol that no
//! kernel has, with a probe or a start that fails. Only igb is broken; igbvf is the latest version's.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};

use super::kernel::KernelTree;
use super::module_build::{Built, IGB, Insertion, Source, build, insert};
use super::package;

/// One of them.
struct Broken {
    /// Its folder among the packages.
    name: &'static str,
    version: &'static str,
    /// What makes it broken; `None` when the built file is edited instead.
    insertions: Option<&'static [Insertion]>,
}

const BROKEN: [Broken; 4] = [
    Broken { name: "wrong-vermagic", version: "25.11-0.0.1.0", insertions: None },
    Broken { name: "unresolved-symbol", version: "25.11-0.0.2.0", insertions: Some(&CALL) },
    Broken { name: "failing-probe", version: "25.11-0.0.3.0", insertions: Some(&FAIL) },
    Broken { name: "failing-init", version: "25.11-0.0.4.0", insertions: Some(&REFUSE) },
];
/// The kernel's build takes a symbol that nobody has for an error. Here it is the point.
const SOURCE: Source = Source { switches: &["CONFIG_IGB=m", "KBUILD_MODPOST_WARN=1"], ..IGB };

const CALL: [Insertion; 2] = [
    Insertion {
        text: "extern void lab_no_such_symbol(void);\n\n",
        before: "static int __init igb_init_module(void)\n{",
        after: "",
    },
    Insertion {
        text: "\tlab_no_such_symbol();\n",
        before: "\tpr_info(",
        after: "static int __init igb_init_module(void)\n{",
    },
];
const REFUSE: [Insertion; 1] = [Insertion {
    text: "\tif (1)\n\t\treturn -EIO;\n\n",
    before: "\tpr_info(",
    after: "static int __init igb_init_module(void)\n{",
}];
const FAIL: [Insertion; 1] = [Insertion {
    text: "\tdev_err(&pdev->dev, \"lab: this driver's probe fails\\n\");\n\treturn -EIO;\n\n",
    before: "\terr = pci_enable_device_mem(pdev);\n",
    after: "static int igb_probe(struct pci_dev *pdev, const struct pci_device_id *ent)\n{",
}];

/// Packs them below `packages`. `latest` are the modules of a version that comes up.
pub(super) fn pack(
    tree: &KernelTree,
    latest: &[Built],
    builds: &Path,
    packages: &Path,
) -> anyhow::Result<()> {
    let igb = latest.iter().find(|built| built.module == IGB.module).context("igb is not built")?;
    for Broken { name, version, insertions } in BROKEN {
        let file = match insertions {
            None => for_another_kernel(&igb.file, &builds.join("igb-for-another-kernel.ko"))?,
            Some(insertions) => build(tree, SOURCE, name, builds, |text| {
                let text = insertions.iter().try_fold(text, |text, insertion| insert(&text, insertion))?;
                Ok(format!("{text}\nMODULE_VERSION(\"{version}\");\n"))
            })?,
        };
        let others = latest.iter().filter(|built| built.module != IGB.module).cloned();
        let built: Vec<Built> = others.chain([Built { file, ..igb.clone() }]).collect();
        package::rpm(&built, version, tree.release(), &packages.join(name).join("rpm"))?;
    }
    Ok(())
}

/// A copy of a module that says it was built for a kernel without SMP. Only what is behind the release counts where
/// symbols have versions (kernel/module/version.c, `same_magic`).
fn for_another_kernel(module: &Path, copy: &Path) -> anyhow::Result<PathBuf> {
    let mut bytes = fs::read(module).with_context(|| format!("cannot read {}", module.display()))?;
    replace_in_magic(&mut bytes, b" SMP ", b" UP! ")
        .with_context(|| format!("cannot edit the vermagic of {}", module.display()))?;
    fs::write(copy, bytes).with_context(|| format!("cannot write {}", copy.display()))?;
    Ok(copy.to_path_buf())
}

/// Replaces a word of the entry `vermagic=` by one of the same length.
fn replace_in_magic(bytes: &mut [u8], word: &[u8], by: &[u8]) -> anyhow::Result<()> {
    const KEY: &[u8] = b"\0vermagic=";
    ensure!(word.len() == by.len(), "the words differ in length");
    let find = |text: &[u8], part: &[u8]| text.windows(part.len()).position(|window| window == part);
    let start = find(bytes, KEY).context("it has none")? + KEY.len();
    let entry = bytes.get_mut(start..).context("it has none")?;
    let end = entry.iter().position(|byte| *byte == 0).context("it has no end")?;
    let entry = entry.get_mut(..end).context("it has no end")?;
    let Some(at) = find(entry, word) else { bail!("it is {:?}", String::from_utf8_lossy(entry)) };
    entry.get_mut(at..at + by.len()).context("it has no end")?.copy_from_slice(by);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_magic_is_edited() {
        let mut module = b"x SMP \0vermagic=6.1 SMP mod_unload \0y SMP \0".to_vec();
        replace_in_magic(&mut module, b" SMP ", b" UP! ").unwrap();
        assert_eq!(module, b"x SMP \0vermagic=6.1 UP! mod_unload \0y SMP \0");
        replace_in_magic(&mut module, b" SMP ", b" UP! ").unwrap_err();
        replace_in_magic(&mut b"vermagic".to_vec(), b"a", b"b").unwrap_err();
    }
}
