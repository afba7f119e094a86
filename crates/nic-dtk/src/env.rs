use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use nic_host::{DriverVersion, ParseDriverVersionError};

use crate::SharedFolder;

/// What `dtk.env` tells the sidecar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DtkEnv {
    /// `DTK_OCP_NIC_SHARED_DIR`: the folder in which there is one [`SharedFolder`] for each kernel.
    pub shared_dir: PathBuf,
    /// `DTK_OCP_COMPILED_DRIVER_VER`: the version whose packages the done flag announces.
    pub compiled_driver_version: DriverVersion,
    /// `DTK_OCP_START_COMPILE_FLAG`: the path of the start flag.
    pub start_flag: PathBuf,
    /// `DTK_OCP_DONE_COMPILE_FLAG`: the path of the done flag.
    pub done_flag: PathBuf,
    /// `APPEND_DRIVER_BUILD_FLAGS`: more arguments for `install.pl`, quoted as for a shell.
    pub append_build_flags: String,
    /// `NVIDIA_NIC_DRIVER_VER`: the version of the sources.
    pub driver_version: DriverVersion,
    /// `USE_DKMS`: register and build through DKMS.
    pub use_dkms: bool,
    /// `USE_NEW_ENTRYPOINT`: the build script executes a binary, not a shell script.
    pub use_new_entrypoint: bool,
}

/// A text that is no `dtk.env`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseDtkEnvError {
    /// A quote is not closed.
    #[error("dtk.env: a quote is not closed")]
    Quote,
    /// A word is neither `export` nor an assignment.
    #[error("dtk.env: {0:?} is not an assignment")]
    Word(String),
    /// A variable that the build cannot do without is not assigned.
    #[error("dtk.env: {0} is missing")]
    Missing(&'static str),
    /// A variable that is true or false is neither.
    #[error("dtk.env: {variable}={value:?} is neither true nor false")]
    Boolean {
        /// The variable.
        variable: &'static str,
        /// Its value.
        value: String,
    },
    /// A variable that is a driver version is none.
    #[error("dtk.env: {variable} cannot be used")]
    Version {
        /// The variable.
        variable: &'static str,
        /// What is wrong with it.
        #[source]
        source: ParseDriverVersionError,
    },
}

const SHARED_DIR: &str = "DTK_OCP_NIC_SHARED_DIR";
const COMPILED_DRIVER_VER: &str = "DTK_OCP_COMPILED_DRIVER_VER";
const START_COMPILE_FLAG: &str = "DTK_OCP_START_COMPILE_FLAG";
const DONE_COMPILE_FLAG: &str = "DTK_OCP_DONE_COMPILE_FLAG";
const APPEND_BUILD_FLAGS: &str = "APPEND_DRIVER_BUILD_FLAGS";
const DRIVER_VER: &str = "NVIDIA_NIC_DRIVER_VER";
const USE_DKMS: &str = "USE_DKMS";
const USE_NEW_ENTRYPOINT: &str = "USE_NEW_ENTRYPOINT";

impl DtkEnv {
    /// The variables for a build of `version` in `folder`, a folder below `shared_dir`, with no flags appended,
    /// without DKMS, and with a binary for an entrypoint.
    #[must_use]
    pub fn new(shared_dir: impl Into<PathBuf>, folder: &SharedFolder, version: &DriverVersion) -> Self {
        Self {
            shared_dir: shared_dir.into(),
            compiled_driver_version: version.clone(),
            start_flag: folder.start_flag(),
            done_flag: folder.done_flag(version),
            append_build_flags: String::new(),
            driver_version: version.clone(),
            use_dkms: false,
            use_new_entrypoint: true,
        }
    }

    /// The text of `dtk.env`: a line `export NAME=value` for each variable, the value quoted, so that a shell that
    /// sources the file takes it literally whatever it holds.
    #[must_use]
    pub fn render(&self) -> String {
        let path = |path: &Path| path.to_string_lossy().into_owned();
        [
            (SHARED_DIR, path(&self.shared_dir)),
            (COMPILED_DRIVER_VER, self.compiled_driver_version.to_string()),
            (START_COMPILE_FLAG, path(&self.start_flag)),
            (DONE_COMPILE_FLAG, path(&self.done_flag)),
            (APPEND_BUILD_FLAGS, self.append_build_flags.clone()),
            (DRIVER_VER, self.driver_version.to_string()),
            (USE_DKMS, self.use_dkms.to_string()),
            (USE_NEW_ENTRYPOINT, self.use_new_entrypoint.to_string()),
        ]
        .map(|(name, value)| format!("export {name}={}\n", shell_words::quote(&value)))
        .concat()
    }

    /// Reads the text of a `dtk.env`: assignments, with or without `export`, quoted as for a shell; nothing is
    /// expanded. Variables it does not know are passed over, so that a later version can add some. The booleans and
    /// the appended flags may be missing, and are then false and empty.
    pub fn parse(text: &str) -> Result<Self, ParseDtkEnvError> {
        let words = shell_words::split(text).map_err(|_| ParseDtkEnvError::Quote)?;
        let mut values = BTreeMap::new();
        for word in words.iter().filter(|word| *word != "export") {
            let (name, value) = word.split_once('=').ok_or_else(|| ParseDtkEnvError::Word(word.clone()))?;
            values.insert(name, value);
        }
        let required = |name: &'static str| {
            values.get(name).copied().filter(|value| !value.is_empty()).ok_or(ParseDtkEnvError::Missing(name))
        };
        let version = |variable: &'static str| {
            required(variable)?.parse().map_err(|source| ParseDtkEnvError::Version { variable, source })
        };
        let boolean = |variable: &'static str| match values.get(variable).copied().unwrap_or_default() {
            "" | "0" => Ok(false),
            "1" => Ok(true),
            value if value.eq_ignore_ascii_case("true") => Ok(true),
            value if value.eq_ignore_ascii_case("false") => Ok(false),
            value => Err(ParseDtkEnvError::Boolean { variable, value: value.to_owned() }),
        };
        Ok(Self {
            shared_dir: required(SHARED_DIR)?.into(),
            compiled_driver_version: version(COMPILED_DRIVER_VER)?,
            start_flag: required(START_COMPILE_FLAG)?.into(),
            done_flag: required(DONE_COMPILE_FLAG)?.into(),
            append_build_flags: values.get(APPEND_BUILD_FLAGS).copied().unwrap_or_default().to_owned(),
            driver_version: version(DRIVER_VER)?,
            use_dkms: boolean(USE_DKMS)?,
            use_new_entrypoint: boolean(USE_NEW_ENTRYPOINT)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    fn sample() -> DtkEnv {
        let base = "/mnt/shared-doca-driver-toolkit";
        let folder = SharedFolder::new(base, &"5.14.0-570.73.1.el9_6.aarch64+64k".parse().unwrap());
        DtkEnv::new(base, &folder, &"25.10-1.2.8.0".parse().unwrap())
    }

    #[test]
    fn every_variable_is_exported() {
        insta::assert_snapshot!(sample().render(), @r#"
        export DTK_OCP_NIC_SHARED_DIR=/mnt/shared-doca-driver-toolkit
        export DTK_OCP_COMPILED_DRIVER_VER=25.10-1.2.8.0
        export DTK_OCP_START_COMPILE_FLAG=/mnt/shared-doca-driver-toolkit/5.14.0-570.73.1.el9_6.aarch64_64k/dtk_start_compile
        export DTK_OCP_DONE_COMPILE_FLAG=/mnt/shared-doca-driver-toolkit/5.14.0-570.73.1.el9_6.aarch64_64k/dtk_done_compile_25_10_1_2_8_0
        export APPEND_DRIVER_BUILD_FLAGS=''
        export NVIDIA_NIC_DRIVER_VER=25.10-1.2.8.0
        export USE_DKMS=false
        export USE_NEW_ENTRYPOINT=true
        "#);
    }

    #[test]
    fn a_shell_that_sources_the_file_takes_each_value_literally() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("dtk.env");
        let flags = "--without-depcheck --kernel-extra-args='--with a' \"$(touch /nonexistent)\" `id` $HOME \\ * #\n&";
        std::fs::write(&file, DtkEnv { append_build_flags: flags.to_owned(), ..sample() }.render()).unwrap();
        let script = ". \"$0\" && exec printenv APPEND_DRIVER_BUILD_FLAGS DTK_OCP_DONE_COMPILE_FLAG";
        let output = Command::new("sh").args(["-c", script]).arg(&file).output().unwrap();
        assert_eq!(
            String::from_utf8(output.stdout).unwrap(),
            format!("{flags}\n{}\n", sample().done_flag.display())
        );
    }

    #[test]
    fn a_file_in_another_form_is_read() {
        let text = "# written by another version\nDTK_OCP_NIC_SHARED_DIR=/mnt/shared\n\
            export DTK_OCP_COMPILED_DRIVER_VER=\"25.10-1.2.8.0\" NVIDIA_NIC_DRIVER_VER='25.07-0.9.7.0'\n\
            export DTK_OCP_START_COMPILE_FLAG=/mnt/shared/k/dtk_start_compile\n\
            export DTK_OCP_DONE_COMPILE_FLAG=/mnt/shared/k/dtk_done_compile_25_10_1_2_8_0\n\
            export USE_DKMS=True\nexport A_LATER_VARIABLE=x=y\n";
        let env = DtkEnv::parse(text).unwrap();
        assert_eq!(env.shared_dir, Path::new("/mnt/shared"));
        assert_eq!(env.compiled_driver_version.as_str(), "25.10-1.2.8.0");
        assert_eq!(env.driver_version.as_str(), "25.07-0.9.7.0");
        assert_eq!(env.append_build_flags, "");
        assert_eq!((env.use_dkms, env.use_new_entrypoint), (true, false));
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said() {
        let text = sample().render();
        let with = |from: &str, to: &str| {
            assert!(text.contains(from), "{from}");
            DtkEnv::parse(&text.replace(from, to)).unwrap_err().to_string()
        };
        assert_eq!(with("USE_DKMS=false", "USE_DKMS='false"), "dtk.env: a quote is not closed");
        assert_eq!(with("USE_DKMS=false", "rm"), "dtk.env: \"rm\" is not an assignment");
        assert_eq!(
            with("USE_DKMS=false", "USE_DKMS=no"),
            "dtk.env: USE_DKMS=\"no\" is neither true nor false"
        );
        assert_eq!(
            with("NVIDIA_NIC_DRIVER_VER=25.10", "NVIDIA_NIC_DRIVER_VER=../25.10"),
            "dtk.env: NVIDIA_NIC_DRIVER_VER cannot be used"
        );
        for name in [SHARED_DIR, COMPILED_DRIVER_VER, START_COMPILE_FLAG, DONE_COMPILE_FLAG, DRIVER_VER] {
            assert_eq!(with(&format!("{name}="), "OTHER="), format!("dtk.env: {name} is missing"));
        }
    }

    proptest! {
        /// An environment variable can hold all but NUL.
        #[test]
        fn what_is_rendered_is_read_back(flags in "[^\0]*", base in "/[^\0]*", use_dkms: bool, binary: bool) {
            let env = DtkEnv {
                shared_dir: base.into(),
                append_build_flags: flags,
                use_dkms,
                use_new_entrypoint: binary,
                ..sample()
            };
            prop_assert_eq!(DtkEnv::parse(&env.render()), Ok(env));
        }
    }
}
