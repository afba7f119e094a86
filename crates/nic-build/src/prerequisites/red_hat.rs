use nic_packages::{Distribution, KernelFlavour, Node, RhelRelease, RhelReleaseError};

use crate::command::{OPTIONAL_DEADLINE, OnFailure, PlannedCommand};
use crate::facts::BuildFacts;
use crate::step::{CopyExtent, Plan, Step};

/// The releases that have a repository of extended update support, which keeps kernels that others have dropped.
const EXTENDED_SUPPORT: [(u32, u32); 6] = [(8, 4), (8, 6), (8, 8), (9, 0), (9, 2), (9, 4)];

/// Programs that a build needs. The images have them: it is an attempt to have them in the distribution's version.
const BUILD_PROGRAMS: [&str; 7] =
    ["elfutils-libelf-devel", "kernel-rpm-macros", "numactl-libs", "lsof", "rpm-build", "patch", "hostname"];

/// RHEL, its like, and OpenShift without a build sidecar.
///
/// Repositories are attempts: not every subscription has each. One whose lists cannot be had is disabled again, since with
/// it nothing else could be installed.
pub(super) fn prerequisites(node: &Node, facts: &BuildFacts) -> Result<Plan, RhelReleaseError> {
    let release = node.rhel_release()?;
    let mut plan = Plan::default();
    if node.distribution == Distribution::OpenShift {
        match node.openshift {
            Some(openshift) => {
                let name = format!("rhocp-{openshift}-for-rhel-{}-{}-rpms", release.major, node.architecture);
                plan.steps.extend([enable(&name), disable_unless_usable(&name, release)]);
            }
            None => plan.notes.push(
                "the host does not tell its release of OpenShift: that release's repository is not enabled"
                    .to_owned(),
            ),
        }
    }
    let extended = extended_support(node, release);
    plan.steps.extend(extended.as_deref().map(enable));
    if facts.has_headers {
        plan.notes
            .push(format!("/lib/modules/{}/build is there: no kernel packages are installed", node.kernel));
    } else {
        plan.steps.extend(kernel_packages(node, facts, release, &mut plan.notes));
    }
    plan.steps.push(
        dnf("install programs for builds", Some(release), BUILD_PROGRAMS)
            .on_failure(OnFailure::Warning)
            .into(),
    );
    plan.steps.extend(extended.map(|name| disable_unless_usable(&name, release)));
    Ok(plan)
}

/// The repository of extended update support, where this release has one.
fn extended_support(node: &Node, release: RhelRelease) -> Option<String> {
    let has_it = EXTENDED_SUPPORT
        .iter()
        .any(|(major, minor)| release.major == *major && release.minor == Some(*minor));
    has_it.then(|| format!("rhel-{}-for-{}-baseos-eus-rpms", release.major, node.architecture))
}

/// The packages of exactly this kernel. Those of other variants have their name in front of the version, and are in the
/// host's repositories alone, whichever release those are of.
fn kernel_packages(
    node: &Node,
    facts: &BuildFacts,
    release: RhelRelease,
    notes: &mut Vec<String>,
) -> Vec<Step> {
    let version = &node.variant.version;
    let variant = match node.variant.flavour {
        KernelFlavour::Standard => {
            let packages =
                ["kernel", "kernel-headers", "kernel-core"].map(|name| format!("{name}-{version}"));
            let devel = [format!("kernel-devel-{version}"), "--allowerasing".to_owned()];
            let modules = [format!("kernel-modules-{version}")];
            return vec![
                dnf("install the kernel's packages", Some(release), packages).into(),
                dnf("install the kernel's headers", Some(release), devel).into(),
                dnf("install the kernel's modules", Some(release), modules).into(),
            ];
        }
        KernelFlavour::Realtime => "rt",
        KernelFlavour::Pages64K => "64k",
        KernelFlavour::Realtime64K => "rt-64k",
    };
    let packages = ["devel", "modules"].map(|part| format!("kernel-{variant}-{part}-{version}"));
    let install = dnf("install the kernel's headers and modules", None, packages).into();
    if !facts.sees_host {
        notes.push("this is no container: the repositories are the host's".to_owned());
        return vec![install];
    }
    let repositories = Step::Copy {
        purpose: format!("take over the host's repositories, which have the {variant} kernel"),
        from: "/host/etc/yum.repos.d/redhat.repo".into(),
        to: "/etc/yum.repos.d/redhat.repo".into(),
        extent: CopyExtent::File,
        on_failure: OnFailure::Fatal,
    };
    vec![repositories, install]
}

fn dnf(
    purpose: &str,
    release: Option<RhelRelease>,
    packages: impl IntoIterator<Item = impl Into<String>>,
) -> PlannedCommand {
    PlannedCommand::new(purpose, ["dnf", "-q", "-y"])
        .args(release.map(release_option))
        .args(["install"])
        .args(packages.into_iter().map(Into::into))
}

fn release_option(release: RhelRelease) -> String {
    format!("--releasever={release}")
}

fn configure(purpose: String, option: &str, repository: &str) -> Step {
    PlannedCommand::new(purpose, ["dnf", "config-manager", option, repository])
        .on_failure(OnFailure::Ignored)
        .deadline(OPTIONAL_DEADLINE)
        .into()
}

fn enable(repository: &str) -> Step {
    configure(format!("enable the repository {repository}"), "--set-enabled", repository)
}

fn disable_unless_usable(repository: &str, release: RhelRelease) -> Step {
    let question =
        PlannedCommand::new("ask whether the repositories' lists can be had", ["dnf", "makecache"])
            .args([release_option(release)]);
    let disable =
        configure(format!("disable the repository {repository} again"), "--set-disabled", repository);
    Step::ask(question, Vec::new(), vec![disable])
}
