use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// The output of the last build, where nobody says otherwise.
pub const BUILD_LOG: &str = "/var/log/nic-driver/build.log";
/// How much of a build's output is kept on disk.
pub const LOG_LIMIT: u64 = 64 * 1024 * 1024;
/// How many lines of it are told with an error, and how much of each.
const LAST_LINES: usize = 30;
const LONGEST_LAST_LINE: usize = 400;

/// A build's output on disk, whole up to a limit, and its head and tail beyond.
///
/// Half of the limit is for the head. What comes behind goes to two files beside it, `<name>.older` and `<name>.newer`, a
/// quarter each, which take turns; they are put behind the head when the log is closed, also when a build is given up. A log
/// that cannot be written stops no build: the error is told once, and the last lines are known all the same.
#[derive(Debug)]
pub struct BuildLog {
    path: PathBuf,
    limit: u64,
    head: Option<File>,
    in_head: u64,
    newer: Option<File>,
    in_newer: u64,
    left_out: u64,
    last: VecDeque<String>,
    error: Option<io::Error>,
}

impl BuildLog {
    /// A log at `path`, a path of this process, in place of an older one.
    #[must_use]
    pub fn create(path: impl Into<PathBuf>, limit: u64) -> Self {
        let mut log = Self {
            path: path.into(),
            limit,
            head: None,
            in_head: 0,
            newer: None,
            in_newer: 0,
            left_out: 0,
            last: VecDeque::new(),
            error: None,
        };
        let opened = log.open();
        log.note(opened);
        log
    }

    fn open(&mut self) -> io::Result<()> {
        if let Some(folder) = self.path.parent() {
            fs::create_dir_all(folder)?;
        }
        for segment in [self.older_path(), self.newer_path()] {
            remove_if_there(&segment)?;
        }
        self.head = Some(File::create(&self.path)?);
        Ok(())
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The last lines, long ones cut.
    #[must_use]
    pub fn last_lines(&self) -> String {
        self.last.iter().map(String::as_str).collect::<Vec<_>>().join("\n")
    }

    /// Adds a line.
    pub fn add(&mut self, line: &str) {
        if self.last.len() == LAST_LINES {
            self.last.pop_front();
        }
        self.last.push_back(line.chars().take(LONGEST_LAST_LINE).collect());
        if self.error.is_none() {
            let written = self.write(line);
            self.note(written);
        }
    }

    fn write(&mut self, line: &str) -> io::Result<()> {
        let length = line.len() as u64 + 1;
        if self.newer.is_none() && self.in_head + length <= self.limit / 2 {
            self.in_head += length;
            return self.head.as_mut().map_or(Ok(()), |head| writeln!(head, "{line}"));
        }
        if self.newer.is_some() && self.in_newer + length > self.limit / 4 {
            self.newer = None;
            self.left_out += size_of(&self.older_path())?;
            fs::rename(self.newer_path(), self.older_path())?;
        }
        if self.newer.is_none() {
            self.newer = Some(File::create(self.newer_path())?);
            self.in_newer = 0;
        }
        // A line that alone is longer than a part is cut, so that the limit holds.
        let room = usize::try_from((self.limit / 4).saturating_sub(self.in_newer + 1)).unwrap_or(usize::MAX);
        let kept = line.get(..line.floor_char_boundary(room)).unwrap_or(line);
        self.left_out += (line.len() - kept.len()) as u64;
        self.in_newer += kept.len() as u64 + 1;
        self.newer.as_mut().map_or(Ok(()), |newer| writeln!(newer, "{kept}"))
    }

    fn note(&mut self, result: io::Result<()>) {
        if let Err(error) = result {
            let path = self.path.display();
            tracing::warn!(%error, "the build's output is not kept any further in {path}");
            self.error = Some(error);
        }
    }

    fn close(&mut self) -> io::Result<()> {
        if self.newer.take().is_none() {
            return Ok(());
        }
        let Some(mut head) = self.head.take() else { return Ok(()) };
        if self.left_out > 0 {
            writeln!(head, "… {} bytes are left out here …", self.left_out)?;
        }
        for segment in [self.older_path(), self.newer_path()] {
            match File::open(&segment) {
                Ok(mut content) => drop(io::copy(&mut content, &mut head)?),
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            }
            remove_if_there(&segment)?;
        }
        Ok(())
    }

    fn older_path(&self) -> PathBuf {
        beside(&self.path, ".older")
    }

    fn newer_path(&self) -> PathBuf {
        beside(&self.path, ".newer")
    }
}

impl Drop for BuildLog {
    fn drop(&mut self) {
        let closed = self.close();
        self.note(closed);
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(suffix);
    path.with_file_name(name)
}

fn size_of(path: &Path) -> io::Result<u64> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(metadata.len()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error),
    }
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The log of so many numbered lines of ten bytes each.
    fn log_of(lines: usize, limit: u64) -> (tempfile::TempDir, String) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("logs/build.log");
        let mut log = BuildLog::create(&path, limit);
        (0..lines).for_each(|number| log.add(&format!("line {number:04}")));
        drop(log);
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no part stays beside it");
        (dir, text)
    }

    #[test]
    fn a_log_below_the_limit_is_whole() {
        for lines in [0, 1, 5, 10, 15] {
            let expected: String = (0..lines).map(|number| format!("line {number:04}\n")).collect();
            assert_eq!(log_of(lines, 200).1, expected, "{lines}");
        }
    }

    #[test]
    fn a_longer_one_has_its_head_and_its_tail() {
        let (_dir, text) = log_of(1000, 200);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[..10], (0..10).map(|n| format!("line {n:04}")).collect::<Vec<_>>());
        assert_eq!(lines.last(), Some(&"line 0999"));
        assert!(text.len() <= 200 + 60, "{}", text.len());
        let left_out: usize =
            text.split(' ').find_map(|word| word.parse().ok().filter(|n| *n > 999)).unwrap();
        let kept: usize = lines.iter().filter(|line| line.starts_with("line ")).count() * 10;
        assert_eq!(left_out + kept, 10_000, "{text}");
        // A line that is longer than all of it.
        let dir = tempfile::tempdir().unwrap();
        let mut log = BuildLog::create(dir.path().join("log"), 100);
        log.add(&"é".repeat(1000));
        log.add("end");
        drop(log);
        let text = fs::read_to_string(dir.path().join("log")).unwrap();
        assert!(text.ends_with("end\n") && text.len() < 160, "{text}");
    }

    #[test]
    fn the_last_lines_are_known_also_without_a_disk() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        let mut log = BuildLog::create(dir.path().join("file/build.log"), LOG_LIMIT);
        (0..100).for_each(|number| log.add(&format!("{number} {}", "x".repeat(1000))));
        let last = log.last_lines();
        assert_eq!(last.lines().count(), LAST_LINES);
        assert!(last.starts_with("70 xxx") && last.lines().all(|line| line.len() == LONGEST_LAST_LINE));
        assert!(log.error.is_some());
    }

    #[test]
    fn a_log_replaces_that_of_an_earlier_build() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        for left in ["log", "log.older", "log.newer"] {
            fs::write(dir.path().join(left), "old\n").unwrap();
        }
        let mut log = BuildLog::create(&path, 100);
        log.add("new");
        drop(log);
        assert_eq!(fs::read_to_string(&path).unwrap(), "new\n");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
