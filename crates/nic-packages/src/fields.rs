//! Names, versions and architectures of packages, as the package managers take them. They become arguments of theirs, so nothing else
//! gets by: a name that begins with a hyphen would be an option, and one with a star a pattern.

use crate::{PackageFormat, ParsePackageError};

/// A field of a package, as errors name it.
pub(crate) fn check_field(
    format: PackageFormat,
    field: &'static str,
    value: &str,
    what: FieldKind,
) -> Result<(), ParsePackageError> {
    if is_field(format, what, value) {
        return Ok(());
    }
    Err(ParsePackageError::Field {
        field,
        value: value.chars().take(nic_host::LONGEST_FOREIGN + 1).collect(),
    })
}

/// What a field says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FieldKind {
    Name,
    /// Of rpm, a version or a release alone.
    Version,
    /// Of rpm, `[epoch:]version-release`.
    FullVersion,
    Architecture,
}

/// The longest field, in bytes: no file's name is longer, and packages' files are named by them.
const LONGEST_FIELD: usize = 255;

/// Whether the format's package manager takes `value`.
///
/// dpkg's rules are in lib/dpkg/parsehelp.c (`pkg_name_is_invalid`, `parseversion`) and lib/dpkg/arch.c
/// (`dpkg_arch_name_is_invalid`). A name in capitals dpkg would make small, and it would then be found under another name, so it
/// is refused. rpm's are those of its builder (build/parsePreamble.c, `ALLOWED_CHARS_NAME`, `ALLOWED_CHARS_VERREL`).
pub(crate) fn is_field(format: PackageFormat, what: FieldKind, value: &str) -> bool {
    let consists_of = |text: &str, others: &str| {
        text.chars().all(|character| character.is_ascii_alphanumeric() || others.contains(character))
    };
    let begins = value.chars().next();
    let begins_well = begins.is_some_and(|first| first.is_ascii_alphanumeric());
    if value.len() > LONGEST_FIELD {
        return false;
    }
    match (format, what) {
        (PackageFormat::Deb, FieldKind::Name) => {
            begins_well
                && consists_of(value, "-+._")
                && !value.chars().any(|letter| letter.is_ascii_uppercase())
        }
        (PackageFormat::Deb, FieldKind::Version | FieldKind::FullVersion) => is_debian_version(value),
        (PackageFormat::Deb, FieldKind::Architecture) => begins_well && consists_of(value, "-"),
        (PackageFormat::Rpm, FieldKind::Name) => {
            (begins_well || begins == Some('_')) && consists_of(value, "-+._")
        }
        (PackageFormat::Rpm, FieldKind::Version) => begins.is_some() && consists_of(value, "._+~^"),
        (PackageFormat::Rpm, FieldKind::FullVersion) => begins_well && consists_of(value, "._+~^-:"),
        (PackageFormat::Rpm, FieldKind::Architecture) => begins_well && consists_of(value, "_"),
    }
}

/// `[epoch:]version[-revision]` (deb-version(7)).
fn is_debian_version(version: &str) -> bool {
    let (epoch, rest) = version.split_once(':').map_or(("0", version), |(epoch, rest)| (epoch, rest));
    let (upstream, revision) =
        rest.rsplit_once('-').map_or((rest, "0"), |(upstream, revision)| (upstream, revision));
    let consists_of = |text: &str, others: &str| {
        !text.is_empty()
            && text.chars().all(|character| character.is_ascii_alphanumeric() || others.contains(character))
    };
    epoch.bytes().all(|byte| byte.is_ascii_digit())
        && epoch.parse::<i32>().is_ok()
        && upstream.starts_with(|first: char| first.is_ascii_digit())
        && consists_of(upstream, ".-+~:")
        && consists_of(revision, ".+~")
}
