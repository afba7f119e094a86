use serde::Serialize;

/// Where a driver's packages come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PackageSource {
    /// They are built here.
    Sources,
    /// The build sidecar builds them.
    Sidecar,
    /// They are in the image.
    Precompiled,
}

/// What there is to build here, for which headers and a compiler are needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Work {
    /// Nothing, and why.
    Nothing(&'static str),
    /// Packages are there, and DKMS builds from them.
    ForDkms,
    /// Packages.
    Packages,
}

impl Work {
    /// What is to be built, where packages that were built alike are `stored` or not.
    #[must_use]
    pub fn due(source: PackageSource, stored: bool, use_dkms: bool) -> Self {
        match (source, stored, use_dkms) {
            (PackageSource::Sidecar, ..) => Self::Nothing("the build sidecar builds the packages"),
            // DKMS works there only where the image has headers.
            (PackageSource::Precompiled, ..) => Self::Nothing("the packages are in the image"),
            (PackageSource::Sources, false, _) => Self::Packages,
            (PackageSource::Sources, true, true) => Self::ForDkms,
            (PackageSource::Sources, true, false) => {
                Self::Nothing("the packages are in the inventory: no repository is needed")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prerequisites_are_for_builds_alone() {
        use PackageSource::{Precompiled, Sidecar, Sources};
        for (source, stored, use_dkms, expected) in [
            (Sources, false, false, Some(Work::Packages)),
            (Sources, false, true, Some(Work::Packages)),
            (Sources, true, true, Some(Work::ForDkms)),
            (Sources, true, false, None),
            (Sidecar, false, false, None),
            (Sidecar, false, true, None),
            (Precompiled, false, true, None),
            (Precompiled, false, false, None),
        ] {
            let due = Work::due(source, stored, use_dkms);
            let found = (!matches!(due, Work::Nothing(_))).then_some(due);
            assert_eq!(found, expected, "{source:?} {stored} {use_dkms}");
        }
    }
}
