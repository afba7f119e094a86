//! The C library that a released program needs: the one of the oldest distribution it is for, and no newer one.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, ensure};
use object::Endianness;
use object::elf::FileHeader64;
use object::read::elf::FileHeader as _;

/// RHEL 9's. Packages and `deploy/README.md` say the same.
const OLDEST: (u32, u32) = (2, 34);

/// Whether a program runs where the oldest one is.
pub(super) fn check(program: &Path) -> anyhow::Result<()> {
    let content = fs::read(program).with_context(|| format!("cannot read {}", program.display()))?;
    let newest = versions(&content)?.into_iter().filter_map(|name| parse(&name)).max();
    let newest =
        newest.with_context(|| format!("{} names no version of the C library", program.display()))?;
    ensure!(
        newest <= OLDEST,
        "{} needs version {}.{} of the C library, and is to run with {}.{}",
        program.display(),
        newest.0,
        newest.1,
        OLDEST.0,
        OLDEST.1
    );
    Ok(())
}

/// All versions of libraries' interfaces that a program needs, such as `GLIBC_2.34`.
fn versions(program: &[u8]) -> anyhow::Result<BTreeSet<String>> {
    let header = FileHeader64::<Endianness>::parse(program).context("no ELF program of 64 bits")?;
    let endian = header.endian()?;
    let sections = header.sections(endian, program)?;
    let mut names = BTreeSet::new();
    let Some((mut needs, strings)) = sections.gnu_verneed(endian, program)? else { return Ok(names) };
    let strings = sections.strings(endian, program, strings)?;
    while let Some((_, mut of_library)) = needs.next()? {
        while let Some(version) = of_library.next()? {
            names.insert(String::from_utf8_lossy(version.name(endian, strings)?).into_owned());
        }
    }
    Ok(names)
}

/// `GLIBC_MAJOR.MINOR`, and whatever comes behind it.
fn parse(name: &str) -> Option<(u32, u32)> {
    let mut numbers = name.strip_prefix("GLIBC_")?.split('.').map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert_eq!(parse("GLIBC_2.34"), Some((2, 34)));
        assert_eq!(parse("GLIBC_2.2.5"), Some((2, 2)));
        assert_eq!(parse("GLIBC_PRIVATE"), None);
        assert_eq!(parse("LIBUDEV_183"), None);
        assert!(parse("GLIBC_2.4") < parse("GLIBC_2.34"));
    }

    #[test]
    fn a_programs_needs_are_read() {
        let this = fs::read("/proc/self/exe").unwrap();
        let names = versions(&this).unwrap();
        assert!(names.iter().any(|name| parse(name) >= Some((2, 14))), "{names:?}");
    }
}
