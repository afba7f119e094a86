//! What a container runtime interface makes of a container of a pod: the OCI runtime's `config.json`, as containerd writes it
//! (`pkg/cri/server/container_create.go`, `pkg/oci`).
//!
//! Labels of SELinux and profiles of AppArmor are left out: the guest has no policy that would know them.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use k8s_openapi::api::core::v1::{Container, PodSpec};
use lab_guest::pod::{EMPTY_DIR, TERMINATION_MESSAGE};
use oci_spec::runtime::Spec;
use serde_json::{Value, json};

use super::images::Image;
use super::manifest::Source;
use super::seccomp;

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// What a container has that asks for nothing.
const DEFAULT_CAPABILITIES: [&str; 14] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "NET_RAW",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];
/// All that the kernels of the lab know (capabilities(7)).
const ALL_CAPABILITIES: [&str; 41] = [
    "AUDIT_CONTROL",
    "AUDIT_READ",
    "AUDIT_WRITE",
    "BLOCK_SUSPEND",
    "BPF",
    "CHECKPOINT_RESTORE",
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "IPC_LOCK",
    "IPC_OWNER",
    "KILL",
    "LEASE",
    "LINUX_IMMUTABLE",
    "MAC_ADMIN",
    "MAC_OVERRIDE",
    "MKNOD",
    "NET_ADMIN",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_RAW",
    "PERFMON",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYSLOG",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_CHROOT",
    "SYS_MODULE",
    "SYS_NICE",
    "SYS_PACCT",
    "SYS_PTRACE",
    "SYS_RAWIO",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "WAKE_ALARM",
];
const MASKED: [&str; 9] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/sys/firmware",
];
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The configuration of `container`, which runs `image`.
pub(super) fn config(
    pod: &PodSpec,
    container: &Container,
    image: &Image,
    volumes: &BTreeMap<&str, Source>,
    runtime_default: &Path,
) -> anyhow::Result<Value> {
    let security = container.security_context.clone().unwrap_or_default();
    let privileged = security.privileged.unwrap_or_default();
    let (mounts, shared) = mounts(container, volumes, privileged)?;
    let capabilities = capabilities(container)?;
    let escalates = security.allow_privilege_escalation.unwrap_or(true);
    let mut namespaces = vec![json!({"type": "mount"}), json!({"type": "ipc"})];
    for (kind, is_hosts) in [("pid", pod.host_pid), ("network", pod.host_network), ("uts", pod.host_network)]
    {
        if !is_hosts.unwrap_or_default() {
            namespaces.push(json!({"type": kind}));
        }
    }
    if !privileged {
        namespaces.push(json!({"type": "cgroup"}));
    }
    let everything = json!({"allow": true, "access": "rwm"});
    let nothing = json!({"allow": false, "access": "rwm"});
    let mut config = json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": {"uid": 0, "gid": 0},
            "args": arguments(container, image),
            "env": environment(container, image)?,
            "cwd": container.working_dir.as_deref().unwrap_or(image.working_dir),
            "capabilities": {
                "bounding": capabilities,
                "effective": capabilities,
                "permitted": capabilities,
            },
            "noNewPrivileges": !(escalates || privileged),
        },
        "root": {"path": "rootfs", "readonly": security.read_only_root_filesystem.unwrap_or_default()},
        "mounts": mounts,
        "linux": {
            "namespaces": namespaces,
            "resources": {"devices": [if privileged { everything } else { nothing }]},
            "rootfsPropagation": if shared { "rshared" } else { "rprivate" },
            "maskedPaths": if privileged { json!([]) } else { json!(MASKED) },
            "readonlyPaths": if privileged { json!([]) } else { json!(READ_ONLY) },
        },
    });
    match security.seccomp_profile.as_ref().map(|profile| profile.type_.as_str()) {
        // The kubelet's default, and a privileged container's in any case.
        None | Some("Unconfined") => {}
        Some("RuntimeDefault") if !privileged => {
            let profile = seccomp::of_runtime(runtime_default, &capabilities)?;
            if let Some(Value::Object(linux)) = config.get_mut("linux") {
                linux.insert("seccomp".to_owned(), profile);
            }
        }
        Some(other) => bail!("the container {} has the seccomp profile {other}", container.name),
    }
    let _: Spec = serde_json::from_value(config.clone())
        .with_context(|| format!("the container {} has no valid configuration", container.name))?;
    Ok(config)
}

/// The manifest's command replaces the image's entrypoint, and then its arguments, or else the manifest's alone, are all.
fn arguments(container: &Container, image: &Image) -> Vec<String> {
    let own = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let (command, arguments) = match (&container.command, &container.args) {
        (Some(command), arguments) => (command.clone(), arguments.clone().unwrap_or_default()),
        (None, Some(arguments)) => (own(image.entrypoint), arguments.clone()),
        (None, None) => (own(image.entrypoint), own(image.arguments)),
    };
    [command, arguments].concat()
}

fn environment(container: &Container, image: &Image) -> anyhow::Result<Vec<String>> {
    let mut all = BTreeMap::from([("PATH", PATH.to_owned())]);
    all.extend(image.variables.iter().map(|(name, value)| (*name, value.clone())));
    for variable in container.env.iter().flatten() {
        ensure!(variable.value_from.is_none(), "the variable {} comes from elsewhere", variable.name);
        let value = variable.value.clone().unwrap_or_default();
        // The kubelet replaces references to variables.
        ensure!(!value.contains("$("), "the variable {} refers to another", variable.name);
        all.insert(&variable.name, value);
    }
    Ok(all.into_iter().map(|(name, value)| format!("{name}={value}")).collect())
}

fn capabilities(container: &Container) -> anyhow::Result<Vec<String>> {
    let security = container.security_context.clone().unwrap_or_default();
    let mut held: Vec<&str> = if security.privileged.unwrap_or_default() {
        ALL_CAPABILITIES.to_vec()
    } else {
        DEFAULT_CAPABILITIES.to_vec()
    };
    let asked = security.capabilities.unwrap_or_default();
    for name in asked.drop.iter().flatten() {
        held.retain(|known| name != "ALL" && known != name);
    }
    for name in asked.add.iter().flatten() {
        let known = ALL_CAPABILITIES.iter().find(|known| *known == name);
        held.push(known.with_context(|| format!("{name} is no capability"))?);
    }
    held.sort_unstable();
    held.dedup();
    Ok(held.into_iter().map(|name| format!("CAP_{name}")).collect())
}

/// The mounts, and whether one of them is to be seen outside.
fn mounts(
    container: &Container,
    volumes: &BTreeMap<&str, Source>,
    privileged: bool,
) -> anyhow::Result<(Vec<Value>, bool)> {
    let access = if privileged { "rw" } else { "ro" };
    let of_runtime = [
        ("/proc", "proc", "proc", "nosuid,noexec,nodev".to_owned()),
        ("/dev", "tmpfs", "tmpfs", "nosuid,strictatime,mode=755,size=65536k".to_owned()),
        (
            "/dev/pts",
            "devpts",
            "devpts",
            "nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5".to_owned(),
        ),
        ("/dev/mqueue", "mqueue", "mqueue", "nosuid,noexec,nodev".to_owned()),
        ("/sys", "sysfs", "sysfs", format!("nosuid,noexec,nodev,{access}")),
        ("/sys/fs/cgroup", "cgroup", "cgroup", format!("nosuid,noexec,nodev,relatime,{access}")),
        ("/dev/shm", "tmpfs", "shm", "nosuid,noexec,nodev,mode=1777,size=65536k".to_owned()),
    ];
    let mount = |destination: &str, kind: &str, source: &str, options: &str| {
        json!({"destination": destination, "type": kind, "source": source,
               "options": options.split(',').collect::<Vec<_>>()})
    };
    let mut mounts: Vec<Value> = of_runtime
        .iter()
        .map(|(destination, kind, source, options)| mount(destination, kind, source, options))
        .collect();
    let message = container.termination_message_path.as_deref().unwrap_or("/dev/termination-log");
    mounts.push(mount(message, "bind", TERMINATION_MESSAGE, "rbind,rprivate,rw"));
    let mut shared = false;
    for volume in container.volume_mounts.iter().flatten() {
        let source = match volumes.get(volume.name.as_str()) {
            Some(Source::Host(host)) => host.path.clone(),
            Some(Source::EmptyDir) => format!("{EMPTY_DIR}{}", volume.name),
            None => bail!("no volume is called {}", volume.name),
        };
        ensure!(
            volume.sub_path.is_none() && volume.sub_path_expr.is_none(),
            "the mount of {} has a subPath",
            volume.name
        );
        let propagation = match volume.mount_propagation.as_deref() {
            None | Some("None") => "rprivate",
            Some("HostToContainer") => "rslave",
            Some("Bidirectional") if privileged => "rshared",
            Some("Bidirectional") => {
                bail!("Kubernetes lets none but a privileged container have a Bidirectional mount")
            }
            Some(other) => bail!("{other} is no mountPropagation"),
        };
        shared |= propagation == "rshared";
        let access = if volume.read_only.unwrap_or_default() { "ro" } else { "rw" };
        // A mount takes the place of the runtime's own.
        mounts.retain(|known| known.get("destination") != Some(&Value::from(&*volume.mount_path)));
        mounts.push(mount(&volume.mount_path, "bind", &source, &format!("rbind,{propagation},{access}")));
    }
    Ok((mounts, shared))
}
