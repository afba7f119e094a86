//! Going back: the files of the modules that are loaded, also when modprobe would load others, and loading from them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use nic_host::{CommandError, Host, Invocation};

use crate::file::open_unpacked;
use crate::load::wait_until_live;
use crate::parameter::{UnsayableParameter, arguments};
use crate::{IdentityVerdict, LoadError, LoadedModule, ModuleFile, ModuleFileError, ModuleName, OnDisk};

/// The files of these modules anywhere below `folder`, such as `/lib/modules/<release>`, sorted. There can be several
/// of a module: the distribution's own, and a package's that modprobe prefers.
///
/// What cannot be listed is passed over with a log line: it is searched for files that are worth having.
#[must_use]
pub fn find_module_files(host: &Host, folder: &Path, names: &[ModuleName]) -> Vec<(ModuleName, PathBuf)> {
    let mut found = Vec::new();
    // Folders behind links are not searched: `build` and `source` lead to whole kernel trees.
    for entry in walkdir::WalkDir::new(host.path(folder)).sort_by_file_name() {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                tracing::info!(%error, "a folder cannot be listed; no module is looked for in it");
                continue;
            }
        };
        let name = entry.file_name().to_str().and_then(ModuleName::of_file);
        let Some(name) = name.filter(|name| names.contains(name) && !entry.file_type().is_dir()) else {
            continue;
        };
        // Paths of the host again, not of this process.
        if let Ok(below) = entry.path().strip_prefix(host.path(folder)) {
            found.push((name, folder.join(below)));
        }
    }
    found
}

/// The file among `candidates` that the module was loaded from, or one of the same build. One that cannot be told
/// from others by an identity is never chosen.
#[must_use]
pub fn file_of_loaded(
    loaded: &LoadedModule,
    candidates: impl IntoIterator<Item = ModuleFile>,
) -> Option<ModuleFile> {
    candidates.into_iter().find(|file| {
        let on_disk = OnDisk::File(Box::new(file.clone()));
        file.name == loaded.name
            && matches!(IdentityVerdict::of(Some(loaded), &on_disk), IdentityVerdict::Equal(_))
    })
}

/// The longest module that is read as a whole, in bytes. Those of a driver, with all their debugging information, stay below a half
/// of it.
pub const LONGEST_WHOLE: u64 = 128 << 20;

/// The bytes of a module's file as the kernel takes them, unpacked, with its signature.
///
/// `insmod` hands packed files to the kernel as they are, which not every kernel unpacks.
///
/// # Errors
/// The file cannot be read or unpacked, or has more than [`LONGEST_WHOLE`].
pub fn read_unpacked(host: &Host, path: impl AsRef<Path>) -> Result<Vec<u8>, ModuleFileError> {
    open_unpacked(host, path.as_ref(), LONGEST_WHOLE, |mut content| {
        let mut bytes = Vec::new();
        content.read_to_end(&mut bytes)?;
        Ok(bytes)
    })
}

/// The command that loads a module from its file.
fn insmod(file: &Path, parameters: &[(&str, &str)]) -> Result<Invocation, UnsayableParameter> {
    Ok(Invocation::new("insmod").arg(file).args(arguments(parameters.iter().copied())?))
}

/// Loads a module from `file`, whatever modprobe would load, and returns when it is live. What it depends on must be
/// loaded. A module of that name that is loaded already is left as it is.
///
/// modprobe's configuration (`options`) does not apply.
pub async fn load_file(
    host: &Host,
    module: &ModuleName,
    file: &Path,
    parameters: &[(&str, &str)],
    deadline: Duration,
) -> Result<(), LoadError> {
    if !host.is_running_machine() {
        return Err(LoadError::NotRunningMachine { module: module.clone(), root: host.root().to_path_buf() });
    }
    let started = std::time::Instant::now();
    let invocation =
        insmod(file, parameters).map_err(|source| LoadError::Parameter { module: module.clone(), source })?;
    match host.run(&invocation.deadline(deadline)).await {
        Ok(_) => {}
        // EEXIST, as kmod's insmod says it.
        Err(CommandError::Failed { last_words, .. }) if last_words.contains("File exists") => {}
        Err(source) => return Err(LoadError::Insmod { module: module.clone(), source }),
    }
    wait_until_live(host, module, deadline.saturating_sub(started.elapsed())).await?;
    tracing::info!(%module, file = %file.display(), took = ?started.elapsed(), "module loaded from its file");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compression::Compression;
    use crate::fixture::{file, module, name, names, pack};

    fn loaded(srcversion: Option<&str>, build_id: Option<&str>) -> LoadedModule {
        LoadedModule {
            srcversion: srcversion.map(|text| text.parse().unwrap()),
            build_id: build_id.map(|text| text.parse().unwrap()),
            ..LoadedModule::new(name("igb"), Vec::new())
        }
    }

    #[test]
    fn all_files_of_a_module_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::at(dir.path());
        for path in [
            "kernel/net/igb.ko.xz",
            "updates/igb.ko",
            "kernel/net/e1000e.ko",
            "kernel/ib-core.ko.zst",
            "igb.txt",
        ] {
            file(dir.path(), &format!("lib/modules/6.1/{path}"), "");
        }
        std::fs::create_dir(dir.path().join("lib/modules/6.1/igb.ko")).unwrap();
        std::os::unix::fs::symlink("/", dir.path().join("lib/modules/6.1/build")).unwrap();
        let folder = Path::new("/lib/modules/6.1");
        let found = find_module_files(&host, folder, &names("igb ib_core"));
        let expected = [
            ("ib_core", "kernel/ib-core.ko.zst"),
            ("igb", "kernel/net/igb.ko.xz"),
            ("igb", "updates/igb.ko"),
        ];
        assert_eq!(found, expected.map(|(module, path)| (name(module), folder.join(path))));
        assert_eq!(find_module_files(&host, Path::new("/nowhere"), &names("igb")), []);
    }

    #[test]
    fn the_file_of_what_is_loaded() {
        const ONE: &str = "1BC29B36F623BA82AAF6724";
        const OTHER: &str = "2BC29B36F623BA82AAF6724";
        let candidate = |path: &str, srcversion: Option<&str>, id: Option<&[u8]>| {
            let entries: Vec<String> = std::iter::once("name=igb".to_owned())
                .chain(srcversion.map(|version| format!("srcversion={version}")))
                .collect();
            let entries: Vec<&str> = entries.iter().map(String::as_str).collect();
            ModuleFile::parse(Path::new(path), &module(&entries, id)).unwrap()
        };
        let id = [7; 20];
        let inbox = candidate("/kernel/igb.ko", None, Some(&id));
        let vendor = candidate("/updates/igb.ko", Some(ONE), None);
        let unknown = candidate("/extra/igb.ko", None, None);
        let all = || vec![unknown.clone(), vendor.clone(), inbox.clone()];
        let hex = "07".repeat(20);
        for (loaded, expected) in [
            (loaded(Some(ONE), None), Some(&vendor)),
            (loaded(None, Some(&hex)), Some(&inbox)),
            (loaded(Some(OTHER), None), None),
            // Nothing tells this one from any other.
            (loaded(None, None), None),
        ] {
            assert_eq!(file_of_loaded(&loaded, all()).as_ref(), expected);
        }
    }

    #[test]
    fn a_packed_file_is_unpacked_for_insmod() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::at(dir.path());
        let bytes = module(&["name=igb"], None);
        for (path, packing) in
            [("a.ko", Compression::None), ("a.ko.xz", Compression::Xz), ("a.ko.zst", Compression::Zstd)]
        {
            file(dir.path(), path, pack(packing, &bytes));
            assert_eq!(read_unpacked(&host, Path::new("/").join(path)).unwrap(), bytes);
        }
        assert_eq!(
            insmod(Path::new("/a b.ko"), &[("async_probe", "1")]).unwrap().to_string(),
            "insmod '/a b.ko' 'async_probe=1'"
        );
    }

    #[tokio::test]
    async fn a_tree_cannot_load_a_file() {
        let host = Host::at("/nowhere");
        let error =
            load_file(&host, &name("igb"), Path::new("/igb.ko"), &[], Duration::ZERO).await.unwrap_err();
        assert!(matches!(error, LoadError::NotRunningMachine { .. }), "{error}");
    }
}
