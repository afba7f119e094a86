//! The handshake with the build sidecar, both sides of it.
//!
//! # The protocol
//!
//! On OpenShift the driver container cannot build for the node's kernel: the headers and the compiler are in another
//! image, the Driver Toolkit. The operator's pod therefore starts a *sidecar* from that image beside the *driver
//! container*, and mounts one *shared folder* into both. All they say to each other is files in
//! `/mnt/shared-doca-driver-toolkit/<kernel>` ([`SharedFolder`]).
//!
//! | file | [`SharedFolder`] | what it is |
//! |---|---|---|
//! | `MLNX_OFED_SRC-<version>/` | [`sources`](SharedFolder::sources) | the driver's sources, with `install.pl` |
//! | `entrypoint` | [`entrypoint`](SharedFolder::entrypoint) | a binary of the driver container's image |
//! | `dtk.env` | [`env_file`](SharedFolder::env_file) | what the sidecar must know: [`DtkEnv`] |
//! | `dtk_nic_driver_build.sh` | [`build_script`](SharedFolder::build_script) | sources `dtk.env`, executes `entrypoint dtk-build` |
//! | `dtk_start_compile` | [`start_flag`](SharedFolder::start_flag) | all of the above is there: begin |
//! | `dtk_done_compile_<version>` | [`done_flag`](SharedFolder::done_flag) | the packages are there |
//!
//! `<kernel>` is `uname -r` with the characters of a Kubernetes label's value only ([`kernel_folder_name`]). No other
//! folder is so named: `/lib/modules` and the packages themselves have `uname -r` as it is.
//!
//! 1. Driver container: writes the sources, `entrypoint`, `dtk.env`, `dtk_nic_driver_build.sh`, **and last**
//!    `dtk_start_compile`. The order is the protocol: the flag is all the sidecar looks at.
//! 2. Sidecar: the shell loop in the pod's own description waits for the flag and executes
//!    `dtk_nic_driver_build.sh`. From there on, the binary of the driver container's image runs on the sidecar's side. It
//!    installs what `install.pl` needs, and runs it. The packages come out at
//!    `MLNX_OFED_SRC-<version>/RPMS/redhat-release-*/<arch>/*.rpm`.
//! 3. Sidecar: puts `dtk_done_compile_<version>`, **then** takes `dtk_start_compile` off, and stays until it is told to
//!    stop. (The other way round, a driver container that starts in between would find neither.)
//! 4. Driver container: waits for `dtk_done_compile_<version>` and takes the packages.
//!
//! # What this crate adds
//!
//! A protocol of two flags knows no failure, no progress, and no dead sidecar; and a done flag says a version, not
//! sources, flags or a kernel. So there are three more files, in the folder `.nic-driver` beside the flags, which the
//! incumbent's sides do not look at. Either side works with the incumbent's on the other, and then does without them.
//!
//! | file | by | what it is |
//! |---|---|---|
//! | `request.json` | driver container | what is asked for: every source file by digest, flags, kernel; and the digest of it all |
//! | `result.json` | sidecar | that digest, and each package by digest; or why the build failed, with its log's end |
//! | `status` | sidecar | a number that changes each second, and how far the build is |
//!
//! Nothing is polled where the kernel tells (inotify); each wait has a slow look behind it, for file systems that do
//! not. Times are of the monotonic clock, and no file's time is asked.
//!
//! The driver container is privileged, and the sidecar is not. So what comes out of the shared folder is not trusted: no
//! link is followed, nothing but regular files is opened, sizes are bounded, and packages are judged by what was copied
//! into a private folder ([`FolderError`], [`FetchError`]).
//!
//! # What is not here
//!
//! - How to build, and what is a sound package: [`serve`] is given the build as a closure, and the private folder of
//!   [`build_in_sidecar`] is the caller's to look through.
//! - A lock. Two driver containers at once must be kept apart by the caller.
//! - Signals, and the chores of PID 1. Both sides are given a future that ends them.
//! - The RHEL release for `--distro`: [`appended_flags`] is given it.
//!
//! # Where to start
//!
//! [`build_in_sidecar`] is the driver container's side and [`serve`] the sidecar's; `examples/sidecar.rs` is the latter
//! as a program. [`plan`] shows what the former would do.
//!
//! ```no_run
//! # async fn run(kernel: nic_host::KernelRelease) -> Result<(), Box<dyn std::error::Error>> {
//! use nic_dtk::{BuildRequest, NfsRdma, PackageLimits, SharedFolder, WaitOptions, appended_flags, build_in_sidecar};
//!
//! let request = BuildRequest {
//!     folder: SharedFolder::new("/mnt/shared-doca-driver-toolkit", &kernel),
//!     appended_flags: appended_flags(NfsRdma::LeftOut, &kernel, "rhel9.6", &[]),
//!     kernel,
//!     version: "25.10-1.2.8.0".parse()?,
//!     architecture: "x86_64".to_owned(),
//!     sources: "/run/mellanox/src/MLNX_OFED_SRC-25.10-1.2.8.0".into(),
//!     entrypoint: "/usr/bin/nic-driver".into(),
//!     use_dkms: false,
//! };
//! let fetched = build_in_sidecar(
//!     &nic_host::Host::running(),
//!     &request,
//!     &WaitOptions::default(),
//!     &PackageLimits::default(),
//!     "/run/nic-driver/packages".as_ref(),
//!     |event| tracing::info!("{event:?}"),
//!     std::future::pending(),
//! )
//! .await?;
//! # Ok(())
//! # }
//! ```

mod beneath;
mod blocking;
mod digest;
mod driver_side;
mod env;
mod flags;
mod packages;
mod registered;
mod request;
mod result;
mod shared_folder;
mod sidecar_side;
mod sources;
mod status;
mod text;
mod wait;

pub use beneath::FolderError;
pub use digest::Digest;
pub use driver_side::{
    BuildRequest, DriverEvent, DriverPlan, DriverSideError, FetchError, FetchedPackage, FetchedPackages,
    FolderState, Place, PrepareError, Prepared, Proof, SetUpError, SetUpStep, WaitError, WaitOptions,
    build_in_sidecar, observe_folder, plan,
};
pub use env::{DtkEnv, DtkEnvError};
pub use flags::{AppendedFlagsError, NfsRdma, appended_flags, install_arguments, prerequisites};
pub use packages::{FindPackagesError, PackageLimits};
pub use request::AttemptId;
pub use result::BuildFailed;
pub use shared_folder::{SharedFolder, kernel_folder_name};
pub use sidecar_side::{BuildFailure, BuildPlan, Reporter, SidecarError, SidecarOptions, serve};
pub use sources::SourcesError;
pub use status::{BuildProgress, SidecarState, SignOfLife};
