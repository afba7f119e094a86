use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use nic_host::{DriverVersion, Foreign, ParseDriverVersionError};

use crate::SharedFolder;

/// What `dtk.env` tells the sidecar.
///
/// The operator gives `DTK_OCP_NIC_SHARED_DIR` to both containers as the mounted folder, in which there is a folder for
/// each kernel; in `dtk.env` the same name means the kernel's folder, and wins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DtkEnv {
    /// `DTK_OCP_NIC_SHARED_DIR`: the folder of *this kernel*, in which the sources lie, and not the one above it.
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

/// Variables from which no [`DtkEnv`] can be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DtkEnvError {
    /// A quote in the text is not closed.
    #[error("dtk.env: a quote is not closed")]
    Quote,
    /// A word of the text is neither `export` nor an assignment.
    #[error("dtk.env: {} is not an assignment", Foreign(.0))]
    Word(String),
    /// A variable that the build cannot do without is not set, or empty.
    #[error("{0} is not set")]
    Missing(&'static str),
    /// A flag does not lie in the kernel's folder, where both sides look for it.
    #[error("{variable}={} does not lie in {}", path.display(), folder.display())]
    Elsewhere {
        /// The variable.
        variable: &'static str,
        /// Its value.
        path: PathBuf,
        /// The kernel's folder.
        folder: PathBuf,
    },
    /// A variable that is true or false is neither.
    #[error("{variable}={} is neither true nor false", Foreign(value))]
    Boolean {
        /// The variable.
        variable: &'static str,
        /// Its value.
        value: String,
    },
    /// A variable that is a driver version is none.
    #[error("{variable} cannot be used")]
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
    /// The variables for a build of `version` in `folder`, with no flags appended, without DKMS, and with a binary for an
    /// entrypoint.
    #[must_use]
    pub fn new(folder: &SharedFolder, version: &DriverVersion) -> Self {
        Self {
            shared_dir: folder.path().to_path_buf(),
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
    pub fn parse(text: &str) -> Result<Self, DtkEnvError> {
        let words = shell_words::split(text).map_err(|_| DtkEnvError::Quote)?;
        let mut variables = BTreeMap::new();
        for word in words.iter().filter(|word| *word != "export") {
            let (name, value) = word.split_once('=').ok_or_else(|| DtkEnvError::Word(word.clone()))?;
            variables.insert(name.to_owned(), value.to_owned());
        }
        Self::from_variables(&variables)
    }

    /// The same from environment variables, where a shell has sourced the file.
    pub fn from_variables(variables: &BTreeMap<String, String>) -> Result<Self, DtkEnvError> {
        let value = |name: &str| variables.get(name).map(String::as_str).unwrap_or_default();
        let required = |name: &'static str| match value(name) {
            "" => Err(DtkEnvError::Missing(name)),
            value => Ok(value),
        };
        let version = |variable: &'static str| {
            required(variable)?.parse().map_err(|source| DtkEnvError::Version { variable, source })
        };
        let shared_dir = PathBuf::from(required(SHARED_DIR)?);
        let flag = |variable: &'static str| {
            let path = PathBuf::from(required(variable)?);
            match path.parent() == Some(&shared_dir) && path.file_name().is_some() {
                true => Ok(path),
                false => Err(DtkEnvError::Elsewhere { variable, path, folder: shared_dir.clone() }),
            }
        };
        Ok(Self {
            compiled_driver_version: version(COMPILED_DRIVER_VER)?,
            start_flag: flag(START_COMPILE_FLAG)?,
            done_flag: flag(DONE_COMPILE_FLAG)?,
            append_build_flags: value(APPEND_BUILD_FLAGS).to_owned(),
            driver_version: version(DRIVER_VER)?,
            use_dkms: boolean(USE_DKMS, value(USE_DKMS))?,
            use_new_entrypoint: boolean(USE_NEW_ENTRYPOINT, value(USE_NEW_ENTRYPOINT))?,
            shared_dir,
        })
    }
}

/// Empty counts as unset, and that as false; else what Go's `strconv.ParseBool` takes, in any case of letters.
fn boolean(variable: &'static str, value: &str) -> Result<bool, DtkEnvError> {
    match value.to_ascii_lowercase().as_str() {
        "" | "0" | "f" | "false" => Ok(false),
        "1" | "t" | "true" => Ok(true),
        _ => Err(DtkEnvError::Boolean { variable, value: value.to_owned() }),
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
        DtkEnv::new(&folder, &"25.10-1.2.8.0".parse().unwrap())
    }

    #[test]
    fn every_variable_is_exported() {
        insta::assert_snapshot!(sample().render(), @r#"
        export DTK_OCP_NIC_SHARED_DIR=/mnt/shared-doca-driver-toolkit/5.14.0-570.73.1.el9_6.aarch64_64k
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
        let text = "# written by another version\nDTK_OCP_NIC_SHARED_DIR=/mnt/shared/k\n\
            export DTK_OCP_COMPILED_DRIVER_VER=\"25.10-1.2.8.0\" NVIDIA_NIC_DRIVER_VER='25.07-0.9.7.0'\n\
            export DTK_OCP_START_COMPILE_FLAG=/mnt/shared/k/dtk_start_compile\n\
            export DTK_OCP_DONE_COMPILE_FLAG=/mnt/shared/k/dtk_done_compile_25_10_1_2_8_0\n\
            export USE_DKMS=True\nexport A_LATER_VARIABLE=x=y\n";
        let env = DtkEnv::parse(text).unwrap();
        assert_eq!(env.shared_dir, Path::new("/mnt/shared/k"));
        assert_eq!(env.compiled_driver_version.as_str(), "25.10-1.2.8.0");
        assert_eq!(env.driver_version.as_str(), "25.07-0.9.7.0");
        assert_eq!(env.append_build_flags, "");
        assert_eq!((env.use_dkms, env.use_new_entrypoint), (true, false));
    }

    #[test]
    fn the_incumbents_form_is_read() {
        let base = "/mnt/shared-doca-driver-toolkit/5.14.0";
        let text = format!(
            "export DTK_OCP_NIC_SHARED_DIR=\"{base}\"\nexport DTK_OCP_COMPILED_DRIVER_VER=\"25.10-1.2.8.0\"\n\
             export DTK_OCP_START_COMPILE_FLAG=\"{base}/dtk_start_compile\"\n\
             export DTK_OCP_DONE_COMPILE_FLAG=\"{base}/dtk_done_compile_25_10_1_2_8_0\"\n\
             export NVIDIA_NIC_DRIVER_VER=\"25.10-1.2.8.0\"\n\
             export APPEND_DRIVER_BUILD_FLAGS=\"--without-mlnx-nfsrdma --kernel 5.14.0 --distro rhel9.6\"\n\
             export USE_NEW_ENTRYPOINT=\"true\"\nexport USE_DKMS=\"T\"\n"
        );
        let env = DtkEnv::parse(&text).unwrap();
        assert_eq!(env.append_build_flags, "--without-mlnx-nfsrdma --kernel 5.14.0 --distro rhel9.6");
        assert_eq!((env.use_dkms, env.use_new_entrypoint), (true, true));
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
        assert_eq!(with("USE_DKMS=false", "USE_DKMS=no"), "USE_DKMS=\"no\" is neither true nor false");
        assert_eq!(
            with("NVIDIA_NIC_DRIVER_VER=25.10", "NVIDIA_NIC_DRIVER_VER=../25.10"),
            "NVIDIA_NIC_DRIVER_VER cannot be used"
        );
        assert_eq!(
            with("64k/dtk_start", "64k/../dtk_start"),
            "DTK_OCP_START_COMPILE_FLAG=/mnt/shared-doca-driver-toolkit/5.14.0-570.73.1.el9_6.aarch64_64k/../\
             dtk_start_compile does not lie in /mnt/shared-doca-driver-toolkit/5.14.0-570.73.1.el9_6.aarch64_64k"
        );
        for name in [SHARED_DIR, COMPILED_DRIVER_VER, START_COMPILE_FLAG, DONE_COMPILE_FLAG, DRIVER_VER] {
            assert_eq!(with(&format!("{name}="), "OTHER="), format!("{name} is not set"));
        }
    }

    proptest! {
        /// An environment variable can hold all but NUL.
        #[test]
        fn what_is_rendered_is_read_back(flags in "[^\0]*", base in "/[^\0]*", use_dkms: bool, binary: bool) {
            let folder = SharedFolder::new(base, &"5.14.0".parse().unwrap());
            let env = DtkEnv {
                append_build_flags: flags,
                use_dkms,
                use_new_entrypoint: binary,
                ..DtkEnv::new(&folder, &"25.10-1.2.8.0".parse().unwrap())
            };
            prop_assert_eq!(DtkEnv::parse(&env.render()), Ok(env));
        }
    }
}
