//! `report`: what is asked of the journal, and in which form it is told.

use nic_host::{Host, WriteError, printable};

use super::arguments::{Cli, Output};
use super::output::{fail, print};
use super::report_arguments::{Nights, ReportArguments, ReportFormat};
use super::settings::store;
use crate::Exit;
use crate::report::{Comparison, Report, render};
use crate::state::Journal;

/// A report that cannot be made.
#[derive(Debug, thiserror::Error)]
enum ReportError {
    /// There are no such two nights.
    #[error("the journal has no such two nights to compare: it has {count}")]
    NoNights { count: usize },
    /// It cannot be written.
    #[error("the report cannot be written")]
    File(#[source] WriteError),
    /// It cannot be told as JSON.
    #[error("the report cannot be told as JSON")]
    Json(#[source] serde_json::Error),
}

pub(super) fn report(cli: &Cli, arguments: &ReportArguments) -> Exit {
    let events = match Journal::read(&store(cli)) {
        Ok(events) => events,
        Err(error) => return fail(cli, &error, Exit::Failed),
    };
    let mut report = Report::of(&events);
    if let Some(since) = arguments.since {
        report = report.since(since);
    }
    if let Some(count) = arguments.last {
        report = report.last(usize::from(count));
    }
    let format = arguments.format.unwrap_or(match cli.output {
        Output::Text => ReportFormat::Text,
        Output::Json => ReportFormat::Json,
    });
    match told(&report, arguments, format) {
        Ok(text) => tell(cli, arguments, &text),
        Err(error) => fail(cli, &error, Exit::Failed),
    }
}

fn told(report: &Report, arguments: &ReportArguments, format: ReportFormat) -> Result<String, ReportError> {
    let Some(nights) = arguments.compare else {
        let detail = if arguments.all { render::Detail::All } else { render::Detail::Wrong };
        return Ok(match format {
            ReportFormat::Text => printable(&render::text(report, detail)).into_owned(),
            ReportFormat::Json => json(report)?,
            ReportFormat::Markdown => render::markdown(report),
            ReportFormat::Html => render::html(report),
        });
    };
    let comparison: Option<Comparison> = match nights {
        Nights::Last => report.compare_last(),
        Nights::Numbers(one, other) => report.compare(one, other),
    };
    let comparison = comparison.ok_or(ReportError::NoNights { count: report.nights.len() })?;
    Ok(match format {
        ReportFormat::Text => printable(&render::comparison_text(&comparison)).into_owned(),
        ReportFormat::Json => json(&comparison)?,
        ReportFormat::Markdown => render::comparison_markdown(&comparison),
        ReportFormat::Html => render::comparison_html(&comparison),
    })
}

fn json(result: &impl serde::Serialize) -> Result<String, ReportError> {
    serde_json::to_string_pretty(result).map(|text| text + "\n").map_err(ReportError::Json)
}

fn tell(cli: &Cli, arguments: &ReportArguments, text: &str) -> Exit {
    let Some(path) = &arguments.file else { return print(cli, text.as_bytes(), Exit::Success) };
    // A path of this process, as the shell shows it.
    let written = std::path::absolute(path)
        .map_err(|source| WriteError { path: path.clone(), action: "find".to_owned(), source })
        .and_then(|path| Host::running().write_durably(path, text.as_bytes()));
    match written {
        Ok(()) => Exit::Success,
        Err(error) => fail(cli, &ReportError::File(error), Exit::Failed),
    }
}
