//! The handshake with the build sidecar, from both sides: the names and places they meet at.
//!
//! # The protocol
//!
//! On OpenShift the driver container cannot build for the node's kernel: the headers and the compiler are in another
//! image, the Driver Toolkit. The operator's pod therefore starts a *sidecar* from that image beside the *driver
//! container*, and mounts one *shared folder* into both. All they say to each other is files in
//! `$DTK_OCP_NIC_SHARED_DIR/<kernel>` ([`SharedFolder`]).
//!
//! | file | [`SharedFolder`] | what it is |
//! |---|---|---|
//! | `MLNX_OFED_SRC-<version>/` | [`sources`](SharedFolder::sources) | the driver's sources, with `install.pl` |
//! | `entrypoint` | [`entrypoint`](SharedFolder::entrypoint) | the driver container's own binary |
//! | `dtk.env` | [`env_file`](SharedFolder::env_file) | what the sidecar must know: [`DtkEnv`] |
//! | `dtk_nic_driver_build.sh` | [`build_script`](SharedFolder::build_script) | sources `dtk.env`, executes `entrypoint dtk-build` |
//! | `dtk_start_compile` | [`start_flag`](SharedFolder::start_flag) | all of the above is there: begin |
//! | `dtk_done_compile_<version>` | [`done_flag`](SharedFolder::done_flag) | the packages are there |
//!
//! `<kernel>` is `uname -r` with the characters of a Kubernetes label's value only ([`kernel_folder_name`]). No other
//! folder is so named: `/lib/modules` and the packages themselves have `uname -r` as it is.
//!
//! ## The order of things
//!
//! 1. Driver container: writes the sources, `entrypoint`, `dtk.env`, `dtk_nic_driver_build.sh`, **and last**
//!    `dtk_start_compile`. The order is the protocol: the flag is all the sidecar looks at, so what it finds beside
//!    the flag must be whole.
//! 2. Sidecar: the shell loop in the pod's own description waits for `dtk_start_compile` and executes
//!    `dtk_nic_driver_build.sh`. From there on, the driver container's own binary runs on the sidecar's side too.
//! 3. Sidecar: installs what `install.pl` needs with dnf, then runs it for the kernel and for
//!    `--distro rhel<X.Y>` ([`RhelRelease`]). The packages come out at
//!    `MLNX_OFED_SRC-<version>/RPMS/redhat-release-*/<arch>/*.rpm` ([`SharedFolder::built_packages`]).
//! 4. Sidecar: creates `dtk_done_compile_<version>`, **then** removes `dtk_start_compile`, and sleeps until it is told
//!    to stop. (The other way round, a driver container that starts in between would find neither flag and begin
//!    anew.)
//! 5. Driver container: waits for `dtk_done_compile_<version>` and takes the packages.
//!
//! ## What the protocol does not say
//!
//! A build that fails leaves no trace: the start flag stays, the done flag never comes, and the driver container waits
//! until its own deadline. There is no progress either. And a done flag carries nothing but a version: it does not
//! prove that it belongs to these sources, to these flags, or to this kernel's headers.
//!
//! # What is here and what is not
//!
//! This version has the protocol's names and paths, the text of `dtk.env` in both directions, the deduction of the
//! RHEL release, and the look-up of the packages. It does not carry the handshake out: nothing here writes a flag,
//! waits for one, renders the build script, or runs a build.
//!
//! Start reading at [`SharedFolder`].

mod env;
mod packages;
mod rhel;
mod shared_folder;

pub use env::{DtkEnv, ParseDtkEnvError};
pub use packages::BuiltPackagesError;
pub use rhel::{RhelRelease, RhelReleaseError};
pub use shared_folder::{SharedFolder, kernel_folder_name};
