//! What tells a module's build from others, at one moment.

use schemars::JsonSchema;
use serde::Serialize;

use crate::state::ModuleCheckpoint;

/// A module at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ModuleIdentity {
    /// The module.
    pub module: String,
    /// Whether it is loaded.
    pub loaded: bool,
    /// `MODULE_VERSION`, where it has one.
    pub version: Option<String>,
    /// Its srcversion, where it has one.
    pub srcversion: Option<String>,
    /// Its build-id, where the kernel shows one.
    pub build_id: Option<String>,
}

impl ModuleIdentity {
    pub(super) fn of(module: &ModuleCheckpoint) -> Self {
        Self {
            module: module.module.to_string(),
            loaded: module.loaded,
            version: module.version.clone(),
            srcversion: module.srcversion.clone(),
            build_id: module.build_id.clone(),
        }
    }

    /// The version, or that it has none, as people say it.
    #[must_use]
    pub fn version_text(&self) -> String {
        match &self.version {
            _ if !self.loaded => "not loaded".to_owned(),
            Some(version) => version.clone(),
            None => "inbox".to_owned(),
        }
    }

    /// By what its build is told from others.
    #[must_use]
    pub fn identity_text(&self) -> String {
        match (&self.srcversion, &self.build_id) {
            _ if !self.loaded => "-".to_owned(),
            (Some(srcversion), _) => srcversion.clone(),
            (None, Some(build_id)) => format!("build-id {build_id}"),
            (None, None) => "unknown".to_owned(),
        }
    }

    pub(super) fn is_same_build(&self, other: &Self) -> bool {
        match (&self.srcversion, &other.srcversion) {
            (Some(one), Some(other)) => one == other,
            (None, None) => self.build_id.is_some() && self.build_id == other.build_id,
            _ => false,
        }
    }
}
