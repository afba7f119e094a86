//! `status`: once, or again and again.

use std::io::{self, IsTerminal as _};
use std::time::Duration;

use nic_host::printable;

use super::arguments::{Cli, Output};
use super::output::{fail, print, show};
use super::status_arguments::StatusArguments;
use crate::Exit;
use crate::context::Context;
use crate::phase::{self, Status, StatusLevel};
use crate::report::render::wrapped;

/// Narrower is no terminal that somebody reads.
const LEAST_COLUMNS: usize = 40;
const PERIOD: Duration = Duration::from_secs(2);
/// Home, and all below it cleared.
const CLEAR: &str = "\x1b[H\x1b[2J";

pub(super) async fn status(cli: &Cli, arguments: &StatusArguments, context: &Context) -> Exit {
    loop {
        let status = match phase::status(context).await {
            Ok(status) => status,
            Err(error) => return fail(cli, &error, error.exit()),
        };
        let is_settled = status.verdict.level == StatusLevel::Ready;
        let exit = if arguments.check && !is_settled { Exit::Failed } else { Exit::Success };
        let shown = tell(cli, arguments, &status, exit);
        if !arguments.watch || shown != exit {
            return shown;
        }
        if context.stop.or_stop_request(tokio::time::sleep(PERIOD)).await.is_err() {
            return Exit::Success;
        }
    }
}

fn tell(cli: &Cli, arguments: &StatusArguments, status: &Status, exit: Exit) -> Exit {
    if matches!(cli.output, Output::Json) {
        return show(cli, status, exit);
    }
    let is_terminal = io::stdout().is_terminal();
    let text = status.text(arguments.all);
    let mut text = printable(&text).into_owned();
    if is_terminal && let Ok(size) = rustix::termios::tcgetwinsize(io::stdout()) {
        // One that has no size, as a pipe of a test harness, says 0.
        let columns = usize::from(size.ws_col);
        text = if columns < LEAST_COLUMNS { text } else { wrapped(&text, columns) };
    }
    if is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) {
        text = coloured(&text, status.verdict.level);
    }
    if is_terminal && arguments.watch {
        text.insert_str(0, CLEAR);
    }
    print(cli, text.as_bytes(), exit)
}

/// The verdict's word in its colour.
fn coloured(text: &str, level: StatusLevel) -> String {
    let colour = match level {
        StatusLevel::Ready => 32,
        StatusLevel::AtWork | StatusLevel::ReloadDue | StatusLevel::NotReady | StatusLevel::RolledBack => 33,
        StatusLevel::Owed | StatusLevel::NotKnown => 31,
    };
    let word = format!("● {}", level.word());
    match text.strip_prefix(&word) {
        Some(rest) => format!("\x1b[1;{colour}m{word}\x1b[0m{rest}"),
        None => text.to_owned(),
    }
}
