//! Steps by their texts of the time when a journal had nothing else.
//!
//! Nodes have such journals, and what is written there does not change any more: nothing here follows a change of a step's text.

use std::path::PathBuf;

use nic_kmod::ModuleName;

use super::{Purpose, Step};

/// The step that an earlier version has told by this text; `None` where it is none of that version's.
pub(super) fn of_text(text: &str) -> Option<Step> {
    of_fixed_text(text).or_else(|| of_module(text)).or_else(|| of_folder(text)).or_else(|| {
        let pf = text.strip_prefix("let the lost PF ").and_then(|text| text.strip_suffix(" go"));
        if let Some(pf) = pf {
            return pf.parse().ok().map(|pf| Step::ForgetPf { pf });
        }
        let command = text.strip_prefix("run ")?.to_owned();
        Some(Step::Run { command, purpose: Purpose::NotTold })
    })
}

fn of_fixed_text(text: &str) -> Option<Step> {
    let pfs = Vec::new();
    Some(match text {
        "look for what stands in the way" => Step::FindBlockers,
        "keep the modules that run" => Step::BackUpModules,
        "make sure that the state directory takes what is to come" => Step::EnsureSpace,
        "write the blacklist" => Step::WriteBlacklist,
        "remove the blacklist" => Step::RemoveBlacklist,
        "remove the blacklist that was left behind" => Step::RemoveLeftoverBlacklist,
        "arm the snapshot" => Step::ArmSnapshot,
        "take readiness away" => Step::TakeReadinessAway,
        "give readiness" => Step::GiveReadiness,
        "remove the VFs" => Step::RemoveVfs { pfs },
        "wait for the PFs" => Step::AwaitPfs { pfs },
        "record that the driver is taken back" => Step::RecordRollback,
        "remove the VFs of the new driver" => Step::RemoveNewVfs { pfs },
        "keep the modules of the verified driver" => Step::BackUpVerifiedDriver,
        "restore and verify" => Step::RestoreNics { pfs },
        "restore and verify what stood on the NICs" => Step::RestoreNetwork,
        "mark the snapshot as verified" => Step::RecordVerified,
        "take over the cluster's certificates" => Step::TakeOverCertificates,
        "install the user space for FIPS" => Step::InstallFips,
        "install the compiler that built the kernel" => Step::InstallCompiler,
        "install what the build needs" => Step::InstallPrerequisites,
        "build the index of the image's modules" => Step::IndexModules,
        "look for the modules of the image" => Step::CheckModules,
        "register the sources with DKMS" => Step::RegisterWithDkms,
        "put the modules into the host's tree" => Step::PutIntoHostTree,
        "take the modules out of the host's tree" => Step::TakeOutOfHostTree,
        "remove the installed packages" => Step::RemovePackages,
        _ => return None,
    })
}

/// A module has no blank in its name, so that the order does not matter.
fn of_module(text: &str) -> Option<Step> {
    type OfModule = (&'static str, &'static str, fn(ModuleName) -> Step);
    const TEXTS: [OfModule; 6] = [
        ("load ", ", which the driver needs", |module| Step::LoadNeeded { module }),
        ("load ", ", which had come up meanwhile", |module| Step::LoadLatecomer { module }),
        ("load the previous ", "", |module| Step::LoadPrevious { module }),
        ("load ", "", |module| Step::Load { module }),
        ("unload the new ", "", |module| Step::UnloadNew { module }),
        ("unload ", "", |module| Step::Unload { module }),
    ];
    TEXTS.iter().find_map(|(before, after, step)| {
        let module = text.strip_prefix(before)?.strip_suffix(after)?;
        Some(step(module.parse().ok()?))
    })
}

fn of_folder(text: &str) -> Option<Step> {
    type OfFolder = (&'static str, fn(PathBuf) -> Step);
    const TEXTS: [OfFolder; 13] = [
        ("look for packages in ", |folder| Step::LookUpPackages { folder }),
        ("lock the inventory's folder ", |folder| Step::LockInventory { folder }),
        ("remove what is stored in ", |folder| Step::WipePackages { folder }),
        ("build packages from ", |sources| Step::BuildPackages { sources }),
        ("have packages built by the sidecar in ", |folder| Step::BuildInSidecar { folder }),
        ("copy the packages to ", |folder| Step::CopyPackages { folder }),
        ("store the packages in ", |folder| Step::StorePackages { folder }),
        ("lay the packages out in ", |folder| Step::LayOutPackages { folder }),
        ("install packages from ", |folder| Step::InstallPackages { folder }),
        ("write the names rule ", |path| Step::WriteNamesRule { path }),
        ("remove the names rule ", |path| Step::RemoveNamesRule { path }),
        ("mount the headers on ", |folder| Step::MountHeaders { folder }),
        ("unmount the headers from ", |folder| Step::UnmountHeaders { folder }),
    ];
    TEXTS.iter().find_map(|(before, step)| text.strip_prefix(before).map(|rest| step(rest.into())))
}
