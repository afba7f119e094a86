//! Snapshots of schema 2, in which `null` stood for what was not there, not set, and not read.

use serde_json::{Map, Value, json};

const WHY: &str = "an earlier version of this program took the snapshot, and did not look for it";

/// The same snapshot in schema 3. What schema 2 did not hold, or did not tell from nothing, is not known, and that is taken into account:
/// the first change is behind a swap that is gone on with. What is wrong with it is left for the parser to say.
pub(super) fn to_schema_3(mut snapshot: Value) -> Value {
    if let Some(fields) = snapshot.as_object_mut() {
        fields.insert("schema".to_owned(), json!(3));
    }
    for pf in objects(snapshot.pointer_mut("/nics/pfs")) {
        // Where these could not be read, schema 2 had no snapshot.
        for field in ["eswitch", "netdev"] {
            let value = pf.remove(field).unwrap_or_default();
            pf.insert(field.to_owned(), set_or(value, json!("not_there")));
        }
        pf.entry("rdma").or_insert_with(not_known);
        for vf in objects(pf.get_mut("vfs")) {
            let admin = vf.remove("admin").unwrap_or_default();
            vf.insert("admin".to_owned(), set_or(admin, not_known()));
            vf.entry("rdma").or_insert_with(not_known);
            if let Some(Value::Object(mut ofed)) = vf.remove("ofed") {
                let trunk = match ofed.remove("trunk") {
                    Some(Value::Array(vlans)) if vlans.is_empty() => json!("not_set"),
                    trunk => set_or(trunk.unwrap_or_default(), json!("not_there")),
                };
                let rate_group = match ofed.remove("rate_group").unwrap_or_default() {
                    group if group == json!(0) => json!("not_set"),
                    group => set_or(group, json!("not_there")),
                };
                vf.insert("ofed".to_owned(), json!({"trunk": trunk, "rate_group": rate_group}));
            }
        }
    }
    snapshot
}

/// The objects of a list.
fn objects(list: Option<&mut Value>) -> impl Iterator<Item = &mut Map<String, Value>> {
    let items = list.and_then(Value::as_array_mut);
    items.into_iter().flatten().filter_map(Value::as_object_mut)
}

fn set_or(value: Value, if_null: Value) -> Value {
    match value {
        Value::Null => if_null,
        value => Value::Object(Map::from_iter([("set".to_owned(), value)])),
    }
}

fn not_known() -> Value {
    json!({"not_known": {"why": WHY, "accepted": true}})
}

#[cfg(test)]
mod tests {
    use nic_netlink::Setting;
    use nic_sriov::{BindStep, DeviceUsers, Gravity, NicState, PfStep, RestoreStep, compare, plan_restore};

    use super::*;
    use crate::state::{Snapshot, StateStore};

    /// The documented node's, as the last version with schema 2 stored it.
    const STORED: &str = include_str!("../../../../fixtures/state/schema-2/mlx5/snapshot.json");

    fn read(text: &str) -> Result<Snapshot, crate::state::SnapshotError> {
        let folder = tempfile::tempdir().unwrap();
        let store = StateStore::new(folder.path());
        std::fs::write(store.snapshot_path(), text).unwrap();
        store.snapshot().map(Option::unwrap)
    }

    #[test]
    fn a_snapshot_of_schema_2_is_read_and_owes_what_it_owed() {
        let snapshot = read(STORED).unwrap();
        let [first, second] = &snapshot.nics.pfs[..] else { panic!("{:?}", snapshot.nics) };
        assert_eq!((first.vfs.len(), second.vfs.len()), (50, 0));
        assert!(first.eswitch.as_set().is_some() && first.netdev.as_set().is_some());
        assert!(first.vfs.iter().all(|vf| vf.admin.as_set().is_some()));
        // With the next write it is one of today's schema, and is read as that.
        let folder = tempfile::tempdir().unwrap();
        let store = StateStore::new(folder.path());
        store.write_snapshot(&snapshot).unwrap();
        let written = std::fs::read_to_string(store.snapshot_path()).unwrap();
        assert!(written.contains("\"schema\": 4"), "{written}");
        assert_eq!(read(&written).unwrap().nics.vf_count(), 50);

        let mut reloaded = snapshot.nics.clone();
        for pf in &mut reloaded.pfs {
            (pf.num_vfs, pf.vfs) = (0, Vec::new());
        }
        let plan = plan_restore(&snapshot.nics, &reloaded, &DeviceUsers::new());
        let steps = || plan.steps.iter().map(|planned| &planned.step);
        assert!(steps().any(|step| matches!(step, RestoreStep::Pf(PfStep::NumVfs(50)))), "{plan}");
        let binds = steps().filter(|step| matches!(step, RestoreStep::Bind(BindStep::Bind(_))));
        assert_eq!(binds.count(), 50);
    }

    #[test]
    fn what_schema_2_did_not_hold_is_lost_and_said_and_no_fault() {
        let saved = read(STORED).unwrap().nics;
        assert!(saved.not_known().is_empty(), "it was taken into account");
        let mut found: NicState = saved.clone();
        for pf in &mut found.pfs {
            pf.rdma = Setting::Set(vec!["mlx5_0".to_owned()]);
            pf.vfs.iter_mut().for_each(|vf| vf.rdma = Setting::NotThere);
        }
        let differences = compare(&saved, &found);
        assert!(!differences.is_empty());
        assert!(differences.iter().all(|one| one.gravity == Gravity::CannotRestore), "{differences:?}");
    }

    #[test]
    fn null_is_told_apart_by_field() {
        let old = json!({"schema": 2, "nics": {"pfs": [{"eswitch": null, "netdev": null, "vfs": [
            {"admin": null, "ofed": null},
            {"admin": {"index": 1}, "ofed": {"trunk": [], "rate_group": 0}},
            {"admin": {"index": 2}, "ofed": {"trunk": [7], "rate_group": null}},
            {"admin": {"index": 3}, "ofed": {"trunk": [], "rate_group": 3}},
        ]}]}});
        let new = to_schema_3(old);
        let pf = &new["nics"]["pfs"][0];
        assert_eq!(
            (&new["schema"], &pf["eswitch"], &pf["netdev"]),
            (&json!(3), &json!("not_there"), &json!("not_there"))
        );
        assert_eq!(pf["vfs"][0]["admin"]["not_known"]["accepted"], json!(true));
        assert_eq!(pf["vfs"][1]["admin"], json!({"set": {"index": 1}}));
        let ofed: Vec<&Value> = (0..4).map(|vf| &pf["vfs"][vf]["ofed"]).collect();
        assert_eq!(*ofed[0], Value::Null);
        assert_eq!(*ofed[1], json!({"trunk": "not_set", "rate_group": "not_set"}));
        assert_eq!(*ofed[2], json!({"trunk": {"set": [7]}, "rate_group": "not_there"}));
        assert_eq!(*ofed[3], json!({"trunk": "not_set", "rate_group": {"set": 3}}));
    }

    #[test]
    fn whatever_is_wrong_with_it_is_named_and_ends_nothing_else() {
        for text in
            [r#"{"schema": 2}"#, r#"{"schema": 2, "nics": {"pfs": [7]}}"#, r#"{"schema": 2, "nics": []}"#]
        {
            assert!(read(text).is_err(), "{text}");
        }
        let damaged = STORED.replacen("enp1s0f0np0", "enp1s0f0np1", 1);
        assert!(read(&damaged).unwrap_err().to_string().contains("checksum"));
    }
}
