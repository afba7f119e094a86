//! The arguments of `report`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use jiff::{SignedDuration, Timestamp};

/// What is told, and how.
#[derive(Debug, Args)]
pub struct ReportArguments {
    /// Only the nights that were not over at this time: 2026-01-02, 2026-01-02T03:04:05Z, or how long ago: 2h, 90m.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub since: Option<Timestamp>,
    /// Only the last night, or so many of the last ones.
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "1", value_parser = clap::value_parser!(u16).range(1..))]
    pub last: Option<u16>,
    /// Two nights side by side: the last two, or those of these numbers.
    #[arg(long, value_name = "NIGHTS", num_args = 0..=1, require_equals = true, default_missing_value = "last", value_parser = parse_nights)]
    pub compare: Option<Nights>,
    /// In text: each VF, and each setting that was given back. The other forms always have them.
    #[arg(long)]
    pub all: bool,
    /// The form of the report [default: that of --output].
    #[arg(long, value_enum)]
    pub format: Option<ReportFormat>,
    /// Write the report to this file, a path of this process, in place of stdout.
    #[arg(long, value_name = "PATH")]
    pub file: Option<PathBuf>,
}

/// The form of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ReportFormat {
    /// For a terminal: 100 columns.
    Text,
    /// For programs: docs/report.schema.json.
    Json,
    /// For a ticket.
    Markdown,
    /// A page with pictures, which needs nothing else.
    Html,
}

/// Which two nights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nights {
    /// The last two.
    Last,
    /// Those of these numbers.
    Numbers(usize, usize),
}

fn parse_time(text: &str) -> Result<Timestamp, String> {
    let form = "neither a time such as 2026-01-02T03:04:05Z, nor a day, nor how long ago, such as 2h";
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    if let Ok(midnight) = format!("{text}T00:00:00Z").parse::<Timestamp>() {
        return Ok(midnight);
    }
    let ago: SignedDuration = text.parse().map_err(|_| form.to_owned())?;
    Timestamp::now().checked_sub(ago.abs()).map_err(|error| error.to_string())
}

fn parse_nights(text: &str) -> Result<Nights, String> {
    if text == "last" {
        return Ok(Nights::Last);
    }
    let numbers =
        text.split_once(',').and_then(|(one, other)| Some((one.parse().ok()?, other.parse().ok()?)));
    let (one, other) = numbers.ok_or("not the numbers of two nights, such as 1,2")?;
    Ok(Nights::Numbers(one, other))
}
