use std::collections::BTreeMap;
use std::path::PathBuf;

use lab_guest::pod::{Pod, ProbeKind};
use serde_json::{Value, json};

use super::{all, kustomize, manifest};

fn deploy() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy"))
}

fn pods() -> BTreeMap<String, Pod> {
    let profile = tempfile::NamedTempFile::new().unwrap();
    let text = r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38, "syscalls": []}"#;
    std::fs::write(profile.path(), text).unwrap();
    all(&deploy(), profile.path()).unwrap().into_iter().collect()
}

fn mount<'a>(config: &'a Value, destination: &str) -> &'a Value {
    let mounts = config["mounts"].as_array().unwrap();
    let [one] = mounts.iter().filter(|mount| mount["destination"] == destination).collect::<Vec<_>>()[..]
    else {
        panic!("{destination} is not mounted once: {mounts:#?}")
    };
    one
}

#[test]
fn a_manifest_becomes_a_bundle() {
    let pods = pods();
    let driver = &pods["sources-A"].containers[0];
    assert_eq!(driver.config["process"]["args"], json!(["nic-driver", "run", "sources"]));
    let variables = driver.config["process"]["env"].as_array().unwrap();
    for expected in [
        "NVIDIA_NIC_DRIVER_VER=25.07-0.9.7.0",
        "NIC_DRIVER_FAMILY=igb",
        "NVIDIA_NIC_DRIVERS_INVENTORY_PATH=/mnt/drivers-inventory",
    ] {
        assert!(variables.contains(&json!(expected)), "{expected} is not among {variables:?}");
    }
    let shared = mount(&driver.config, "/run/mellanox/drivers");
    assert_eq!(shared["options"], json!(["rbind", "rshared", "rw"]));
    assert_eq!(driver.config["linux"]["rootfsPropagation"], "rshared");
    assert_eq!(mount(&driver.config, "/run/udev")["options"], json!(["rbind", "rprivate", "ro"]));
    assert_eq!(driver.config["process"]["capabilities"]["bounding"].as_array().unwrap().len(), 41);
    let startup = &driver.probes[&ProbeKind::Startup];
    assert_eq!((startup.delay, startup.period, startup.timeout, startup.failures), (30, 10, 10, 120));
    assert_eq!(startup.command, ["nic-driver", "probe", "startup"]);
}

#[test]
fn the_sidecar_is_not_privileged() {
    let pods = pods();
    let sidecar = &pods["openshift-B"].containers[1];
    assert_eq!(sidecar.config["process"]["capabilities"]["bounding"].as_array().unwrap().len(), 14);
    assert_eq!(mount(&sidecar.config, "/sys")["options"], json!(["nosuid", "noexec", "nodev", "ro"]));
    let folder = mount(&sidecar.config, "/mnt/shared-nvidia-nic-driver-toolkit");
    assert_eq!(folder["source"], "emptydir:shared-toolkit");
    assert!(sidecar.probes.is_empty());
}

#[test]
fn least_privilege_is_what_it_says() {
    let pods = pods();
    let config = &pods["least-privilege-A"].containers[0].config;
    let held = config["process"]["capabilities"]["bounding"].as_array().unwrap();
    assert!(held.contains(&json!("CAP_SYS_MODULE")) && held.len() == 8, "{held:?}");
    assert_eq!(config["linux"]["seccomp"]["defaultErrnoRet"], 38);
    assert_eq!(mount(config, "/sys")["type"], "bind");
    assert_eq!(config["linux"]["rootfsPropagation"], "rprivate");
}

#[test]
fn only_the_image_is_swapped_for_the_incumbents() {
    let pods = pods();
    let (ours, theirs) = (&pods["operator-A"], &pods["incumbent-A"]);
    assert_eq!(theirs.containers[0].config["process"]["args"], json!(["/root/loader.sh", "sources"]));
    assert!(theirs.containers[0].layers.contains(&"incumbent".to_owned()));
    assert!(!theirs.containers[0].layers.contains(&"program".to_owned()));
    let without_image = |pod: &Pod| {
        let mut pod = pod.clone();
        let container = &mut pod.containers[0];
        container.layers.clear();
        container.config["process"]["args"].take();
        let variables = container.config["process"]["env"].as_array_mut().unwrap();
        variables.retain(|variable| !variable.as_str().unwrap().starts_with("OFED_BLACKLIST_MODULES="));
        pod
    };
    assert_eq!(without_image(ours), without_image(theirs));
    let live = &theirs.containers[0].probes[&ProbeKind::Liveness];
    assert_eq!(live.command, ["sh", "-c", "lsmod | grep igb"]);
    assert_eq!((live.period, live.failures), (30, 1));
}

#[test]
fn the_program_knows_the_pods_grace_period() {
    for (name, pod) in pods() {
        let variables = pod.containers[0].config["process"]["env"].as_array().unwrap();
        let expected = json!(format!("NIC_DRIVER_GRACE={}", pod.grace));
        assert!(variables.contains(&expected), "{name}: {expected} is not among {variables:?}");
    }
}

#[test]
fn what_kubernetes_does_not_know_is_an_error() {
    let resource = &mut kustomize::render(&deploy().join("base")).unwrap()[0];
    manifest::daemon_set(resource).unwrap();
    resource["spec"]["template"]["spec"]["gracePeriod"] = json!(300);
    let error = format!("{:#}", manifest::daemon_set(resource).unwrap_err());
    assert!(error.contains("gracePeriod"), "{error}");
}
