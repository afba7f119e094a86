use std::time::{Duration, Instant};

use nic_host::{Foreign, Host};

use crate::beneath::{Folder, FolderError};
use crate::driver_side::Prepared;
use crate::driver_side::event::DriverEvent;
use crate::driver_side::judge::{Verdict, judge};
use crate::request::AttemptId;
use crate::result::{BuildFailed, BuildResult, LARGEST_RESULT};
use crate::shared_folder::{OWN_FOLDER, RESULT_FILE, START_FLAG, done_flag_name};
use crate::status::{self, BuildProgress, Pulse, SidecarState, SignOfLife, Status};
use crate::wait::Watch;

/// How long what is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaitOptions {
    /// The whole build.
    pub deadline: Duration,
    /// How often the folder is looked at where the kernel tells nothing.
    pub recheck: Duration,
    /// How long a sidecar that gives signs of life may give none before that is told.
    pub silent_after: Duration,
    /// How long it may give none before the wait ends. Its restart, by kubelet, may take some minutes.
    pub give_up_after: Duration,
}

/// The incumbent's 40 minutes for a build; 1 s; 10 s; and 6 minutes, one more than kubelet's longest pause before a
/// restart.
impl Default for WaitOptions {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(40 * 60),
            recheck: Duration::from_secs(1),
            silent_after: Duration::from_secs(10),
            give_up_after: Duration::from_secs(6 * 60),
        }
    }
}

/// There are no packages.
#[derive(Debug, thiserror::Error)]
pub enum WaitError {
    /// The sidecar says so.
    #[error(transparent)]
    Failed(BuildFailed),
    /// The sidecar was alive, and is not any more.
    #[error("the build sidecar has given no sign of life for {silent_for:?}; it was {doing}")]
    Died {
        /// For how long.
        silent_for: Duration,
        /// What it said last.
        doing: String,
    },
    /// The time is over.
    #[error("the build sidecar has not built the packages within {after:?}; {life}")]
    Deadline {
        /// The time.
        after: Duration,
        /// Whether the sidecar lives.
        life: &'static str,
    },
    /// The shared folder cannot be used.
    #[error("cannot look for the build sidecar's answer")]
    Folder(#[from] FolderError),
}

/// One look.
struct Look {
    verdict: Verdict,
    status: Option<Status>,
}

/// Waits until the sidecar has built what was asked for. Times are of the monotonic clock.
pub(super) async fn wait(
    host: &Host,
    prepared: &Prepared,
    attempt: &AttemptId,
    options: &WaitOptions,
    events: &mut impl FnMut(DriverEvent),
) -> Result<(), WaitError> {
    let watch = Watch::new(options.recheck);
    let begin = Instant::now();
    let mut observer = Observer::new(options.silent_after.min(options.give_up_after));
    loop {
        let Look { verdict, status } = look(host, prepared, attempt, &watch)?;
        let life = observer.tell(status.as_ref(), attempt, events);
        match verdict {
            Verdict::Built => {
                events(DriverEvent::Built);
                return Ok(());
            }
            Verdict::Failed(failed) => return Err(WaitError::Failed(failed)),
            Verdict::Stale => {
                replace_stale_flag(host, prepared)?;
                events(DriverEvent::StaleDoneFlag);
            }
            Verdict::Pending => {}
        }
        if let SignOfLife::Silent(silent_for) = life
            && silent_for >= options.give_up_after
        {
            return Err(WaitError::Died { silent_for, doing: observer.doing() });
        }
        let left = options.deadline.saturating_sub(begin.elapsed());
        if left.is_zero() {
            let life = match life {
                SignOfLife::Never => "it has given no sign of life (the incumbent's gives none)",
                SignOfLife::Alive => "it is alive",
                SignOfLife::Silent(_) => "it gives no sign of life any more",
            };
            return Err(WaitError::Deadline { after: options.deadline, life });
        }
        // A timeout is the deadline, which the next round sees.
        let _ = tokio::time::timeout(left, watch.changed()).await;
    }
}

/// Some opens and reads of small files. They are short, and are not worth a thread.
fn look(host: &Host, prepared: &Prepared, attempt: &AttemptId, watch: &Watch) -> Result<Look, FolderError> {
    let (kernels, own) = folders(host, prepared)?;
    watch.arm(&kernels);
    watch.arm(&own);
    // The flag and the status before the result: a sidecar writes the result first, so that it is there by now.
    let status = status::read(&own)?;
    let done_flag = kernels.has_flag(&done_flag_name(&prepared.request.version))?;
    let result: Option<BuildResult> = own.json(RESULT_FILE, LARGEST_RESULT)?;
    let verdict = match judge(attempt, prepared.digest, done_flag, result.as_ref()) {
        Verdict::Pending => failure_by_status(attempt, status.as_ref()).unwrap_or(Verdict::Pending),
        verdict => verdict,
    };
    Ok(Look { verdict, status })
}

/// A sidecar whose disk is full can write no result, but its status.
fn failure_by_status(attempt: &AttemptId, status: Option<&Status>) -> Option<Verdict> {
    let status = status?;
    let is_ours = status.state == SidecarState::Failed && status.attempt.as_ref() == Some(attempt);
    let reason = status.progress.last_line.clone();
    is_ours.then(|| Verdict::Failed(BuildFailed { reason, log_tail: Vec::new() }))
}

/// Takes the flag of another build off, and asks for ours again: who has put the one has taken the other off.
fn replace_stale_flag(host: &Host, prepared: &Prepared) -> Result<(), FolderError> {
    let (kernels, own) = folders(host, prepared)?;
    kernels.remove(&done_flag_name(&prepared.request.version))?;
    own.remove(RESULT_FILE)?;
    if !kernels.has_flag(START_FLAG)? {
        kernels.put_flag(START_FLAG)?;
    }
    Ok(())
}

fn folders(host: &Host, prepared: &Prepared) -> Result<(Folder, Folder), FolderError> {
    let folder = &prepared.request.folder;
    let kernels = Folder::open(host, folder.base())?.folder(folder.name())?;
    let own = kernels.folder(OWN_FOLDER)?;
    Ok((kernels, own))
}

/// Tells what has changed since the look before.
struct Observer {
    pulse: Pulse,
    life: SignOfLife,
    told: Option<(SidecarState, BuildProgress)>,
}

impl Observer {
    fn new(silent_after: Duration) -> Self {
        Self { pulse: Pulse::new(silent_after), life: SignOfLife::Never, told: None }
    }

    fn tell(
        &mut self,
        status: Option<&Status>,
        attempt: &AttemptId,
        events: &mut impl FnMut(DriverEvent),
    ) -> SignOfLife {
        let life = self.pulse.feel(status, Instant::now());
        match (self.life, life) {
            (SignOfLife::Alive, SignOfLife::Alive) | (SignOfLife::Silent(_), SignOfLife::Silent(_)) => {}
            (_, SignOfLife::Alive) => events(DriverEvent::Alive),
            (_, SignOfLife::Silent(silent_for)) => events(DriverEvent::Silent(silent_for)),
            (_, SignOfLife::Never) => {}
        }
        self.life = life;
        // What is said of another attempt, or was left behind, is not about this one.
        let about_us = status.filter(|status| {
            life == SignOfLife::Alive && status.attempt.as_ref().is_none_or(|about| about == attempt)
        });
        if let Some(status) = about_us {
            let now = (status.state, status.progress.clone());
            if self.told.as_ref() != Some(&now) {
                let (state, progress) = now.clone();
                events(DriverEvent::Progress { state, progress });
                self.told = Some(now);
            }
        }
        life
    }

    fn doing(&self) -> String {
        match &self.told {
            Some((state, progress)) if progress.last_line.is_empty() => format!("{state:?}").to_lowercase(),
            Some((state, progress)) => {
                format!("{}, at {}", format!("{state:?}").to_lowercase(), Foreign(&progress.last_line))
            }
            None => "there before this process looked".to_owned(),
        }
    }
}
