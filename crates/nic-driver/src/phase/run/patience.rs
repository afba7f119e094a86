//! Trying again: at once when what was in the way is gone, else at a rate that falls.

use std::time::Duration;

use tokio::time::Instant;

use super::super::error::PhaseError;
use super::super::preflight::preflight;
use super::obstacle::Obstacle;
use super::termination_message::TerminationMessage;
use crate::context::Context;

/// How often it is looked whether a reload is still blocked: the kernel tells nobody that a module's last user is gone.
const LOOK: Duration = Duration::from_secs(5);
/// The first pause before another attempt. Each is twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_secs(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// Why an attempt is not made again.
#[derive(Debug)]
pub(super) enum Ended {
    /// The container was told to stop.
    Stopped,
    /// It cannot go on.
    Failed(PhaseError),
}

/// Makes an attempt until it succeeds, the container is told to stop, or `judge` says that it ends. What is in the way is said when it
/// changes, and stands in the termination message meanwhile: whoever kills the container finds it there.
pub(super) async fn persist<T>(
    context: &Context,
    message: &TerminationMessage,
    what: &'static str,
    judge: impl Fn(&PhaseError) -> Obstacle,
    attempt: impl AsyncFn() -> Result<T, PhaseError>,
) -> Result<T, Ended> {
    let began = Instant::now();
    let (mut told, mut pause) = (None, FIRST_PAUSE);
    loop {
        let error = match attempt().await {
            Ok(done) => {
                if told.is_some() {
                    tracing::info!(
                        what,
                        waited_s = began.elapsed().as_secs(),
                        "nothing is in the way any more"
                    );
                    message.clear();
                }
                return Ok(done);
            }
            Err(error) => error,
        };
        let text = crate::error_chain(&error);
        let obstacle = judge(&error);
        match obstacle {
            Obstacle::Stopped => return Err(Ended::Stopped),
            Obstacle::Ends => return Err(Ended::Failed(error)),
            Obstacle::Passes | Obstacle::Blocked => {}
        }
        tell(message, what, &mut told, &text, began);
        let waiting = async {
            if obstacle == Obstacle::Blocked {
                until_unblocked(context, message, what, &mut told, began).await;
            } else {
                tokio::time::sleep(pause).await;
            }
        };
        if context.stop.or_stop_request(waiting).await.is_err() {
            return Err(Ended::Stopped);
        }
        pause = LONGEST_PAUSE.min(pause * 2);
    }
}

/// Says what is in the way, once for each change.
fn tell(
    message: &TerminationMessage,
    what: &'static str,
    told: &mut Option<String>,
    text: &str,
    began: Instant,
) {
    if told.as_deref() == Some(text) {
        return;
    }
    tracing::warn!(
        what,
        waited_s = began.elapsed().as_secs(),
        "the container is not ready, and waits: {text}"
    );
    message.write(text);
    *told = Some(text.to_owned());
}

/// Waits until nothing stands in the way of a reload, or that cannot be seen any more, which the next attempt tells.
async fn until_unblocked(
    context: &Context,
    message: &TerminationMessage,
    what: &'static str,
    told: &mut Option<String>,
    began: Instant,
) {
    let mut pause = LOOK;
    loop {
        tokio::time::sleep(pause).await;
        let looked = Instant::now();
        let found = preflight(context).await;
        // Of the machine's time, no more than a tenth goes into looking.
        pause = LOOK.max(10 * looked.elapsed());
        match found {
            Ok(found) if !found.blockers.is_empty() => {
                let text = PhaseError::from(crate::swap::BlockersFound { blockers: found.blockers });
                tell(message, what, told, &crate::error_chain(&text), began);
            }
            Ok(_) | Err(_) => return,
        }
    }
}
