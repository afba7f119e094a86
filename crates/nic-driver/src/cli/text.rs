//! Results as texts for people.

use serde::Serialize;

use crate::phase::{self, PackagesFrom};

/// Gives a phase's result a text for people; serialises as the result itself.
macro_rules! text_of {
    ($name:ident, $result:ty, |$value:ident, $f:ident| $body:expr) => {
        #[derive(Serialize)]
        #[serde(transparent)]
        pub(super) struct $name<'a>(pub(super) &'a $result);

        impl std::fmt::Display for $name<'_> {
            fn fmt(&self, $f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                let $value = self.0;
                $body
            }
        }
    };
}

text_of!(InstalledText, phase::Installed, |installed, f| {
    let verb = if installed.changed { "installed" } else { "already installed" };
    let installs = installed.from != PackagesFrom::Image;
    for package in installed.record.packages.iter().filter(|_| installs) {
        writeln!(f, "{verb}: {} {}", package.name, package.version)?;
    }
    match &installed.from {
        PackagesFrom::Folder => Ok(()),
        PackagesFrom::Image => {
            writeln!(f, "the modules for {} are in the image, and indexed", installed.record.kernel)
        }
        from => writeln!(f, "from: {from}"),
    }
});

text_of!(BuiltText, phase::BuiltPackages, |built, f| {
    for package in &built.packages {
        writeln!(f, "{}", package.display())?;
    }
    if let Some(layer) = &built.layer {
        writeln!(f, "laid out in {}: {} modules for {}", layer.display(), built.modules.len(), built.kernel)?;
    }
    writeln!(f, "from: {}", built.from)
});

text_of!(ReloadedText, phase::Reloaded, |reloaded, f| {
    for module in &reloaded.identity.modules {
        writeln!(f, "{}: {}", module.module, module.verdict)?;
    }
    if reloaded.reloaded {
        let pfs: Vec<String> = reloaded.pfs.iter().map(ToString::to_string).collect();
        writeln!(f, "reloaded; PFs to be restored: {}", pfs.join(", "))?;
        for module in &reloaded.lost {
            writeln!(f, "not loaded any more: {module}")?;
        }
    } else {
        writeln!(f, "not due: nothing was unloaded")?;
        for module in &reloaded.loaded {
            writeln!(f, "loaded beside the driver: {module}")?;
        }
        for module in &reloaded.not_loaded {
            writeln!(f, "cannot be loaded, and the driver works without it: {module}")?;
        }
        if reloaded.restore_due {
            writeln!(f, "restore-sriov is due: an earlier reload was not followed by a verified restore")?;
        }
    }
    let Some(restored) = &reloaded.restored else { return Ok(()) };
    writeln!(f, "asked to stop, and so restored at once")?;
    write_restored(restored, f)
});

text_of!(RestoredText, phase::RestoreOrNothing, |restored, f| match restored {
    phase::RestoreOrNothing::Restored(restored) => write_restored(restored, f),
    phase::RestoreOrNothing::NothingOwed(nothing) => writeln!(f, "{}", nothing.summary()),
});

text_of!(TerminatedText, phase::Terminated, |terminated, f| {
    for package in &terminated.removed {
        writeln!(f, "removed: {package}")?;
    }
    for folder in &terminated.withdrawn {
        writeln!(f, "taken out of the host's modules: {}", folder.display())?;
    }
    match &terminated.reloaded {
        None => writeln!(f, "not ready any more; the driver stays")?,
        Some(reloaded) if reloaded.reloaded => writeln!(f, "back to the inbox driver")?,
        Some(_) => writeln!(f, "the inbox driver was running already")?,
    }
    terminated.restored.as_ref().map_or(Ok(()), |restored| write_restored(restored, f))
});

text_of!(SnapshotText, phase::TakenSnapshot, |taken, f| {
    if let Some(aside) = &taken.set_aside {
        writeln!(f, "the snapshot that was there could not be used; it is now {}", aside.display())?;
    }
    for pf in &taken.snapshot.nics.pfs {
        let netdev = pf.netdev.as_set().map_or("no netdev", |netdev| netdev.name.as_str());
        writeln!(f, "PF {} ({netdev}): {} VFs", pf.address, pf.num_vfs)?;
    }
    for not_known in &taken.not_known {
        writeln!(f, "not known, and not given back: {not_known}")?;
    }
    writeln!(f, "stored in {}", taken.path.display())
});

fn write_restored(restored: &phase::Restored, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
    let outcome = &restored.outcome;
    for skipped in &outcome.skipped {
        writeln!(f, "left alone: {skipped}")?;
    }
    for difference in &outcome.differences {
        writeln!(f, "{difference}")?;
    }
    if !outcome.is_verified() {
        for failure in &outcome.failures {
            writeln!(f, "{}: {}: {}", failure.component, failure.step, failure.cause)?;
        }
    }
    for difference in restored.network.iter().flat_map(|network| &network.differences) {
        writeln!(f, "{difference}")?;
    }
    for failure in restored.network.iter().flat_map(|network| &network.failures) {
        writeln!(f, "{}: {}", failure.step, failure.cause)?;
    }
    writeln!(f, "{}", restored.summary())
}
