use std::time::Duration;

/// How far a build is, told with each line it prints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// The line.
    pub line: String,
    /// How long it has been running.
    pub elapsed: Duration,
    /// The package that is being built, once one is named.
    pub package: Option<String>,
    /// How many packages are done.
    pub done: usize,
    /// Of how many, where the build has listed them.
    pub known: Option<usize>,
}

/// Follows what `install.pl` prints: a list of the packages it is going to build, then a line `Build NAME VERSION …` as each
/// is begun. What is not understood is passed over: the lines themselves are shown.
#[derive(Debug, Default)]
pub(crate) struct Follower {
    list: Option<List>,
    names: Vec<String>,
    begun: Vec<String>,
}

/// Where in the list of packages the last line was.
#[derive(Debug, PartialEq, Eq)]
enum List {
    Announced,
    Begun,
}

impl Follower {
    /// Takes a line and says how far the build is.
    pub(crate) fn follow(&mut self, line: &str, elapsed: Duration) -> Progress {
        self.read(line.trim());
        Progress {
            line: line.to_owned(),
            elapsed,
            package: self.begun.last().cloned(),
            // The next one is begun when the one before it is done.
            done: self.begun.len().saturating_sub(1),
            known: (!self.names.is_empty()).then_some(self.names.len()),
        }
    }

    fn read(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        if line.starts_with("Below is the list of") {
            self.list = Some(List::Announced);
            self.names.clear();
            return;
        }
        match (&self.list, words.as_slice()) {
            (Some(_), [name]) if is_name(name) => {
                self.list = Some(List::Begun);
                if !self.names.iter().any(|known| known == name) {
                    self.names.push((*name).to_owned());
                }
                return;
            }
            // Between the announcement and the first name there are remarks; behind the names the list is over.
            (Some(List::Begun), [_, ..]) => self.list = None,
            _ => {}
        }
        if let ["Build" | "Building", name, ..] = words.as_slice() {
            let is_known = match self.names.is_empty() {
                true => words.len() >= 3 && is_name(name),
                false => self.names.iter().any(|known| known == name),
            };
            if is_known && !self.begun.iter().any(|begun| begun == name) {
                self.begun.push((*name).to_owned());
            }
        }
    }
}

fn is_name(word: &str) -> bool {
    word.starts_with(|first: char| first.is_ascii_alphabetic())
        && word.chars().all(|c| c.is_ascii_alphanumeric() || "-_.+".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn follow(lines: &str) -> Vec<String> {
        let mut follower = Follower::default();
        let mut told = Vec::new();
        for line in lines.lines() {
            let progress = follower.follow(line, Duration::ZERO);
            let known = progress.known.map_or("?".to_owned(), |known| known.to_string());
            let text = format!("{}/{known} {}", progress.done, progress.package.as_deref().unwrap_or("-"));
            if told.last() != Some(&text) {
                told.push(text);
            }
        }
        told
    }

    #[test]
    fn packages_are_counted_as_they_are_begun() {
        let lines = "Log: /tmp/OFED.123.logs\nBelow is the list of OFED packages that you have chosen\n\
            (some may have been added by the installer due to package dependencies):\n\n\
            ofed-scripts\nmlnx-tools\nmlnx-ofa_kernel\n\nThis program will build them.\n\
            Build ofed-scripts 25.10 RPM\nRunning  rpmbuild --rebuild ofed-scripts.src.rpm\nBuilding modules, stage 2.\n\
            Build mlnx-tools 25.10 RPM\nBuilding target platforms: x86_64\nBuild mlnx-ofa_kernel 25.10 RPM\n\
            Build mlnx-ofa_kernel 25.10 RPM\ndone\n";
        assert_eq!(
            follow(lines),
            ["0/? -", "0/1 -", "0/2 -", "0/3 -", "0/3 ofed-scripts", "1/3 mlnx-tools", "2/3 mlnx-ofa_kernel"]
        );
    }

    #[test]
    fn without_a_list_nothing_is_known_of_the_whole() {
        assert_eq!(
            follow("Build mlnx-tools 25.10\nBuilding modules\nword\nBuild mlnx-ofed-kernel 25.10\n"),
            ["0/? mlnx-tools", "1/? mlnx-ofed-kernel"]
        );
    }
}
