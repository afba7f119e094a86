//! Folders that are expensive to make and depend on nothing but their recipe.
//!
//! A folder is made under a temporary name and renamed when it is complete, so one that is there is whole, however a run
//! was interrupted. Its name carries a hash of the recipe, so a changed recipe makes a new one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::Context as _;
use sha2::{Digest as _, Sha256};

use super::process;

/// With what the name of a folder begins that is being made.
const MAKING: &str = ".making-";

/// The folder of all cached folders.
#[derive(Debug, Clone)]
pub(crate) struct Cache {
    root: PathBuf,
}

/// A cached folder: where it is, and a key for recipes that build on it.
#[derive(Debug, Clone)]
pub(crate) struct Cached {
    path: PathBuf,
    key: String,
}

impl Cache {
    /// The cache below `root`; removes what an interrupted run left half made. The caller sees to it that nobody else makes
    /// something there meanwhile.
    pub(crate) fn open(root: PathBuf) -> anyhow::Result<Self> {
        fs::create_dir_all(&root).with_context(|| format!("cannot create {}", root.display()))?;
        let cache = Self { root };
        cache.remove_where(|entry| name_of(entry).starts_with(MAKING))?;
        Ok(cache)
    }

    /// The folder `name` made by the recipe that `ingredients` describe. `make` fills an empty folder when there is none.
    pub(crate) fn folder(
        &self,
        name: &str,
        ingredients: &[&str],
        make: impl FnOnce(&Path) -> anyhow::Result<()>,
    ) -> anyhow::Result<Cached> {
        let key = hash(ingredients);
        let short = key.get(..12).unwrap_or(&key);
        let path = self.root.join(format!("{name}@{short}"));
        if !path.exists() {
            let start = Instant::now();
            let making = tempfile::Builder::new()
                .prefix(&format!("{MAKING}{name}-"))
                .tempdir_in(&self.root)
                .with_context(|| format!("cannot make a folder in {}", self.root.display()))?;
            make(making.path()).with_context(|| format!("cannot make {name} for the lab"))?;
            self.remove_others(name, &path)?;
            let making = making.keep();
            fs::rename(&making, &path)
                .with_context(|| format!("cannot rename {} to {}", making.display(), path.display()))?;
            super::announce(&format!("made {name} in {:.1} s", start.elapsed().as_secs_f64()));
        }
        Ok(Cached { path, key })
    }

    /// Removes the folders of `name` that older recipes made.
    fn remove_others(&self, name: &str, keep: &Path) -> anyhow::Result<()> {
        let prefix = format!("{name}@");
        self.remove_where(|entry| name_of(entry).starts_with(&prefix) && entry.path() != keep)
    }

    fn remove_where(&self, goes: impl Fn(&fs::DirEntry) -> bool) -> anyhow::Result<()> {
        for entry in
            fs::read_dir(&self.root).with_context(|| format!("cannot list {}", self.root.display()))?
        {
            let entry = entry.with_context(|| format!("cannot list {}", self.root.display()))?;
            if goes(&entry) {
                unmount_below(&entry.path())?;
                fs::remove_dir_all(entry.path())
                    .with_context(|| format!("cannot remove {}", entry.path().display()))?;
            }
        }
        Ok(())
    }
}

/// Unmounts what a program that was killed has left mounted there, as one that installs an image does.
fn unmount_below(folder: &Path) -> anyhow::Result<()> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("cannot read the mounts")?;
    let places = mounts.lines().filter_map(|line| line.split(' ').nth(4)).filter(|place| {
        // Blanks are escaped there, which no folder of the lab has.
        Path::new(place).starts_with(folder)
    });
    for place in places.collect::<Vec<_>>().into_iter().rev() {
        process::run(Command::new("umount").arg(place))?;
    }
    Ok(())
}

fn name_of(entry: &fs::DirEntry) -> String {
    entry.file_name().to_string_lossy().into_owned()
}

impl Cached {
    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Changes when its recipe changes.
    pub(crate) fn key(&self) -> &str {
        &self.key
    }
}

/// A hash over parts, each with its length, so that moving text from one part to the next changes it.
pub(crate) fn hash<T: AsRef<[u8]>>(parts: &[T]) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.as_ref().len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hex::encode(hasher.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_made_once_per_recipe() {
        let root = tempfile::tempdir().unwrap();
        let cache = Cache::open(root.path().to_owned()).unwrap();
        let fill = |text: &'static str| move |folder: &Path| Ok(fs::write(folder.join("file"), text)?);
        let first = cache.folder("thing", &["1"], fill("first")).unwrap();
        let again = cache.folder("thing", &["1"], fill("second")).unwrap();
        assert_eq!(first.path(), again.path());
        assert_eq!(fs::read_to_string(again.path().join("file")).unwrap(), "first");
        let other = cache.folder("thing", &["2"], fill("third")).unwrap();
        assert_eq!(fs::read_to_string(other.path().join("file")).unwrap(), "third");
        assert!(!first.path().exists(), "the older recipe's folder is removed");
    }

    #[test]
    fn a_failed_recipe_leaves_nothing() {
        let root = tempfile::tempdir().unwrap();
        let cache = Cache::open(root.path().to_owned()).unwrap();
        cache.folder("thing", &["1"], |_| anyhow::bail!("no")).unwrap_err();
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_an_interrupted_run_left_half_made_is_removed() {
        let root = tempfile::tempdir().unwrap();
        let open = || Cache::open(root.path().to_owned()).unwrap();
        let whole = open().folder("thing", &["1"], |_| Ok(())).unwrap();
        // A run that is killed does not come to removing it.
        let half = open().folder("other", &["1"], |folder| {
            fs::write(folder.join("file"), "half")?;
            let killed =
                folder.with_file_name(folder.file_name().unwrap().to_string_lossy().into_owned() + "-killed");
            fs::rename(folder, killed)?;
            anyhow::bail!("killed")
        });
        half.unwrap_err();
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 2, "nothing was left half made");
        open();
        assert!(whole.path().exists(), "a whole folder was removed");
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
    }

    #[test]
    fn parts_are_told_apart() {
        assert_ne!(hash(&["ab", "c"]), hash(&["a", "bc"]));
    }
}
