use std::fmt;

use nic_host::KernelRelease;

/// What decides whether stored packages are the ones that a build would make now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildKey {
    /// What the incumbent compares too.
    pub settings: NotedSettings,
    /// What only this program compares.
    pub inputs: BuildInputs,
}

/// The settings of a build that the incumbent notes and compares. Displayed, they are its three lines.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NotedSettings {
    /// `ENABLE_NFSRDMA`.
    pub nfs_rdma: bool,
    /// `USE_DKMS`.
    pub dkms: bool,
    /// `APPEND_DRIVER_BUILD_FLAGS`, as the user gave it.
    pub append_flags: String,
}

impl fmt::Display for NotedSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "ENABLE_NFSRDMA={}", self.nfs_rdma)?;
        writeln!(f, "USE_DKMS={}", self.dkms)?;
        writeln!(f, "APPEND_DRIVER_BUILD_FLAGS={}", self.append_flags)
    }
}

impl NotedSettings {
    /// Whether `stored`, the text of a `.buildconfig` file, says the same. White space at its ends does not count, as
    /// with the incumbent.
    #[must_use]
    pub fn is_text(&self, stored: &str) -> bool {
        stored.trim() == self.to_string().trim()
    }
}

/// All else that went into a build. Displayed, one line each, without a newline in any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildInputs {
    /// The kernel that the modules are for. The folder's name says it too, and a folder can be renamed or copied.
    pub kernel: KernelRelease,
    /// The digest of the sources, see [`crate::sources_digest`].
    pub sources: String,
    /// The compiler, as it names itself.
    pub compiler: String,
    /// The arguments of the build script.
    pub flags: Vec<String>,
}

impl fmt::Display for BuildInputs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "kernel: {}", self.kernel)?;
        writeln!(f, "sources: {}", self.sources.escape_debug())?;
        writeln!(f, "compiler: {}", self.compiler.escape_debug())?;
        writeln!(f, "flags: {}", shell_words::join(&self.flags).escape_debug())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_settings_are_the_incumbents_three_lines() {
        let settings = NotedSettings { nfs_rdma: true, dkms: false, append_flags: "--with-x --y".to_owned() };
        let text = "ENABLE_NFSRDMA=true\nUSE_DKMS=false\nAPPEND_DRIVER_BUILD_FLAGS=--with-x --y\n";
        assert_eq!(settings.to_string(), text);
        assert!(settings.is_text(text) && settings.is_text(&format!("\n{} \n\n", text.trim())));
        assert!(!settings.is_text(&text.replace("USE_DKMS=false", "USE_DKMS=true")));
        assert!(!settings.is_text("") && !NotedSettings::default().is_text(text));
        // Without flags the last line ends in white space or not, as whoever wrote it likes.
        assert!(
            NotedSettings::default()
                .is_text("ENABLE_NFSRDMA=false\nUSE_DKMS=false\nAPPEND_DRIVER_BUILD_FLAGS=")
        );
    }

    #[test]
    fn no_input_makes_a_line_of_its_own() {
        let inputs = BuildInputs {
            kernel: "6.8.0-31-generic".parse().unwrap(),
            sources: "sha256:00".to_owned(),
            compiler: "gcc 13\nflags: none".to_owned(),
            flags: vec!["--kernel".to_owned(), "a b".to_owned(), "x\ny".to_owned()],
        };
        assert_eq!(
            inputs.to_string(),
            "kernel: 6.8.0-31-generic\nsources: sha256:00\ncompiler: gcc 13\\nflags: none\n\
             flags: --kernel \\'a b\\' \\'x\\ny\\'\n"
        );
    }
}
