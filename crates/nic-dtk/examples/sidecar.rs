//! The sidecar's side alone: `dtk-build` as a program of its own.
//!
//! It takes the variables that `dtk.env` gives, waits for the start flag, runs the commands that it is told, and stays
//! until SIGTERM or SIGINT. To see it at work without a Driver Toolkit, in an empty folder with a made-up `install.pl`:
//!
//! ```text
//! cargo build -p nic-dtk --example sidecar
//! S=$(mktemp -d)/k; mkdir -p $S/MLNX_OFED_SRC-1.0; touch $S/dtk_start_compile
//! printf '#!/bin/sh\nR=${0%%/*}/RPMS/redhat-release-9/%s; mkdir -p $R; touch $R/a.rpm\n' $(uname -m) > $S/MLNX_OFED_SRC-1.0/install.pl
//! chmod +x $S/MLNX_OFED_SRC-1.0/install.pl
//! DTK_OCP_NIC_SHARED_DIR=$S DTK_OCP_COMPILED_DRIVER_VER=1.0 NVIDIA_NIC_DRIVER_VER=1.0 SIDECAR_PREREQUISITES=skip \
//!     DTK_OCP_START_COMPILE_FLAG=$S/dtk_start_compile DTK_OCP_DONE_COMPILE_FLAG=$S/dtk_done_compile_1_0 \
//!     target/debug/examples/sidecar dtk-build
//! ```

use std::error::Error;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use nic_dtk::{BuildFailure, BuildPlan, DtkEnv, Reporter, SidecarOptions, serve};
use nic_host::Host;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let env = DtkEnv::from_variables(&std::env::vars().collect())?;
    let machine = rustix::system::uname();
    let kernel = machine.release().to_str()?.parse()?;
    let mut options = SidecarOptions::new(kernel, machine.machine().to_str()?);
    if let Some(beat) = std::env::var("SIDECAR_BEAT_MS").ok().and_then(|text| text.parse().ok()) {
        options.beat = Duration::from_millis(beat);
    }
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    Ok(serve(&Host::running(), &env, &options, build, stop).await?)
}

async fn build(plan: BuildPlan, reporter: Reporter) -> Result<(), BuildFailure> {
    if std::env::var("SIDECAR_PREREQUISITES").as_deref() != Ok("skip") {
        for argv in &plan.prerequisites {
            let (program, arguments) = argv.split_first().ok_or_else(|| BuildFailure::new("no program"))?;
            run(Path::new(program), arguments, &plan.folder, &reporter).await?;
        }
    }
    run(&plan.program, &plan.arguments, &plan.folder, &reporter).await
}

async fn run(
    program: &Path,
    arguments: &[String],
    folder: &Path,
    reporter: &Reporter,
) -> Result<(), BuildFailure> {
    let shown = program.display();
    let failed = |what: &str, error: std::io::Error| BuildFailure::new(format!("{what} {shown}: {error}"));
    let mut child = Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| failed("cannot run", error))?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (status, (), ()) = tokio::join!(child.wait(), lines(stdout, reporter), lines(stderr, reporter));
    match status.map_err(|error| failed("cannot wait for", error))? {
        status if status.success() => Ok(()),
        status => Err(BuildFailure::new(format!("{shown} ended with {status}"))),
    }
}

async fn lines(output: Option<impl AsyncRead + Unpin>, reporter: &Reporter) {
    let Some(output) = output else { return };
    let mut lines = BufReader::new(output).split(b'\n');
    while let Ok(Some(line)) = lines.next_segment().await {
        reporter.line(&String::from_utf8_lossy(&line));
    }
}
