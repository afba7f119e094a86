//! The terminal that logs go to, where they do: builds are shown in its last line, and logs above that.

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use nic_host::in_one_line;
use tracing_subscriber::fmt::MakeWriter;

use super::arguments::{Cli, LogFormat};
use crate::build_progress::{BuildProgress, ShowsBuilds};

/// How often the time is shown anew while a build prints nothing.
const TICK: Duration = Duration::from_millis(500);
const TEMPLATE: &str = "{spinner} {prefix} {elapsed_precise} {wide_msg}";

/// Standard error as a terminal for people. Clones are the same.
#[derive(Debug, Clone)]
pub(super) struct Terminal {
    lines: MultiProgress,
    shown: Arc<Mutex<Option<ProgressBar>>>,
}

impl Terminal {
    /// The terminal, where standard error is one on which a line can be written over (`TERM` says so), and logs are for people.
    pub(super) fn of(cli: &Cli) -> Option<Self> {
        let lines = MultiProgress::new();
        let is_for_people = matches!(cli.log_format, LogFormat::Text) && !lines.is_hidden();
        is_for_people.then(|| Self { lines, shown: Arc::default() })
    }

    /// The line in which a build is shown, from its first sign on.
    fn line(&self, progress: &BuildProgress) -> ProgressBar {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let line = shown.get_or_insert_with(|| {
            let line = self.lines.add(ProgressBar::new_spinner().with_elapsed(progress.elapsed));
            // The template is right, or the test of it fails.
            if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
                line.set_style(style);
            }
            line.enable_steady_tick(TICK);
            line
        });
        line.clone()
    }
}

impl ShowsBuilds for Terminal {
    fn show(&self, progress: &BuildProgress) {
        let line = self.line(progress);
        line.set_prefix(so_far(progress));
        if !progress.line.trim().is_empty() {
            line.set_message(printable(&progress.line));
        }
        tracing::debug!("{}: {}", progress.place, progress.line);
    }

    fn clear(&self) {
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(line) = shown {
            line.finish_and_clear();
            self.lines.remove(&line);
        }
    }
}

fn so_far(progress: &BuildProgress) -> String {
    let known = progress.known.map(|known| format!(" of {known}")).unwrap_or_default();
    let package = progress.package.as_deref().map(|package| format!(" ({package})")).unwrap_or_default();
    format!("{}: {}{known} packages done{}", progress.place, progress.done, printable(&package))
}

/// What would move the cursor is no part of a line.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// The longest line of a log for people, in bytes: a program's output may be in it.
const LONGEST_LINE: usize = 16 << 10;

/// In what form a line of the log comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LineForm {
    /// Text.
    Plain,
    /// Text in the colours that the log gives it; of what it tells the log itself escapes what would be taken for one.
    Coloured,
    /// JSON, which is one line and escaped as it is.
    Json,
}

impl LineForm {
    /// One event in one line of bounded length, whatever is in it.
    fn line(self, text: &[u8]) -> Vec<u8> {
        if self == Self::Json {
            return text.to_vec();
        }
        let text = String::from_utf8_lossy(text);
        let text = text.strip_suffix('\n').unwrap_or(&text);
        let mut line = match self {
            Self::Coloured => {
                let lines: Vec<String> =
                    text.split(COLOUR).map(|part| in_one_line(part, LONGEST_LINE)).collect();
                lines.join(COLOUR)
            }
            Self::Plain | Self::Json => in_one_line(text, LONGEST_LINE),
        };
        line.push('\n');
        line.into_bytes()
    }
}

/// What a colour begins with.
const COLOUR: &str = "\x1b[";

/// Where logs are written to: above what is shown, where something is, and into a file, where there is one.
#[derive(Clone)]
pub(super) struct LogWriter {
    pub(super) terminal: Option<Terminal>,
    pub(super) file: Option<Arc<File>>,
    pub(super) form: LineForm,
}

impl Write for LogWriter {
    /// An event is one write.
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        let line = self.form.line(text);
        if let Some(file) = &self.file {
            // The log's first place is the one that counts.
            let _ = file.as_ref().write_all(&line);
        }
        let write = || io::stderr().write_all(&line);
        match &self.terminal {
            Some(terminal) => terminal.lines.suspend(write),
            None => write(),
        }
        .map(|()| text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

impl MakeWriter<'_> for LogWriter {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

impl fmt::Debug for LogWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LogWriter")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build_progress::BuildPlace;

    #[test]
    fn trial_w14_an_event_is_one_line_of_the_log() {
        let event = |form: LineForm, text: &str| String::from_utf8(form.line(text.as_bytes())).unwrap();
        let text = "INFO read \u{202e}x\nERROR forged\u{7}\n";
        let told = "INFO read \\u{202e}x | ERROR forged\\u{7}\n";
        assert_eq!(event(LineForm::Plain, text), told);
        assert_eq!(event(LineForm::Plain, "\x1b[2Jx\n"), "\\u{1b}[2Jx\n");
        let coloured = format!("\x1b[32m{text}");
        assert_eq!(event(LineForm::Coloured, &coloured), format!("\x1b[32m{told}"));
        assert_eq!(event(LineForm::Json, "{}\n"), "{}\n");
        assert!(event(LineForm::Plain, &"\n".repeat(1 << 20)).len() < 3 * LONGEST_LINE);
    }

    #[test]
    fn what_is_shown_is_one_line() {
        ProgressStyle::with_template(TEMPLATE).unwrap();
        let mut progress = BuildProgress {
            place: BuildPlace::Here,
            done: 3,
            known: Some(12),
            package: Some("mlnx-ofa_kernel".to_owned()),
            elapsed: Duration::from_secs(7),
            line: "\x1b[31mCC [M]\tmain.o\r".to_owned(),
        };
        assert_eq!(so_far(&progress), "build: 3 of 12 packages done (mlnx-ofa_kernel)");
        assert_eq!(printable(&progress.line), " [31mCC [M] main.o ");
        progress = BuildProgress { place: BuildPlace::Sidecar, known: None, package: None, ..progress };
        assert_eq!(so_far(&progress), "build sidecar: 3 packages done");
    }
}
