//! Carrying out a container's probes.

use std::time::Duration;

use lab_guest::pod::{Probe, ProbeKind};

use super::container::Life;
use super::events::{What, name_of};
use super::instance::Instance;
use super::runtime::Executed;
use super::schedule::{Ticker, Worker};

/// How much of what a probe says its event holds.
const SHOWN: usize = 300;

/// What a probe said.
#[derive(Debug)]
enum Answer {
    Passed,
    Failed(String),
    /// Nothing, since it could not be executed. That does not count.
    None(String),
}

/// Runs one probe of a container on its schedule, until the container is gone.
pub(super) fn run(life: &Life, kind: ProbeKind, probe: &Probe) {
    let mut worker = Worker::new(kind, probe.clone());
    let mut ticker = Ticker::new(probe.period, life.shared.now());
    let mut starts = 0;
    // The instance whose answer was told last, and whether it was one, and that it had passed.
    let mut told = None;
    while life.wait_for_tick(&mut ticker, (kind == ProbeKind::Readiness).then_some(&mut starts)) {
        let Some((seen, instance)) = life.seen() else { continue };
        if !worker.is_due(&seen) {
            continue;
        }
        let answer = ask(life, kind, probe, &instance);
        // What the end of the container interrupted says nothing.
        match instance.ended_within(Duration::ZERO) {
            Ok(false) => {}
            Ok(true) => continue,
            Err(error) => {
                life.shared.trouble(&error);
                continue;
            }
        }
        let passed = match &answer {
            Answer::Passed => Some(true),
            Answer::Failed(_) => Some(false),
            Answer::None(_) => None,
        };
        if told.replace((seen.instance, passed)) != Some((seen.instance, passed)) {
            let what = match answer {
                Answer::Passed => What::ProbePassed(kind),
                Answer::Failed(said) => What::ProbeFailed(kind, said),
                Answer::None(said) => What::ProbeNotRun(kind, said),
            };
            life.shared.note(seen.instance, what);
        }
        let Some(verdict) = passed.and_then(|passed| worker.count(passed)) else { continue };
        life.take_verdict(seen.instance, kind, verdict);
        if verdict || kind == ProbeKind::Readiness {
            continue;
        }
        let why = format!("its {} probe failed too often", name_of(kind));
        if let Err(error) = life.stop(seen.instance, &why) {
            life.shared.trouble(&error);
        }
    }
}

fn ask(life: &Life, kind: ProbeKind, probe: &Probe, instance: &Instance) -> Answer {
    let files = life.place.folder.join(name_of(kind));
    let timeout = Duration::from_secs(probe.timeout.into());
    match instance.execute(&probe.command, &files, timeout) {
        Ok(Executed::Ended(output)) if output.code == 0 => Answer::Passed,
        Ok(Executed::Ended(output)) => {
            let said: String = output.text.trim().chars().take(SHOWN).collect();
            Answer::Failed(format!("exit code {} {said}", output.code).trim_end().to_owned())
        }
        Ok(Executed::TimedOut) => Answer::Failed(format!("no answer within {} s", probe.timeout)),
        Ok(Executed::Failed(words)) => Answer::None(words),
        Err(error) => Answer::None(format!("{error:#}")),
    }
}
