//! A private apt: this machine's own Debian archive, extended by the backports suite, with its own lists and without any
//! installed packages. It resolves and downloads; it installs nothing and leaves the machine's apt alone.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};

use super::process;

/// The release whose packages the lab is made of.
const RELEASE: &str = "bookworm";
/// Where its newer QEMU and kernel come from.
pub(crate) const BACKPORTS: &str = "bookworm-backports";

/// The private apt, with its lists fetched.
#[derive(Debug, Clone)]
pub(crate) struct Apt {
    configuration: PathBuf,
}

/// A package in one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: String,
}

/// One archive of the machine's sources.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Archive {
    uri: String,
    signed_by: Option<String>,
}

impl Apt {
    /// Prepares the private apt below `root`.
    pub(crate) fn open(root: &Path) -> anyhow::Result<Self> {
        Self::open_with(root, configuration(root)?)
    }

    /// The same for packages of another architecture than this machine's.
    pub(crate) fn open_for(root: &Path, architecture: &str) -> anyhow::Result<Self> {
        fs::create_dir_all(root).with_context(|| format!("cannot create {}", root.display()))?;
        let own = configuration(root)?;
        let architectures =
            format!("APT::Architecture \"{architecture}\";\nAPT::Architectures {{ \"{architecture}\"; }};\n");
        Self::open_with(root, own + &architectures)
    }

    fn open_with(root: &Path, configuration: String) -> anyhow::Result<Self> {
        let apt = Self { configuration: root.join("apt.conf") };
        // Each time: it names the folder it is in, which may have been moved.
        fs::write(&apt.configuration, configuration).context("cannot write apt.conf")?;
        if root.join("ready").exists() {
            return Ok(apt);
        }
        for folder in ["lists/partial", "cache/archives/partial", "parts"] {
            fs::create_dir_all(root.join(folder)).with_context(|| format!("cannot create {folder}"))?;
        }
        fs::write(root.join("status"), "").context("cannot write apt's status file")?;
        let archives = main_archives(&machine_sources()?);
        ensure!(
            !archives.is_empty(),
            "this machine's apt sources name no archive with the suite {RELEASE} and the component main"
        );
        let mut failures = Vec::new();
        for archive in &archives {
            fs::write(root.join("sources.list"), sources(archive)).context("cannot write sources.list")?;
            match apt.update() {
                Ok(()) => {
                    fs::write(root.join("ready"), "").context("cannot write the mark of a ready apt")?;
                    return Ok(apt);
                }
                Err(error) => failures.push(format!("{}: {error:#}", archive.uri)),
            }
        }
        bail!("none of this machine's archives has the suite {BACKPORTS}:\n{}", failures.join("\n"));
    }

    /// Fetches the archive's lists anew.
    fn update(&self) -> anyhow::Result<()> {
        process::run(self.command("apt-get").args(["-o", "APT::Update::Error-Mode=any", "update"]))
    }

    /// All packages that would be installed with `names` on an empty machine, from `suite` where it has them.
    pub(crate) fn closure(&self, names: &[&str], suite: Option<&str>) -> anyhow::Result<Vec<Package>> {
        let mut command = self.command("apt-get");
        command.args(["--simulate", "--yes"]);
        if let Some(suite) = suite {
            command.args(["--target-release", suite]);
        }
        let packages = parse_simulation(&process::output(command.arg("install").args(names))?);
        ensure!(!packages.is_empty(), "apt resolved {names:?} to nothing");
        Ok(packages)
    }

    /// Downloads packages into `folder`. Should the lists have become stale, they are fetched anew.
    pub(crate) fn download(&self, packages: &[Package], folder: &Path) -> anyhow::Result<()> {
        let fetch = || {
            let mut command = self.command("apt-get");
            command.arg("download").current_dir(folder);
            process::run(
                command.args(packages.iter().map(|package| format!("{}={}", package.name, package.version))),
            )
        };
        if fetch().is_err() {
            self.update()?;
            fetch()?;
        }
        Ok(())
    }

    /// Installs the release with `packages` into `root`, an empty folder: their maintainer scripts run in it.
    pub(crate) fn bootstrap(&self, packages: &[&str], root: &Path) -> anyhow::Result<()> {
        let below = |name: &str| self.configuration.with_file_name(name);
        let reach = below("reach.conf");
        fs::write(&reach, reach_of_machine()?)
            .with_context(|| format!("cannot write {}", reach.display()))?;
        process::run(
            Command::new("mmdebstrap")
                .args(["--mode=root", "--variant=apt", "--format=directory"])
                .arg(format!("--include={}", packages.join(",")))
                .arg(format!("--aptopt={}", reach.display()))
                .arg(RELEASE)
                .arg(root)
                .arg(below("sources.list")),
        )
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("APT_CONFIG", &self.configuration).env("LC_ALL", "C");
        command
    }
}

/// The configuration: everything at a place of its own, except what says how this machine reaches its archive.
fn configuration(root: &Path) -> anyhow::Result<String> {
    let root = root.to_str().context("the lab's path is no UTF-8")?;
    let mut text = format!(
        "Dir::State \"{root}\";\nDir::State::lists \"{root}/lists\";\nDir::State::status \"{root}/status\";\n\
         Dir::Cache \"{root}/cache\";\nDir::Etc::sourcelist \"{root}/sources.list\";\nDir::Etc::sourceparts \"{root}/parts\";\n\
         Dir::Etc::main \"{root}/parts/none\";\nDir::Etc::parts \"{root}/parts\";\nDir::Etc::preferences \"{root}/parts/none\";\n\
         Dir::Etc::preferencesparts \"{root}/parts\";\n\
         APT::Install-Recommends \"false\";\nAPT::Sandbox::User \"root\";\n"
    );
    text.push_str(&reach_of_machine()?);
    Ok(text)
}

/// What says how this machine reaches its archive.
fn reach_of_machine() -> anyhow::Result<String> {
    let mut text = "Acquire::Languages \"none\";\nAcquire::Retries \"5\";\n".to_owned();
    let machine = process::output(Command::new("apt-config").arg("dump"))?;
    let reach = [
        "Acquire::http",
        "Acquire::https",
        "Acquire::ftp",
        "Acquire::Check-Valid-Until",
        "Acquire::Check-Date",
    ];
    for line in machine.lines().filter(|line| reach.iter().any(|prefix| line.starts_with(prefix))) {
        text.push_str(line);
        text.push('\n');
    }
    Ok(text)
}

fn sources(archive: &Archive) -> String {
    let options = archive.signed_by.as_ref().map(|key| format!("[signed-by={key}] ")).unwrap_or_default();
    [RELEASE, "bookworm-updates", BACKPORTS]
        .map(|suite| format!("deb {options}{} {suite} main\n", archive.uri))
        .concat()
}

/// The machine's source files, as (path, text).
fn machine_sources() -> anyhow::Result<Vec<(PathBuf, String)>> {
    let mut paths = vec![PathBuf::from("/etc/apt/sources.list")];
    if let Ok(entries) = fs::read_dir("/etc/apt/sources.list.d") {
        let mut parts: Vec<_> = entries.filter_map(Result::ok).map(|entry| entry.path()).collect();
        parts.sort_unstable();
        paths.extend(parts);
    }
    paths
        .into_iter()
        .filter(|path| path.is_file())
        .map(|path| {
            let text =
                fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            Ok((path, text))
        })
        .collect()
}

/// The archives that have the release's own suite with the component main. Other vendors' archives may look alike; they
/// have no backports suite and drop out when their lists are fetched.
fn main_archives(sources: &[(PathBuf, String)]) -> Vec<Archive> {
    let mut archives = Vec::new();
    for (path, text) in sources {
        let found = match path.extension().and_then(|extension| extension.to_str()) {
            Some("list") => text.lines().filter_map(parse_one_line).collect::<Vec<_>>(),
            Some("sources") => text.split("\n\n").flat_map(parse_stanza).collect(),
            _ => Vec::new(),
        };
        for archive in found {
            if !archives.contains(&archive) {
                archives.push(archive);
            }
        }
    }
    archives
}

/// `deb [signed-by=KEY] URI SUITE COMPONENT…`
fn parse_one_line(line: &str) -> Option<Archive> {
    let rest = line.trim().strip_prefix("deb ")?.trim_start();
    let (options, rest) = match rest.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => ("", rest),
    };
    let mut words = rest.split_whitespace();
    let (uri, suite) = (words.next()?, words.next()?);
    let signed_by = options
        .split_whitespace()
        .find_map(|option| option.strip_prefix("signed-by="))
        .map(ToOwned::to_owned);
    (suite == RELEASE && words.any(|word| word == "main")).then(|| Archive { uri: uri.to_owned(), signed_by })
}

/// A stanza of the deb822 form.
fn parse_stanza(stanza: &str) -> Vec<Archive> {
    let field = |name: &str| {
        stanza
            .lines()
            .filter(|line| !line.starts_with('#'))
            .find_map(|line| line.split_once(':').filter(|(key, _)| key.eq_ignore_ascii_case(name)))
            .map(|(_, value)| value.trim())
    };
    let has = |name: &str, word: &str| {
        field(name).is_some_and(|value| value.split_whitespace().any(|found| found == word))
    };
    if !has("Types", "deb") || !has("Suites", RELEASE) || !has("Components", "main") || has("Enabled", "no") {
        return Vec::new();
    }
    // A key may also stand in the stanza itself; then the machine's trusted keys have to do.
    let signed_by = field("Signed-By").filter(|key| key.starts_with('/')).map(ToOwned::to_owned);
    let uris = field("URIs").unwrap_or_default();
    uris.split_whitespace().map(|uri| Archive { uri: uri.to_owned(), signed_by: signed_by.clone() }).collect()
}

/// `Inst NAME (VERSION …)`
fn parse_simulation(text: &str) -> Vec<Package> {
    text.lines()
        .filter_map(|line| {
            let (name, rest) = line.strip_prefix("Inst ")?.split_once(" (")?;
            let (version, _) = rest.split_once(' ')?;
            Some(Package { name: name.to_owned(), version: version.to_owned() })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(uri: &str, signed_by: Option<&str>) -> Archive {
        Archive { uri: uri.to_owned(), signed_by: signed_by.map(ToOwned::to_owned) }
    }

    #[test]
    fn one_line_sources_are_read() {
        let key = "/usr/share/keyrings/a.gpg";
        for (line, expected) in [
            (
                "deb http://mirror.example/debian bookworm main contrib",
                Some(archive("http://mirror.example/debian", None)),
            ),
            (
                "deb [arch=amd64 signed-by=/usr/share/keyrings/a.gpg] http://mirror.example/debian bookworm main",
                Some(archive("http://mirror.example/debian", Some(key))),
            ),
            ("deb http://mirror.example/debian-security bookworm-security main", None),
            ("deb http://third.example bookworm stable", None),
            ("deb-src http://mirror.example/debian bookworm main", None),
            ("# deb http://mirror.example/debian bookworm main", None),
            ("", None),
        ] {
            assert_eq!(parse_one_line(line), expected, "{line}");
        }
    }

    #[test]
    fn stanzas_are_read() {
        let stanza = "Types: deb\n# a comment: with a colon\nURIs: http://a.example/debian http://b.example/debian\n\
                      Suites: bookworm bookworm-updates\nComponents: main\nSigned-By: /usr/share/keyrings/a.gpg\n";
        let key = Some("/usr/share/keyrings/a.gpg");
        assert_eq!(
            parse_stanza(stanza),
            [archive("http://a.example/debian", key), archive("http://b.example/debian", key)]
        );
        assert_eq!(parse_stanza(&stanza.replace("bookworm bookworm-updates", "bookworm-security")), []);
        assert_eq!(parse_stanza(&format!("{stanza}Enabled: no\n")), []);
    }

    #[test]
    fn a_simulation_is_read() {
        let text = "Reading package lists...\nInst libc6 (2.36-9 Debian:12.1/oldstable [amd64])\nConf libc6 (2.36-9 Debian)\n";
        assert_eq!(parse_simulation(text), [Package { name: "libc6".into(), version: "2.36-9".into() }]);
    }
}
