use std::fmt;
use std::path::PathBuf;

use crate::driver_side::{FolderState, Prepared};
use crate::request::AttemptId;
use crate::shared_folder::{
    BUILD_SCRIPT, BUILD_SCRIPT_TEXT, ENTRYPOINT, ENV_FILE, OWN_FOLDER, REQUEST_FILE, RESULT_FILE, START_FLAG,
    done_flag_name, sources_name,
};

/// What is to be done, given how the folder is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DriverPlan {
    /// What was asked for is built: only take it.
    Fetch,
    /// It is being built, as an earlier process asked: only wait.
    Wait(AttemptId),
    /// Set the folder up, in this order, then wait.
    SetUp {
        /// The name of the attempt.
        attempt: AttemptId,
        /// The steps.
        steps: Vec<SetUpStep>,
    },
}

/// A name in the shared folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Whether it is among the files that this crate adds to the protocol.
    pub is_own: bool,
    /// The file or folder.
    pub name: String,
}

/// A step of setting up. Each is durable before the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SetUpStep {
    /// Make the kernel's folder, and the one for our own files in it.
    MakeFolders(PathBuf),
    /// Remove what is there, whatever it is.
    Remove(Place),
    /// Copy the sources, and give them their name when all of them are there.
    CopySources {
        /// From where.
        from: PathBuf,
        /// To where.
        to: Place,
    },
    /// Copy the program for the sidecar.
    CopyEntrypoint {
        /// From where.
        from: PathBuf,
        /// To where.
        to: Place,
    },
    /// Write a text.
    Write {
        /// To where.
        to: Place,
        /// The text.
        content: String,
        /// Whether it is to be executed.
        executable: bool,
    },
    /// Write what is asked for, with its digest.
    WriteRequest(Place),
    /// The start flag: all that the sidecar looks at.
    PutStartFlag(Place),
}

/// Decides. Pure.
#[must_use]
pub fn plan(prepared: &Prepared, state: &FolderState) -> DriverPlan {
    // The done flag of another request goes before that of ours is asked for. So with our request beside it, a done
    // flag is of our request, also when the sidecar is the incumbent's and leaves no result.
    let ours = state.request.as_ref().filter(|(_, digest)| *digest == prepared.digest);
    let is_proven =
        state.result.as_ref().is_none_or(|result| result.is_built && result.digest == Some(prepared.digest));
    match ours {
        Some(_) if state.done_flag && is_proven => DriverPlan::Fetch,
        Some((attempt, _)) if state.start_flag && !state.done_flag && !has_failed(state, attempt) => {
            DriverPlan::Wait(attempt.clone())
        }
        _ => DriverPlan::SetUp { attempt: prepared.attempt.clone(), steps: set_up(prepared) },
    }
}

fn has_failed(state: &FolderState, attempt: &AttemptId) -> bool {
    let by_result =
        state.result.as_ref().filter(|result| !result.is_built).and_then(|result| result.attempt.as_ref());
    by_result == Some(attempt) || state.failed.as_ref() == Some(attempt)
}

fn set_up(prepared: &Prepared) -> Vec<SetUpStep> {
    let request = &prepared.request;
    let sources = shared(sources_name(&request.version));
    vec![
        SetUpStep::MakeFolders(request.folder.path().to_path_buf()),
        // First, so that no sidecar begins with half of it, and one that builds something else ends.
        SetUpStep::Remove(shared(START_FLAG)),
        SetUpStep::Remove(own(REQUEST_FILE)),
        SetUpStep::Remove(shared(done_flag_name(&request.version))),
        SetUpStep::Remove(own(RESULT_FILE)),
        SetUpStep::Remove(sources.clone()),
        SetUpStep::CopySources { from: request.sources.clone(), to: sources },
        SetUpStep::CopyEntrypoint { from: request.entrypoint.clone(), to: shared(ENTRYPOINT) },
        SetUpStep::Write { to: shared(ENV_FILE), content: request.env().render(), executable: false },
        SetUpStep::Write {
            to: shared(BUILD_SCRIPT),
            content: BUILD_SCRIPT_TEXT.to_owned(),
            executable: true,
        },
        SetUpStep::WriteRequest(own(REQUEST_FILE)),
        SetUpStep::PutStartFlag(shared(START_FLAG)),
    ]
}

fn shared(name: impl Into<String>) -> Place {
    Place { is_own: false, name: name.into() }
}

fn own(name: impl Into<String>) -> Place {
    Place { is_own: true, name: name.into() }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_own {
            write!(f, "{OWN_FOLDER}/")?;
        }
        f.write_str(&self.name)
    }
}

impl fmt::Display for SetUpStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MakeFolders(path) => write!(f, "make the folder {}", path.display()),
            Self::Remove(place) => write!(f, "remove {place}"),
            Self::CopySources { from, to } => write!(f, "copy the sources {} to {to}", from.display()),
            Self::CopyEntrypoint { from, to } => write!(f, "copy the program {} to {to}", from.display()),
            Self::Write { to, .. } => write!(f, "write {to}"),
            Self::WriteRequest(to) => write!(f, "write what is asked for to {to}"),
            Self::PutStartFlag(to) => write!(f, "put the start flag {to}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SharedFolder;
    use crate::digest::Digest;
    use crate::driver_side::BuildRequest;
    use crate::driver_side::observe::ResultState;
    use crate::request::Inputs;

    fn prepared() -> Prepared {
        let kernel: nic_host::KernelRelease = "5.14.0-570.el9_6.aarch64+64k".parse().unwrap();
        let request = BuildRequest {
            folder: SharedFolder::new("/mnt/shared", &kernel),
            kernel: kernel.clone(),
            version: "25.10-1.2.8.0".parse().unwrap(),
            architecture: "aarch64".to_owned(),
            sources: "/run/mellanox/src/MLNX_OFED_SRC-25.10-1.2.8.0".into(),
            entrypoint: "/usr/bin/nic-driver".into(),
            appended_flags: vec!["--kernel".to_owned(), kernel.to_string()],
            use_dkms: true,
        };
        let inputs = Inputs {
            version: request.version.clone(),
            kernel,
            architecture: request.architecture.clone(),
            arguments: Vec::new(),
            sources: Vec::new(),
        };
        let digest = inputs.digest().unwrap();
        Prepared { request, inputs, digest, attempt: AttemptId::new().unwrap() }
    }

    #[test]
    fn the_start_flag_is_first_off_and_last_on() {
        let DriverPlan::SetUp { steps, .. } = plan(&prepared(), &FolderState::default()) else {
            panic!("nothing is there");
        };
        let steps: Vec<_> = steps.iter().map(ToString::to_string).collect();
        insta::assert_snapshot!(steps.join("\n"), @"
        make the folder /mnt/shared/5.14.0-570.el9_6.aarch64_64k
        remove dtk_start_compile
        remove .nic-driver/request.json
        remove dtk_done_compile_25_10_1_2_8_0
        remove .nic-driver/result.json
        remove MLNX_OFED_SRC-25.10-1.2.8.0
        copy the sources /run/mellanox/src/MLNX_OFED_SRC-25.10-1.2.8.0 to MLNX_OFED_SRC-25.10-1.2.8.0
        copy the program /usr/bin/nic-driver to entrypoint
        write dtk.env
        write dtk_nic_driver_build.sh
        write what is asked for to .nic-driver/request.json
        put the start flag dtk_start_compile
        ");
    }

    /// Whose digest something has.
    #[derive(Clone, Copy)]
    enum Of {
        Ours,
        Other,
    }

    #[test]
    fn what_is_there_decides() {
        use Of::{Other, Ours};
        let prepared = prepared();
        let attempt = AttemptId::new().unwrap();
        let digest = |of| match of {
            Ours => prepared.digest,
            Other => Digest::of(b"other"),
        };
        // Start flag, done flag, request, result (of which, built or not) → what is to be done.
        for (start_flag, done_flag, request, result, expected) in [
            (false, false, None, None, "set up"),
            // Done, and proven by the sidecar, or by our request alone where the sidecar is the incumbent's.
            (false, true, Some(Ours), Some((Ours, true)), "fetch"),
            (true, true, Some(Ours), Some((Ours, true)), "fetch"),
            (false, true, Some(Ours), None, "fetch"),
            // Done, but of something else, or of nobody knows what.
            (false, true, Some(Ours), Some((Other, true)), "set up"),
            (false, true, Some(Other), Some((Other, true)), "set up"),
            (false, true, Some(Other), None, "set up"),
            (false, true, None, None, "set up"),
            (false, true, None, Some((Ours, true)), "set up"),
            (true, true, Some(Ours), Some((Ours, false)), "set up"),
            // Under way, or built with the flag still to come.
            (true, false, Some(Ours), None, "wait"),
            (true, false, Some(Ours), Some((Ours, true)), "wait"),
            // Under way, of something else.
            (true, false, Some(Other), None, "set up"),
            (true, false, None, None, "set up"),
            // It failed: another attempt.
            (true, false, Some(Ours), Some((Ours, false)), "set up"),
            // Cut off before the start flag.
            (false, false, Some(Ours), None, "set up"),
        ] {
            let state = FolderState {
                start_flag,
                done_flag,
                request: request.map(|of| (attempt.clone(), digest(of))),
                result: result.map(|(of, is_built)| ResultState {
                    attempt: Some(attempt.clone()),
                    digest: Some(digest(of)),
                    is_built,
                }),
                failed: None,
            };
            let found = match plan(&prepared, &state) {
                DriverPlan::Fetch => "fetch",
                DriverPlan::Wait(of) => {
                    assert_eq!(of, attempt);
                    "wait"
                }
                DriverPlan::SetUp { .. } => "set up",
            };
            assert_eq!(found, expected, "{state:?}");
        }
        // Where the disk was too full for a result.
        for (failed, waits) in [(&attempt, false), (&AttemptId::new().unwrap(), true)] {
            let state = FolderState {
                start_flag: true,
                request: Some((attempt.clone(), digest(Ours))),
                failed: Some(failed.clone()),
                ..FolderState::default()
            };
            assert_eq!(matches!(plan(&prepared, &state), DriverPlan::Wait(_)), waits);
        }
    }
}
