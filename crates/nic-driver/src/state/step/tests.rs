use std::collections::BTreeMap;
use std::mem::discriminant;

use super::*;

/// One step of each variant. A variant that is not here does not compile.
macro_rules! examples {
    ($($variant:pat => $example:expr),* $(,)?) => {{
        let is_covered = |step: &Step| match step {
            $($variant => {})*
        };
        let examples = vec![$($example),*];
        examples.iter().for_each(is_covered);
        examples
    }};
}

pub(in crate::state) fn examples() -> Vec<Step> {
    let module = || "mlx5_core".parse().unwrap();
    let folder = || PathBuf::from("/some/folder");
    let pfs = || vec!["0000:01:00.0".parse().unwrap(), "netdevsim/netdevsim0".parse().unwrap()];
    let examples = examples! {
        Step::FindBlockers => Step::FindBlockers,
        Step::BackUpModules => Step::BackUpModules,
        Step::EnsureSpace => Step::EnsureSpace,
        Step::LoadNeeded { .. } => Step::LoadNeeded { module: module() },
        Step::WriteBlacklist => Step::WriteBlacklist,
        Step::RemoveBlacklist => Step::RemoveBlacklist,
        Step::RemoveLeftoverBlacklist => Step::RemoveLeftoverBlacklist,
        Step::ArmSnapshot => Step::ArmSnapshot,
        Step::TakeReadinessAway => Step::TakeReadinessAway,
        Step::GiveReadiness => Step::GiveReadiness,
        Step::RemoveVfs { .. } => Step::RemoveVfs { pfs: pfs() },
        Step::Unload { .. } => Step::Unload { module: module() },
        Step::Load { .. } => Step::Load { module: module() },
        Step::LoadLatecomer { .. } => Step::LoadLatecomer { module: module() },
        Step::Run { .. } => Step::Run { command: "/etc/init.d/openibd restart".into(), purpose: Purpose::InitScript },
        Step::AwaitPfs { .. } => Step::AwaitPfs { pfs: pfs() },
        Step::RecordRollback => Step::RecordRollback,
        Step::RemoveNewVfs { .. } => Step::RemoveNewVfs { pfs: pfs() },
        Step::UnloadNew { .. } => Step::UnloadNew { module: module() },
        Step::LoadPrevious { .. } => Step::LoadPrevious { module: module() },
        Step::BackUpVerifiedDriver => Step::BackUpVerifiedDriver,
        Step::ForgetPf { .. } => Step::ForgetPf { pf: "0000:01:00.0".parse().unwrap() },
        Step::RestoreNics { .. } => Step::RestoreNics { pfs: pfs() },
        Step::RestoreNetwork => Step::RestoreNetwork,
        Step::RestoreSettings => Step::RestoreSettings,
        Step::RecordVerified => Step::RecordVerified,
        Step::TakeOverCertificates => Step::TakeOverCertificates,
        Step::InstallFips => Step::InstallFips,
        Step::LookUpPackages { .. } => Step::LookUpPackages { folder: folder() },
        Step::LockInventory { .. } => Step::LockInventory { folder: folder() },
        Step::WipePackages { .. } => Step::WipePackages { folder: folder() },
        Step::InstallCompiler => Step::InstallCompiler,
        Step::InstallPrerequisites => Step::InstallPrerequisites,
        Step::BuildPackages { .. } => Step::BuildPackages { sources: folder() },
        Step::BuildInSidecar { .. } => Step::BuildInSidecar { folder: folder() },
        Step::CopyPackages { .. } => Step::CopyPackages { folder: folder() },
        Step::StorePackages { .. } => Step::StorePackages { folder: folder() },
        Step::LayOutPackages { .. } => Step::LayOutPackages { folder: folder() },
        Step::IndexModules => Step::IndexModules,
        Step::CheckModules => Step::CheckModules,
        Step::RegisterWithDkms => Step::RegisterWithDkms,
        Step::InstallPackages { .. } => Step::InstallPackages { folder: folder() },
        Step::PutIntoHostTree => Step::PutIntoHostTree,
        Step::TakeOutOfHostTree => Step::TakeOutOfHostTree,
        Step::RemovePackages => Step::RemovePackages,
        Step::WriteNamesRule { .. } => Step::WriteNamesRule { path: folder() },
        Step::RemoveNamesRule { .. } => Step::RemoveNamesRule { path: folder() },
        Step::MountHeaders { .. } => Step::MountHeaders { folder: folder() },
        Step::UnmountHeaders { .. } => Step::UnmountHeaders { folder: folder() },
    };
    for (position, step) in examples.iter().enumerate() {
        let is_another = |other| discriminant(step) != discriminant(other);
        assert!(examples[..position].iter().all(is_another), "{step} twice");
    }
    examples
}

/// A name that is changed here is one that journals on nodes do not have: it is read as well (`#[serde(alias = …)]`), and the old one is what
/// earlier versions understand.
#[test]
fn the_names_on_disk_are_these() {
    let json: Vec<String> = examples().iter().map(|step| serde_json::to_string(step).unwrap()).collect();
    insta::assert_snapshot!(json.join("\n"));
    let purposes = [Purpose::Hook, Purpose::InitScript, Purpose::MoveFile, Purpose::NotTold];
    let phases =
        [Phase::Install, Phase::Build, Phase::Reload, Phase::RestoreSriov, Phase::Terminate, Phase::Run];
    let json = serde_json::to_string(&(purposes, phases)).unwrap();
    insta::assert_snapshot!(json, @r#"[["hook","init_script","move_file","not_told"],["install","build","reload","restore-sriov","terminate","run"]]"#);
    assert_eq!(phases.map(|phase| serde_json::to_value(phase).unwrap()), phases.map(Phase::as_str));
}

/// By data alone, whatever is written beside it today.
#[test]
fn the_texts_of_an_earlier_version_are_these_steps() {
    let mut steps: BTreeMap<String, String> = BTreeMap::new();
    let mut left = examples();
    // Steps that no version had before steps were data.
    left.retain(|step| !matches!(step, Step::RestoreSettings));
    for line in include_str!("../../../../../fixtures/state/schema-2/journal.jsonl").lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let Some(text) = line.get("step").and_then(|step| step.as_str()) else { continue };
        let step = old_text::of_text(text).unwrap_or_else(|| panic!("{text:?} is not understood"));
        left.retain(|other| discriminant(other) != discriminant(&step));
        steps.insert(text.to_owned(), serde_json::to_string(&step).unwrap());
    }
    assert_eq!(left, [], "the frozen journal lacks them");
    let lines = |(text, step): (&String, &String)| format!("{text}\n    {step}\n");
    insta::assert_snapshot!(steps.iter().map(lines).collect::<String>());
    for text in [
        "",
        "load",
        "load ",
        "load two modules",
        "unload the other igb",
        "let the lost PF x go",
        "teleport igb",
    ] {
        assert_eq!(old_text::of_text(text), None, "{text}");
    }
}

#[test]
fn what_takes_nics_away_is_known_by_its_effect() {
    let of = |effect: Effect| {
        examples()
            .into_iter()
            .filter(|step| step.effect() == effect)
            .map(|step| step.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(of(Effect::TakesNicsAway), ["remove the VFs"]);
    assert_eq!(of(Effect::UnloadsDriver), ["unload mlx5_core", "run /etc/init.d/openibd restart"]);
    assert_eq!(
        of(Effect::Builds),
        ["build packages from /some/folder", "have packages built by the sidecar in /some/folder"]
    );
}
