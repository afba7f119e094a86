use nic_host::{Foreign, KernelRelease};
use serde::Serialize;

use crate::DistributionFamily;

/// What sets a kernel apart from its distribution's usual one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum KernelFlavour {
    /// Nothing that matters here, also on clouds.
    Standard,
    /// It preempts for real time.
    Realtime,
    /// Its pages are of 64 KiB (aarch64).
    Pages64K,
    /// Both.
    Realtime64K,
}

/// A kernel release taken apart in the way of its distribution.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct KernelVariant {
    /// What kind of kernel it is.
    pub flavour: KernelFlavour,
    /// What the distribution calls the variant: `default`, `azure`, `generic`, `aws`, `cloud-amd64`, `rt`, `64k`…; empty for
    /// RHEL's usual kernel, and where the release has no such part.
    pub name: String,
    /// The version by which the distribution's packages are asked for: the release without what names the variant, where
    /// the variant is in the package's name.
    pub version: String,
}

/// A variant of a kernel whose packages are not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the kernel {kernel} is of the variant {}, which is none of those known ({KNOWN})", Foreign(variant))]
pub struct UnknownVariantError {
    /// The kernel release.
    pub kernel: KernelRelease,
    /// The variant's name.
    pub variant: String,
}

const KNOWN: &str = "+rt, +64k, +rt-64k";

impl KernelVariant {
    /// Takes a kernel release of this family's distributions apart.
    ///
    /// # Errors
    /// A kernel of Red Hat's with an unknown suffix, such as `+debug`. The others name their variants as they like.
    pub fn of(family: DistributionFamily, kernel: &KernelRelease) -> Result<Self, UnknownVariantError> {
        match family {
            DistributionFamily::RedHat => of_red_hat(kernel),
            DistributionFamily::Debian => Ok(of_debian(kernel)),
            DistributionFamily::Suse => Ok(of_suse(kernel)),
        }
    }
}

/// `5.14.0-570.73.1.el9_6.aarch64+64k`. On RHEL 8 `rt` and the patch's version stand inside the release, and the packages
/// of that variant have it there, too: `4.18.0-513.11.1.rt7.313.el8_9.x86_64`.
fn of_red_hat(kernel: &KernelRelease) -> Result<KernelVariant, UnknownVariantError> {
    let text = kernel.as_str();
    // A plus sign may stand elsewhere, as in a build of one's own; the variant is what stands behind the architecture.
    let (version, name) =
        text.rsplit_once('+').filter(|(_, suffix)| !suffix.contains('.')).unwrap_or((text, ""));
    let is_patch = |part: &str| {
        part.strip_prefix("rt").is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
    };
    let flavour = match name {
        "" if text.split('.').any(is_patch) => KernelFlavour::Realtime,
        "" => KernelFlavour::Standard,
        "rt" => KernelFlavour::Realtime,
        "64k" => KernelFlavour::Pages64K,
        "rt-64k" | "64k-rt" => KernelFlavour::Realtime64K,
        other => {
            return Err(UnknownVariantError { kernel: kernel.clone(), variant: other.to_owned() });
        }
    };
    Ok(KernelVariant { flavour, name: name.to_owned(), version: version.to_owned() })
}

/// `6.8.0-1008-aws`, `6.8.1-1015-realtime`, `6.1.0-18-rt-amd64`, `6.12.94+deb12-cloud-amd64`. Packages have the whole
/// release in their name.
fn of_debian(kernel: &KernelRelease) -> KernelVariant {
    let text = kernel.as_str();
    let is_word = |part: &&str| part.starts_with(|first: char| first.is_ascii_alphabetic());
    let words: Vec<&str> = text.split('-').skip(1).collect();
    // Ubuntu's `64k` and `64k-largemem` begin with a digit, and stand behind another word.
    let begin = words.iter().position(is_word).unwrap_or(words.len());
    let words = words.get(begin..).unwrap_or_default();
    let (realtime, pages) =
        (words.iter().any(|word| ["realtime", "rt"].contains(word)), words.contains(&"64k"));
    let flavour = match (realtime, pages) {
        (false, false) => KernelFlavour::Standard,
        (true, false) => KernelFlavour::Realtime,
        (false, true) => KernelFlavour::Pages64K,
        (true, true) => KernelFlavour::Realtime64K,
    };
    KernelVariant { flavour, name: words.join("-"), version: text.to_owned() }
}

/// `6.4.0-150700.51-default`. A release without a known variant is taken for one of `default`, whole.
fn of_suse(kernel: &KernelRelease) -> KernelVariant {
    const VARIANTS: [&str; 5] = ["default", "azure", "rt", "64kb", "preempt"];
    let text = kernel.as_str();
    let (version, name) =
        text.rsplit_once('-').filter(|(_, suffix)| VARIANTS.contains(suffix)).unwrap_or((text, "default"));
    let flavour = match name {
        "rt" => KernelFlavour::Realtime,
        "64kb" => KernelFlavour::Pages64K,
        _ => KernelFlavour::Standard,
    };
    KernelVariant { flavour, name: name.to_owned(), version: version.to_owned() }
}
