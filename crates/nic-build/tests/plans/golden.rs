//! The golden plan of each distribution: commands, environment, files.

use nic_build::{
    BuildFacts, BuildSettings, PackageSource, Preparation, PreparationRequest, Proxies, StartFacts, Work,
    prerequisites,
};
use nic_host::{Host, Secret};

use crate::machine::machines;

#[test]
fn each_distribution_has_its_plan() {
    for machine in machines() {
        let dir = machine.tree();
        let plans = machine.plans(&Host::at(dir.path()), None);
        let mut text = format!(
            "{} on {}, {}, {}{}{}\n",
            machine.own_os,
            machine.host_os.unwrap_or("itself"),
            machine.kernel,
            machine.architecture,
            if machine.use_dkms { ", with DKMS" } else { "" },
            if machine.enable_nfsrdma { ", with NFS over RDMA" } else { "" },
        );
        text += &format!("\n{plans}");
        insta::assert_snapshot!(machine.name, text);
    }
}

#[test]
fn fips_and_proxies() {
    let machine = machines().into_iter().find(|machine| machine.name == "ubuntu").unwrap();
    let dir = machine.tree();
    let token = Secret::new("C1token");
    let variables = [("HTTPS_PROXY", "http://user:s3cret@proxy:3128"), ("no_proxy", ".svc,10.0.0.0/8")];
    let proxies =
        Proxies::from_environment(variables.map(|(name, value)| (name.to_owned(), value.to_owned())));
    let plan =
        machine.plans(&Host::at(dir.path()), Some(&token)).fips.with_environment(proxies.environment());
    insta::assert_snapshot!("fips_behind_a_proxy", plan);
    insta::assert_snapshot!("fips_behind_a_proxy_json", serde_json::to_string_pretty(&plan).unwrap());

    // Attached already: pro would refuse.
    let attached = dir.path().join("var/lib/ubuntu-advantage/private/machine-token.json");
    std::fs::create_dir_all(attached.parent().unwrap()).unwrap();
    std::fs::write(attached, "{}").unwrap();
    let plan = machine.plans(&Host::at(dir.path()), Some(&token)).fips;
    assert_eq!(plan.steps.len(), 3, "{plan}");
    // Without a token, or elsewhere, nothing is done; a token that has no effect is told.
    assert_eq!(machine.plans(&Host::at(dir.path()), None).fips, Default::default());
    for (name, note) in [
        ("sles", "UBUNTU_PRO_TOKEN is given, and this is SUSE: it has no effect"),
        ("rhel_9_6", "UBUNTU_PRO_TOKEN is given, and this is RHEL or its like: it has no effect"),
        ("debian", "UBUNTU_PRO_TOKEN is given, and this is Debian: it has no effect"),
        ("openshift_4_19", "UBUNTU_PRO_TOKEN is given, and this is OpenShift: it has no effect"),
    ] {
        let machine = machines().into_iter().find(|machine| machine.name == name).unwrap();
        let dir = machine.tree();
        let plan = machine.plans(&Host::at(dir.path()), Some(&token)).fips;
        assert_eq!((plan.steps.len(), plan.notes.as_slice()), (0, &[note.to_owned()][..]));
    }
}

#[test]
fn nothing_is_prepared_where_nothing_is_built_but_certificates_and_fips() {
    for work in
        [Work::due(PackageSource::Precompiled, true, true), Work::due(PackageSource::Sources, true, false)]
    {
        let machine = machines().into_iter().find(|machine| machine.name == "rhel_9_6").unwrap();
        let dir = machine.tree();
        let host = Host::at(dir.path());
        // Not even its release needs to be known.
        let mut node = machine.node(&host);
        node.host_os.version_id.clear();
        node.kernel = "6.1.0-custom".parse().unwrap();
        let (settings, proxies) = (BuildSettings::default(), Proxies::default());
        let request = PreparationRequest {
            work,
            sources: "/src".as_ref(),
            settings: &settings,
            token: None,
            proxies: &proxies,
        };
        let start = StartFacts::observe(&host, &node);
        let facts = BuildFacts::observe(&host, &node).unwrap();
        let preparation = Preparation::new(&node, &start, &facts, &request).unwrap();
        assert_eq!(preparation.build, None);
        let steps = preparation.plans().map(|(name, plan)| (name, plan.steps.len()));
        assert_eq!(steps, [("certificates", 1), ("FIPS", 0), ("compiler", 0), ("prerequisites", 0)]);
    }
}

#[test]
fn a_questions_answers_are_data() {
    let machine = machines().into_iter().find(|machine| machine.name == "openshift_4_19").unwrap();
    let dir = machine.tree();
    let plan = machine.plans(&Host::at(dir.path()), None).prerequisites;
    insta::assert_snapshot!("openshift_json", serde_json::to_string_pretty(&plan).unwrap());
}

#[test]
fn beside_the_build_sidecar_nothing_is_needed() {
    let machine = machines().into_iter().find(|machine| machine.name == "openshift_4_18_rt").unwrap();
    let dir = machine.tree();
    let host = Host::at(dir.path());
    let node = machine.node(&host);
    let facts = BuildFacts::observe(&host, &node).unwrap();
    let plan = prerequisites(&node, &facts, Work::due(PackageSource::Sidecar, false, true)).unwrap();
    assert_eq!(plan.to_string(), "note: nothing is built here: the build sidecar builds the packages\n");
}

#[test]
fn without_the_program_for_certificates_those_of_the_image_are_used() {
    for mut machine in machines() {
        machine.files = &[];
        let dir = machine.tree();
        let plan = machine.plans(&Host::at(dir.path()), None).certificates;
        assert_eq!(
            plan.to_string(),
            "note: no program takes certificates over: those of the image are used\n",
            "{}",
            machine.name
        );
    }
}
