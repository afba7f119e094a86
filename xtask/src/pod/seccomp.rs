//! The seccomp profile that a runtime gives a container with `seccompProfile: RuntimeDefault`: the one of the distribution's
//! package, which runtimes share. Which system calls it lets through depends on the container's capabilities.

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use serde::Deserialize;
use serde_json::{Value, json};

/// The machine of the lab, as the profile names it.
const ARCHITECTURE: &str = "amd64";

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Profile {
    default_action: String,
    default_errno_ret: u32,
    syscalls: Vec<Rule>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    names: Vec<String>,
    action: String,
    errno_ret: Option<u32>,
    args: Option<Vec<Value>>,
    includes: Condition,
    excludes: Condition,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Condition {
    #[serde(default)]
    caps: Vec<String>,
    #[serde(default)]
    arches: Vec<String>,
    min_kernel: Option<String>,
}

/// `linux.seccomp` of a container that has these capabilities, by the profile in a file.
pub(super) fn of_runtime(profile: &Path, capabilities: &[String]) -> anyhow::Result<Value> {
    let text = fs::read_to_string(profile).with_context(|| format!("cannot read {}", profile.display()))?;
    let profile: Profile = serde_json::from_str(&text)
        .with_context(|| format!("{} is no seccomp profile", profile.display()))?;
    Ok(in_force(&profile, capabilities))
}

fn in_force(profile: &Profile, capabilities: &[String]) -> Value {
    let syscalls = profile.syscalls.iter().filter(|rule| rule.applies(capabilities)).map(|rule| {
        let mut syscall = json!({"names": rule.names, "action": rule.action});
        if let Some(fields) = syscall.as_object_mut() {
            if let Some(errno) = rule.errno_ret {
                fields.insert("errnoRet".to_owned(), json!(errno));
            }
            if let Some(arguments) = rule.args.as_ref().filter(|arguments| !arguments.is_empty()) {
                fields.insert("args".to_owned(), json!(arguments));
            }
        }
        syscall
    });
    json!({
        "defaultAction": profile.default_action,
        "defaultErrnoRet": profile.default_errno_ret,
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": syscalls.collect::<Vec<_>>(),
    })
}

impl Rule {
    /// Whether the rule is for this machine and a container with these capabilities: all conditions of one that includes, and
    /// none of one that excludes. The kernels of the lab are newer than any that a rule asks for.
    fn applies(&self, capabilities: &[String]) -> bool {
        let is_here = |condition: &Condition| {
            condition.arches.is_empty() || condition.arches.iter().any(|name| name == ARCHITECTURE)
        };
        let is_held = |name: &String| capabilities.contains(name);
        let excludes = &self.excludes;
        is_here(&self.includes)
            && self.includes.caps.iter().all(is_held)
            && !(excludes.caps.iter().any(is_held)
                || excludes.arches.iter().any(|name| name == ARCHITECTURE)
                || excludes.min_kernel.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROFILE: &str = r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38, "syscalls": [
        {"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [], "includes": {}, "excludes": {}},
        {"names": ["pciconfig"], "action": "SCMP_ACT_ALLOW", "args": [], "includes": {"arches": ["s390x"]}, "excludes": {}},
        {"names": ["ptrace"], "action": "SCMP_ACT_ALLOW", "args": null, "includes": {"minKernel": "4.8"}, "excludes": {}},
        {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "args": [], "includes": {"caps": ["CAP_SYS_ADMIN"]}, "excludes": {}},
        {"names": ["mount"], "action": "SCMP_ACT_ERRNO", "args": [], "includes": {}, "excludes": {"caps": ["CAP_SYS_ADMIN"]}, "errnoRet": 1}
    ]}"#;

    fn names(capabilities: &[&str]) -> Vec<String> {
        let profile: Profile = serde_json::from_str(PROFILE).unwrap();
        let capabilities: Vec<_> = capabilities.iter().map(|name| (*name).to_owned()).collect();
        let found = in_force(&profile, &capabilities);
        let syscalls = found["syscalls"].as_array().unwrap();
        syscalls.iter().map(|rule| format!("{} {}", rule["names"][0], rule["action"])).collect()
    }

    #[test]
    fn capabilities_decide() {
        assert_eq!(
            names(&["CAP_SYS_ADMIN"]),
            ["\"read\" \"SCMP_ACT_ALLOW\"", "\"ptrace\" \"SCMP_ACT_ALLOW\"", "\"mount\" \"SCMP_ACT_ALLOW\""]
        );
        assert_eq!(names(&[]).last().unwrap(), "\"mount\" \"SCMP_ACT_ERRNO\"");
    }
}
