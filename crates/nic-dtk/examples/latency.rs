//! How soon each side's answer is the other side's next step, both sides in this machine.
//!
//! ```text
//! cargo run --release -p nic-dtk --example latency -- 20
//! ```
//!
//! Prints JSON, times in milliseconds:
//! - `done`: from right before a done flag is put, to the driver container's side going on to the packages;
//! - `built`: from the end of a build in our sidecar to packages that are checked and in the driver container's hands;
//! - `failed`: from a build that fails in our sidecar to the error with its reason in the driver container's hands.
//!
//! `cargo xtask bench --only handshake` makes a table of it.

use std::error::Error;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nic_dtk::{
    BuildFailure, BuildPlan, BuildRequest, DriverEvent, DriverSideError, NfsRdma, PackageLimits, Reporter,
    SharedFolder, SidecarOptions, WaitError, WaitOptions, appended_flags, build_in_sidecar, serve,
};
use nic_host::{Host, KernelRelease};
use serde::Serialize;
use tokio::sync::Notify;

#[derive(Debug, Default, Serialize)]
struct Times {
    done: Vec<f64>,
    built: Vec<f64>,
    failed: Vec<f64>,
}

#[expect(clippy::print_stdout, reason = "showing the result is what this example is for")]
fn main() -> Result<(), Box<dyn Error>> {
    let rounds: u32 = std::env::args().nth(1).as_deref().unwrap_or("20").parse()?;
    let mut times = Times::default();
    for _ in 0..rounds {
        times.done.push(round(Answer::Flag)?);
        times.built.push(round(Answer::Built)?);
        times.failed.push(round(Answer::Failed)?);
    }
    println!("{}", serde_json::to_string(&times)?);
    Ok(())
}

/// What the other side answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// A flag alone, as the incumbent's.
    Flag,
    Built,
    Failed,
}

/// The two sides have a thread each, as they have a container each.
fn round(answer: Answer) -> Result<f64, Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let request = request(dir.path())?;
    let (began, stop) = (Arc::new(Mutex::new(None)), Arc::new(Notify::new()));
    let sidecar = std::thread::spawn({
        let (request, began, stop) = (request.clone(), began.clone(), stop.clone());
        move || runtime()?.block_on(sidecar(&request, answer, &began, &stop))
    });
    let mut seen = None;
    let ended = runtime()?.block_on(build_in_sidecar(
        &Host::running(),
        &request,
        &WaitOptions::default(),
        &PackageLimits::default(),
        &dir.path().join("into"),
        |event| {
            if event == DriverEvent::Built {
                seen = Some(Instant::now());
            }
        },
        std::future::pending(),
    ));
    let end = Instant::now();
    stop.notify_one();
    sidecar.join().map_err(|_| "the sidecar panicked")??;
    let end = match (answer, ended) {
        (Answer::Flag, Ok(_)) => seen.ok_or("the flag was not told")?,
        (Answer::Built, Ok(_)) | (Answer::Failed, Err(DriverSideError::Wait(WaitError::Failed(_)))) => end,
        (_, ended) => return Err(format!("{answer:?} ended as {ended:?}").into()),
    };
    let began = began.lock().map_err(|_| "the sidecar panicked")?.ok_or("there was no answer")?;
    Ok(end.duration_since(began).as_secs_f64() * 1000.0)
}

async fn sidecar(
    request: &BuildRequest,
    answer: Answer,
    began: &Mutex<Option<Instant>>,
    stop: &Notify,
) -> Result<(), String> {
    while !request.folder.start_flag().exists() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // The driver container's side is in its wait by then.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let begin = || began.lock().map(|mut began| *began = Some(Instant::now())).map_err(|_| "poisoned");
    if answer == Answer::Flag {
        write_package(&request.folder.sources(&request.version), &request.architecture)?;
        begin()?;
        let flag = request.folder.done_flag(&request.version);
        return std::fs::write(flag, "").map_err(|error| error.to_string());
    }
    let build = async |plan: BuildPlan, _: Reporter| {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let written = write_package(&plan.folder, &request.architecture);
        begin().map_err(BuildFailure::new)?;
        match answer {
            Answer::Failed => Err(BuildFailure::new("does not compile")),
            Answer::Flag | Answer::Built => written.map_err(BuildFailure::new),
        }
    };
    let options = SidecarOptions::new(request.kernel.clone(), &request.architecture);
    let served = serve(&Host::running(), &request.env(), &options, build, stop.notified()).await;
    served.map_err(|error| error.to_string())
}

fn write_package(sources: &Path, architecture: &str) -> Result<(), String> {
    let folder = sources.join("RPMS/redhat-release-9.6").join(architecture);
    std::fs::create_dir_all(&folder)
        .and_then(|()| std::fs::write(folder.join("mlnx-ofa_kernel.rpm"), "package"))
        .map_err(|error| error.to_string())
}

fn request(dir: &Path) -> Result<BuildRequest, Box<dyn Error>> {
    let (base, sources) = (dir.join("shared"), dir.join("src"));
    std::fs::create_dir(&base)?;
    std::fs::create_dir(&sources)?;
    std::fs::write(sources.join("install.pl"), "#!/bin/false\n")?;
    let kernel: KernelRelease = "5.14.0-570.73.1.el9_6.x86_64".parse()?;
    Ok(BuildRequest {
        folder: SharedFolder::new(base, &kernel),
        appended_flags: appended_flags(NfsRdma::LeftOut, &kernel, "rhel9.6", &[]),
        kernel,
        version: "25.10-1.2.8.0".parse()?,
        architecture: "x86_64".to_owned(),
        entrypoint: sources.join("install.pl"),
        sources,
        use_dkms: false,
    })
}

fn runtime() -> Result<tokio::runtime::Runtime, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| error.to_string())
}
