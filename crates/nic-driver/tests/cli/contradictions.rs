//! A snapshot that somebody has edited so that it contradicts itself: the contradiction is named by its field, in one line, and nothing of it is
//! carried out.

use std::fs;

use nic_driver::Exit;
use serde_json::{Value, json};

use crate::bad_input::{Edit, edited, told, vfs};
use crate::program::AFTER;

#[test]
fn trial_w12_contradictions_of_a_snapshot_are_named_and_not_carried_out() {
    let cases: [(&str, Edit, &str); 15] = [
        ("a VF less", |s| drop(vfs(s).pop()), "vfs: 49 are told of, and num_vfs is 50"),
        ("a VF out of the middle", |s| drop(vfs(s).remove(7)), "vfs: 49"),
        ("fewer VFs", |s| s["nics"]["pfs"][0]["num_vfs"] = 10.into(), "num_vfs is 10"),
        ("a VF twice", |s| vfs(s)[1]["index"] = 0.into(), "index: 0 stands in the place of 1"),
        ("a far index", |s| vfs(s)[1]["index"] = u32::MAX.into(), "index: 4294967295"),
        ("another's attributes", |s| vfs(s)[1]["admin"]["set"]["index"] = 5.into(), "admin.index: 5"),
        ("an address twice", |s| vfs(s)[1]["address"] = vfs(s)[0]["address"].clone(), "address: the device"),
        (
            "a name twice",
            |s| vfs(s)[1]["netdev"]["name"] = vfs(s)[0]["netdev"]["name"].clone(),
            "netdev.name: ",
        ),
        (
            "a PF twice",
            |s| {
                let pf = s["nics"]["pfs"][0].clone();
                s["nics"]["pfs"].as_array_mut().unwrap().push(pf);
            },
            "address: the device is there twice",
        ),
        ("a path", |s| vfs(s)[1]["driver"] = "../../../tmp/x".into(), "no driver's name"),
        ("an escape", |s| vfs(s)[1]["driver"] = "\u{1b}[31m".into(), r#"driver: "\u{1b}[31m""#),
        ("a line", |s| vfs(s)[1]["driver_override"] = "../x\ny".into(), r#"driver_override: "../x\ny""#),
        (
            "a VLAN",
            |s| {
                vfs(s)[48]["admin"]["set"]["vlan"] =
                    serde_json::json!({"set": {"id": 5000, "qos": 0, "protocol": "802.1q"}});
            },
            "admin.vlan.id: 5000 is above 4095",
        ),
        ("a field below", |s| vfs(s)[1]["admin"]["set"]["mtu"] = 3.into(), "unknown field `mtu`"),
        ("an empty driver", |s| vfs(s)[1]["driver"] = "".into(), "no driver's name"),
    ];
    for (what, edit, words) in cases {
        let sandbox = edited(edit);
        let ran = sandbox.on(AFTER, &["plan", "restore-sriov"]);
        assert_eq!(ran.code, Exit::BadSnapshot as i32, "{what}: {}", ran.text());
        told(&ran, Exit::BadSnapshot, &["snapshot.json", words]);
    }
    // A key that is there twice: the last must not count alone.
    let sandbox = edited(|_| ());
    let text = fs::read_to_string(sandbox.snapshot()).unwrap();
    fs::write(sandbox.snapshot(), text.replacen("\"num_vfs\": 50,", "\"num_vfs\": 50, \"num_vfs\": 3,", 1))
        .unwrap();
    let ran = sandbox.on(AFTER, &["plan", "restore-sriov"]);
    told(&ran, Exit::BadSnapshot, &["duplicate field `num_vfs`"]);
}

/// Edits a snapshot, and sees the contradiction told by all that read it.
fn refused(what: &str, edit: Edit, words: &[&str]) {
    let sandbox = edited(edit);
    let before = fs::read(sandbox.snapshot()).unwrap();
    for command in [&["plan", "restore-sriov"][..], &["restore-sriov"], &["reload"]] {
        let ran = sandbox.on(AFTER, command);
        if command.len() > 1 {
            assert_eq!(ran.code, Exit::BadSnapshot as i32, "{what}: {}", ran.text());
            told(&ran, Exit::BadSnapshot, words);
        }
        assert_ne!(ran.code, 0, "{what}: {}", ran.text());
    }
    assert_eq!(fs::read(sandbox.snapshot()).unwrap(), before, "{what}");
}

/// The saved index of the first PF's netdev.
fn pf_index(snapshot: &Value) -> Value {
    snapshot["nics"]["pfs"][0]["netdev"]["set"]["index"].clone()
}

/// The first PF's netdev as one on which something stood.
fn device(snapshot: &Value) -> Value {
    json!({
        "index": pf_index(snapshot), "name": "pf0", "kind": null, "place": {"place": "device"}, "master": null, "port": null,
        "address": "02:00:00:00:00:01", "mtu": 1500, "up": true, "tx_queue_length": 1000, "alias": null, "group": 0, "altnames": [],
    })
}

fn setting(snapshot: &Value, ethtool: &Value) -> Value {
    json!({"index": pf_index(snapshot), "name": "pf0", "ethtool": ethtool.clone()})
}

#[test]
fn trial_w12_contradictions_of_a_netdev_are_named() {
    let cases: [(&str, Edit, &str); 9] = [
        (
            "an index twice",
            |s| vfs(s)[1]["netdev"]["index"] = vfs(s)[0]["netdev"]["index"].clone(),
            "netdev.index: ",
        ),
        ("no index", |s| vfs(s)[1]["netdev"]["index"] = 0.into(), "netdev.index: 0 is no interface's"),
        ("an MTU", |s| vfs(s)[1]["netdev"]["mtu"] = u32::MAX.into(), "netdev.mtu: 4294967295 is above"),
        (
            "an alternative name",
            |s| vfs(s)[1]["netdev"]["altnames"] = json!(["../x\n"]),
            r#"netdev.altnames: "../x\n" is no name"#,
        ),
        (
            "another's name",
            |s| vfs(s)[1]["netdev"]["altnames"] = json!([vfs(s)[0]["netdev"]["name"]]),
            "netdev.altnames: ",
        ),
        ("a description", |s| vfs(s)[1]["netdev"]["alias"] = "x".repeat(300).into(), "netdev.alias: 300"),
        (
            "an address",
            |s| vfs(s)[1]["netdev"]["address"] = "02:".repeat(40)[..119].into(),
            "netdev.address: 40 bytes",
        ),
        (
            "an RDMA device",
            |s| vfs(s)[1]["rdma"] = json!({"set": ["../../x"]}),
            r#"rdma: "../../x" is no name of an RDMA device"#,
        ),
        (
            "a VLAN",
            |s| vfs(s)[1]["ofed"] = json!({"trunk": {"set": [5000]}, "rate_group": "not_there"}),
            "ofed.trunk",
        ),
    ];
    for (what, edit, words) in cases {
        refused(what, edit, &["snapshot.json contradicts itself", "VF 1 of 0000:01:00.0", words]);
    }
}

#[test]
fn trial_w12_contradictions_of_the_network_are_named() {
    // What can be is taken.
    let sandbox = edited(|s| s["network"]["links"] = json!([device(s)]));
    sandbox.on(AFTER, &["plan", "restore-sriov"]).succeeded();
    let cases: [(&str, Edit, &str); 4] = [
        (
            "nobody's netdev",
            |s| {
                s["network"]["links"] = json!([device(s)]);
                s["network"]["links"][0]["index"] = 4711.into();
            },
            "network.links[0].index: 4711 (pf0) is no netdev of these NICs",
        ),
        (
            "a link that is not there",
            |s| {
                let mut vlan = device(s);
                vlan["index"] = 4711.into();
                vlan["place"] = json!({"place": "lost_child", "lower": 4712});
                s["network"]["links"] = json!([device(s), vlan]);
                s["network"]["links"][1]["name"] = "vlan7".into();
            },
            "network.links[1].place.lower (vlan7): ifindex 4712 is of no link",
        ),
        (
            "a prefix",
            |s| {
                s["network"]["links"] = json!([device(s)]);
                s["network"]["addresses"] = json!([{
                    "index": pf_index(s), "address": "192.0.2.1", "prefix_length": 33, "peer": null, "broadcast": null, "label": null,
                    "scope": 0, "flags": 128, "preferred_s": null, "valid_s": null, "metric": null, "origin": 0,
                }]);
            },
            "network.addresses[0].prefix_length (192.0.2.1/33 on pf0): 33 is more than the 32 bits",
        ),
        (
            "a rule",
            |s| {
                s["network"]["rules"] = json!([{
                    "version": "v4", "priority": 7, "source": null, "destination": null, "input_interface": "\u{1b}[31m/x",
                    "output_interface": null, "tos": 0, "action": 1, "inverted": false, "table": 7,
                }]);
            },
            r#"network.rules[0].input_interface (priority 7): "\u{1b}[31m/x" is no name"#,
        ),
    ];
    for (what, edit, words) in cases {
        refused(what, edit, &["snapshot.json contradicts itself", words]);
    }
}

#[test]
fn trial_w12_contradictions_of_settings_and_parameters_are_named() {
    let cases: [(&str, Edit, &str); 11] = [
        (
            "nobody's settings",
            |s| s["settings"] = json!({"devices": [{"index": 4711, "name": "pf0"}]}),
            "settings.devices[0].index: 4711 (pf0) is no netdev of these NICs",
        ),
        (
            "a device twice",
            |s| {
                s["settings"] = json!({"devices": [setting(s, &json!({})), setting(s, &json!({}))]});
            },
            "settings.devices[1].index (pf0): ",
        ),
        (
            "no such setting",
            |s| {
                s["settings"] = json!({"defaults": [setting(s, &json!({"rings": {"set": {"r\u{1b}x": {"number": 7}}}}))]});
            },
            r#"settings.defaults[0].ethtool.rings (pf0): "r\u{1b}x": there is no such setting"#,
        ),
        (
            "another form",
            |s| {
                s["settings"] =
                    json!({"fresh": [setting(s, &json!({"rings": {"set": {"rx": {"switch": true}}}}))]});
            },
            "settings.fresh[0].ethtool.rings (pf0): rx: the value is no number",
        ),
        (
            "another module's parameters",
            |s| s["parameters"] = json!({"igb": {"max_vfs": "7"}}),
            "parameters.igb: the module is none of those",
        ),
        (
            "an option",
            |s| s["parameters"] = json!({"mlx5_core": {"-r -f": "7"}}),
            r#"parameters.mlx5_core: "-r -f" is no name"#,
        ),
        (
            "a path",
            |s| s["parameters"] = json!({"mlx5_core": {"../x": "7"}}),
            r#""../x" is no name of a parameter"#,
        ),
        (
            "a parent",
            |s| s["parameters"] = json!({"mlx5_core": {"..": "7"}}),
            r#"".." is no name of a parameter"#,
        ),
        (
            "a module in two spellings",
            |s| s["parameters"] = json!({"mlx5_core": {"prof_sel": "2"}, "mlx5-core": {"prof_sel": "1"}}),
            "parameters: the key \"mlx5_core\" is there twice",
        ),
        (
            "a module twice",
            |s| {
                let one = s["modules"][0].clone();
                s["modules"].as_array_mut().unwrap().push(one);
            },
            "is there twice",
        ),
        (
            "a PF that is forgotten and there",
            |s| s["forgotten"] = json!([s["nics"]["pfs"][0]["address"]]),
            "forgotten[0]: 0000:01:00.0 is among nics.pfs",
        ),
    ];
    for (what, edit, words) in cases {
        refused(what, edit, &["snapshot.json", words]);
    }
}

#[test]
fn trial_w12_a_key_that_is_there_twice_does_not_count_once() {
    let sandbox = edited(|s| {
        s["parameters"] = json!({"mlx5_core": {"prof_sel": "2"}});
        s["settings"] = json!({"devices": [setting(s, &json!({"rings": {"set": {"rx": {"number": 512}}}}))]});
    });
    let text = fs::read_to_string(sandbox.snapshot()).unwrap();
    for (key, again, words) in [
        (
            "\"rings\": {",
            "\"rings\": \"not_there\", \"rings\": {",
            "settings.devices[0].ethtool: the key \"rings\" is there twice",
        ),
        ("\"rx\": {", "\"rx\": {\"number\": 7}, \"rx\": {", "the key \"rx\" is there twice"),
        ("\"prof_sel\":", "\"prof_sel\": \"1\", \"prof_sel\":", "parameters.mlx5_core: the key \"prof_sel\""),
        ("\"mlx5_core\": {", "\"mlx5_core\": {}, \"mlx5_core\": {", "parameters: the key \"mlx5_core\""),
    ] {
        let edited = text.replacen(key, again, 1);
        assert_ne!(edited, text, "{key}");
        fs::write(sandbox.snapshot(), edited).unwrap();
        let ran = sandbox.on(AFTER, &["plan", "restore-sriov"]);
        told(&ran, Exit::BadSnapshot, &["snapshot.json", words]);
    }
}
