use std::fmt;

use serde::Serialize;

/// A version of GCC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(into = "String")]
pub struct GccVersion {
    /// By which packages and programs go.
    pub major: u32,
    /// The second number.
    pub minor: u32,
    /// The third.
    pub patch: u32,
}

impl GccVersion {
    /// The compiler in the text of `/proc/version`: the first `x.y.z` behind the first "gcc". A kernel that clang built has
    /// none, and one that is built by hand may have anything.
    #[must_use]
    pub fn of_kernel(proc_version: &str) -> Option<Self> {
        let (_, behind) = proc_version.split_once("gcc")?;
        behind.split(|c: char| !(c.is_ascii_digit() || c == '.')).find_map(|word| {
            let mut numbers = word.split('.').map(str::parse);
            let mut next = || numbers.next()?.ok();
            Some(Self { major: next()?, minor: next()?, patch: next()? })
        })
    }
}

impl fmt::Display for GccVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

impl From<GccVersion> for String {
    fn from(version: GccVersion) -> Self {
        version.to_string()
    }
}

/// What Ubuntu, Debian and SUSE call the compiler of a major version.
pub(crate) fn versioned_program(version: GccVersion) -> String {
    format!("/usr/bin/gcc-{}", version.major)
}

/// Where Red Hat's toolsets have it.
pub(crate) fn toolset_program(version: GccVersion) -> String {
    format!("/opt/rh/gcc-toolset-{}/root/usr/bin/gcc", version.major)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_in_the_texts_of_distributions() {
        for (text, version) in [
            (
                "Linux version 6.8.0-31-generic (buildd@lcy02-amd64-080) (x86_64-linux-gnu-gcc-13 (Ubuntu \
                 13.2.0-23ubuntu4) 13.2.0, GNU ld (GNU Binutils for Ubuntu) 2.42) #31-Ubuntu SMP PREEMPT_DYNAMIC\n",
                Some("13.2.0"),
            ),
            (
                "Linux version 5.15.0-25-generic (buildd@bos03-arm64-048) (gcc (Ubuntu 11.2.0-19ubuntu1) 11.2.0, \
                 GNU ld (GNU Binutils for Ubuntu) 2.38) #25-Ubuntu SMP\n",
                Some("11.2.0"),
            ),
            (
                "Linux version 6.4.0-150700.51-default (geeko@buildhost) (gcc (SUSE Linux) 7.5.0, GNU ld (GNU \
                 Binutils; SUSE Linux Enterprise 15) 2.43.1.20241209-150100.7.52) #1 SMP PREEMPT_DYNAMIC\n",
                Some("7.5.0"),
            ),
            (
                "Linux version 5.14.0-570.12.1.el9_6.x86_64 (mockbuild@x86-64-01.example.com) (gcc (GCC) 11.5.0 \
                 20240719 (Red Hat 11.5.0-5), GNU ld version 2.35.2-63.el9) #1 SMP PREEMPT_DYNAMIC\n",
                Some("11.5.0"),
            ),
            (
                "Linux version 6.1.0-18-arm64 (debian-kernel@example.org) (aarch64-linux-gnu-gcc-12 (Debian \
                 12.2.0-14) 12.2.0, GNU ld (GNU Binutils for Debian) 2.40)\n",
                Some("12.2.0"),
            ),
            ("Linux version 6.6.1 (me@here) (gcc version 14.1.1 20240522) #1 SMP\n", Some("14.1.1")),
            // Two numbers are no version, nor are numbers too big to be one.
            ("Linux version 6.6.1 (me@here) (gcc 14.1, GNU ld 2.42) #1 SMP\n", None),
            ("gcc 99999999999.1.1\n", None),
            ("Linux version 6.6.1-0-lts (Alpine clang version 17.0.6, LLD 17.0.6) #1-Alpine SMP\n", None),
            ("Linux version 6.6.1 5.4.3\n", None),
            ("", None),
        ] {
            let found = GccVersion::of_kernel(text).map(String::from);
            assert_eq!(found.as_deref(), version, "{text}");
        }
    }
}
