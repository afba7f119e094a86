//! A node's status as people read it: the verdict first, then a line for each thing.

use nic_kmod::{IdentityReport, IdentityVerdict, ModuleIdentity};
use nic_sriov::{Component, Difference};

use super::{ModulesStatus, PfStatus, SnapshotStatus, Status, StatusSeen};
use crate::node::ReportedVersion;
use crate::swap::list;

pub(super) fn write(status: &Status, all: bool) -> String {
    let Status { verdict, seen } = status;
    let mut lines = vec![format!("● {}: {}", verdict.level.word(), verdict.text)];
    lines.extend(verdict.next.iter().map(|next| format!("Next: {next}")));
    lines.push(seen.machine.to_string());
    let ready = if seen.ready { "ready" } else { "not ready" };
    lines.push(format!("family {}, kernel {}, {ready}", seen.family, seen.kernel));
    nics(&mut lines, seen);
    modules(&mut lines, seen, all);
    lines.push(format!("way back: {}", seen.way_back));
    snapshot(&mut lines, &seen.snapshot, all);
    if let Some(record) = &seen.rolled_back {
        lines.push(format!("rolled back: at {}: {}", record.at, record.reason));
    }
    match (&seen.last_night, &seen.journal_unread) {
        (_, Some(why)) => lines.push(format!("last night: the journal cannot be read: {why}")),
        (Some(night), None) => {
            let (word, text) = (night.verdict.level.word(), &night.verdict.text);
            lines.push(format!("last night: {} to {}: {word}: {text}", night.from, night.until));
            lines.extend(night.in_the_way.iter().map(|what| format!("in the way at the last look: {what}")));
        }
        (None, None) => lines.push("last night: none, the journal is empty".to_owned()),
    }
    lines.join("\n") + "\n"
}

fn nics(lines: &mut Vec<String>, seen: &StatusSeen) {
    lines.extend(seen.not_known.iter().map(|not_known| format!("not known: {not_known}")));
    match &seen.pfs_not_known {
        Some(why) => lines.push(format!("PFs: {why}")),
        None if seen.pfs.is_empty() && seen.not_known.is_empty() => {
            lines.push("no PF of this family".to_owned());
        }
        None => {}
    }
    lines.extend(seen.pfs.iter().map(pf));
}

fn pf(pf: &PfStatus) -> String {
    let netdev = pf.netdev.as_deref().unwrap_or("no netdev");
    let total = pf.total_vfs.map_or_else(|| "no SR-IOV".to_owned(), |total| format!("of at most {total}"));
    let mode = pf.eswitch_mode.as_ref().map(|mode| format!(", eswitch {mode}")).unwrap_or_default();
    format!(
        "PF {} ({netdev}, {}): {} VFs {total}, {} with a netdev here{mode}",
        pf.address, pf.driver, pf.num_vfs, pf.vf_netdevs
    )
}

fn modules(lines: &mut Vec<String>, seen: &StatusSeen, all: bool) {
    match &seen.modules {
        ModulesStatus::Unknown(why) => lines.push(format!("modules: cannot be compared: {why}")),
        ModulesStatus::Compared { reload_due, missing, identity } => {
            let due = match (reload_due, missing.as_slice()) {
                (true, _) => "a reload is due".to_owned(),
                (false, []) => "no reload is due".to_owned(),
                (false, missing) => {
                    format!("no swap is due; a reload would load {}, and unload nothing", list(missing))
                }
            };
            lines.push(format!("modules: {due}"));
            if all {
                lines.extend(identity.modules.iter().map(|one| format!("  {}: {}", one.module, one.verdict)));
            } else {
                compared(lines, identity);
            }
        }
    }
    lines.extend(seen.lost.iter().map(|module| {
        format!("  {module}: not loaded any more since a swap; it comes with the next driver that has it, or with whoever brings it")
    }));
    lines.extend(seen.reported.iter().map(|reported| {
        let ReportedVersion { driver, version, netdevs } = reported;
        format!("  {driver} reports version {version} on {} netdevs", netdevs.len())
    }));
}

/// The driver with both its versions; of the others, how many compare in which way.
fn compared(lines: &mut Vec<String>, identity: &IdentityReport) {
    let Some((driver, others)) = identity.modules.split_first() else { return };
    lines.push(format!("  {}: {}{}", driver.module, versions(driver), driver.verdict));
    let of = |is: fn(&IdentityVerdict) -> bool| -> Vec<_> {
        others.iter().filter(|one| is(&one.verdict)).map(|one| one.module.clone()).collect()
    };
    let equal = of(|verdict| matches!(verdict, IdentityVerdict::Equal(_) | IdentityVerdict::Builtin));
    let different = of(|verdict| matches!(verdict, IdentityVerdict::Different(_)));
    if !different.is_empty() {
        lines.push(format!("  {} others are different: {}", different.len(), list(&different)));
    }
    if !equal.is_empty() {
        lines.push(format!("  {} others are equal: {}", equal.len(), list(&equal)));
    }
    let odd = others.iter().filter(|one| !equal.contains(&one.module) && !different.contains(&one.module));
    lines.extend(odd.map(|one| format!("  {}: {}", one.module, one.verdict)));
}

fn versions(module: &ModuleIdentity) -> String {
    let version = |version: &Option<String>| version.clone().unwrap_or_else(|| "inbox".to_owned());
    match (module.loaded, &module.file) {
        (true, Some(_)) if module.loaded_version == module.file_version => {
            format!("{} is loaded and installed, ", version(&module.loaded_version))
        }
        (true, Some(_)) => {
            format!(
                "{} is loaded, {} installed, ",
                version(&module.loaded_version),
                version(&module.file_version)
            )
        }
        (true, None) => format!("{} is loaded, ", version(&module.loaded_version)),
        (false, Some(_)) => format!("{} is installed, ", version(&module.file_version)),
        (false, None) => String::new(),
    }
}

fn snapshot(lines: &mut Vec<String>, snapshot: &SnapshotStatus, all: bool) {
    lines.push(match snapshot {
        SnapshotStatus::Absent => "snapshot: none".to_owned(),
        SnapshotStatus::Unusable(why) => format!("snapshot: cannot be used: {why}"),
        SnapshotStatus::OtherBoot { taken_at } => {
            format!("snapshot: none of this boot; one of another boot was taken at {taken_at}")
        }
        SnapshotStatus::Present { taken_at, stage, differences: None } => {
            format!("snapshot: taken at {taken_at}, {stage}; whether the NICs differ is not known")
        }
        SnapshotStatus::Present { taken_at, stage, differences: Some(differences) } => {
            format!("snapshot: taken at {taken_at}, {stage}; {} differences", differences.len())
        }
    });
    if let SnapshotStatus::Present { differences: Some(differences), .. } = snapshot {
        let told =
            if all { differences.iter().map(ToString::to_string).collect() } else { grouped(differences) };
        lines.extend(told.into_iter().map(|difference| format!("  {difference}")));
    }
}

/// VFs of one PF that differ in the same way are told in one line.
fn grouped(differences: &[Difference]) -> Vec<String> {
    let mut groups: Vec<(&Difference, String, Vec<u32>)> = Vec::new();
    for difference in differences {
        let told = difference.to_string();
        let how = told.strip_prefix(&difference.component.to_string()).unwrap_or(&told).to_owned();
        let Component::Vf { pf, index, .. } = &difference.component else {
            groups.push((difference, how, Vec::new()));
            continue;
        };
        let same = groups
            .iter_mut()
            .find(|(first, of_group, vfs)| !vfs.is_empty() && first.component.pf() == pf && *of_group == how);
        match same {
            Some((_, _, vfs)) => vfs.push(*index),
            None => groups.push((difference, how, vec![*index])),
        }
    }
    let told = |(first, how, vfs): (&Difference, String, Vec<u32>)| match vfs.as_slice() {
        [] | [_] => first.to_string(),
        several => format!("VFs {} of {}{how}", ranges(several), first.component.pf()),
    };
    groups.into_iter().map(told).collect()
}

/// `0-45, 48`.
fn ranges(indexes: &[u32]) -> String {
    let mut sorted = indexes.to_vec();
    sorted.sort_unstable();
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for index in sorted {
        match ranges.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(index) => *last = index,
            _ => ranges.push((index, index)),
        }
    }
    let told = |(first, last): (u32, u32)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    };
    ranges.into_iter().map(told).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use nic_sriov::{Attribute, Gravity};

    use super::*;

    fn presence(index: u32, found: &str) -> Difference {
        Difference {
            component: Component::Vf {
                pf: "0000:01:00.0".parse().unwrap(),
                index,
                address: format!("0000:01:10.{}", index % 8).parse().ok(),
            },
            attribute: Attribute::Presence,
            saved: "present".to_owned(),
            found: found.to_owned(),
            gravity: Gravity::Wrong,
        }
    }

    #[test]
    fn vfs_that_differ_in_the_same_way_are_told_in_one_line() {
        let differences: Vec<_> = [0, 1, 2, 4]
            .map(|index| presence(index, "absent"))
            .into_iter()
            .chain([presence(3, "elsewhere")])
            .collect();
        let expected = [
            "VFs 0-2, 4 of 0000:01:00.0: presence is absent, was present",
            "VF 3 of 0000:01:00.0 (0000:01:10.3): presence is elsewhere, was present",
        ];
        assert_eq!(grouped(&differences), expected);
    }
}
