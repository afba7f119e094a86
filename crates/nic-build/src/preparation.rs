use std::fmt;
use std::path::Path;

use nic_host::Secret;
use nic_packages::{Node, RhelReleaseError};
use serde::Serialize;

use crate::certificates::certificates;
use crate::command::PlannedCommand;
use crate::compiler::compiler;
use crate::facts::{BuildFacts, StartFacts};
use crate::fips::fips;
use crate::install_pl::{BuildSettings, install_pl};
use crate::prerequisites::prerequisites;
use crate::proxies::Proxies;
use crate::step::Plan;
use crate::work::Work;

/// All that is run on a node before its packages are installed, in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Preparation {
    /// At every start.
    pub certificates: Plan,
    /// At every start.
    pub fips: Plan,
    /// For a build.
    pub compiler: Plan,
    /// For a build.
    pub prerequisites: Plan,
    /// The build itself, where packages are built.
    pub build: Option<PlannedCommand>,
}

/// What a node is asked for.
#[derive(Debug, Clone)]
pub struct PreparationRequest<'a> {
    /// What is to be built.
    pub work: Work,
    /// The folder of the driver's sources.
    pub sources: &'a Path,
    /// What is asked of the build.
    pub settings: &'a BuildSettings,
    /// The token for Ubuntu Pro.
    pub token: Option<&'a Secret>,
    /// The proxies, which go into the environment of every command.
    pub proxies: &'a Proxies,
}

impl Preparation {
    /// Decides what is run.
    ///
    /// # Errors
    /// Something is built on a node of Red Hat's family that does not tell its release.
    pub fn new(
        node: &Node,
        start: &StartFacts,
        facts: &BuildFacts,
        request: &PreparationRequest<'_>,
    ) -> Result<Self, RhelReleaseError> {
        let environment = request.proxies.environment();
        let build = match request.work {
            Work::Packages => {
                Some(install_pl(node, request.sources, request.settings)?.with_environment(environment))
            }
            Work::ForDkms | Work::Nothing(_) => None,
        };
        let compiler = match request.work {
            Work::Nothing(_) => Plan::default(),
            Work::Packages | Work::ForDkms => compiler(node, facts),
        };
        Ok(Self {
            certificates: certificates(node, start).with_environment(environment),
            fips: fips(node, start, request.token).with_environment(environment),
            compiler: compiler.with_environment(environment),
            prerequisites: prerequisites(node, facts, request.work)?.with_environment(environment),
            build,
        })
    }

    /// The plans by name, in order; the build comes behind them.
    #[must_use]
    pub fn plans(&self) -> [(&'static str, &Plan); 4] {
        [
            ("certificates", &self.certificates),
            ("FIPS", &self.fips),
            ("compiler", &self.compiler),
            ("prerequisites", &self.prerequisites),
        ]
    }
}

/// A heading and a paragraph for each part that has something in it.
impl fmt::Display for Preparation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, plan) in self.plans().into_iter().filter(|(_, plan)| **plan != Plan::default()) {
            writeln!(f, "== {name} ==\n{plan}")?;
        }
        match &self.build {
            Some(build) => writeln!(f, "== build ==\n{}: {build}", build.purpose),
            None => Ok(()),
        }
    }
}
