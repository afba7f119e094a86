//! What a report consists of, whatever its form: verdicts, headings, paragraphs, tables, pictures.

use super::picture::Picture;
use crate::report::Level;
use crate::report::times::duration;

/// A part of a report.
#[derive(Debug)]
pub(super) enum Block {
    /// How it has ended: a word and a sentence, and what to do next.
    Verdict { level: Level, text: String, next: Option<String> },
    /// A heading; 1 is that of a night.
    Heading { level: u8, text: String },
    /// A paragraph.
    Text(String),
    /// What words in the table above it mean.
    Note(&'static str),
    /// Names and what is to be said of each.
    Facts(Vec<(&'static str, String)>),
    /// A table.
    Table(Table),
    /// A picture, for forms that have any.
    Picture(Picture),
}

/// A table. In forms that can fold, one with a `fold` is behind that line; in text it is not there.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) columns: Vec<&'static str>,
    pub(super) rows: Vec<Row>,
    pub(super) fold: Option<String>,
}

impl Table {
    /// The cells, row by row.
    pub(super) fn cells(&self) -> impl Iterator<Item = &Vec<Cell>> {
        self.rows.iter().filter_map(|row| match row {
            Row::Cells(cells) => Some(cells),
            Row::Group(_) => None,
        })
    }

    /// Whether a column has numbers.
    pub(super) fn is_number(&self, column: usize) -> bool {
        self.cells().filter_map(|cells| cells.get(column)).any(|cell| cell.is_number)
    }
}

/// A row of a table.
#[derive(Debug)]
pub(super) enum Row {
    /// What the rows after it are about.
    Group(String),
    /// A cell for each column.
    Cells(Vec<Cell>),
}

impl<const N: usize> From<[Cell; N]> for Row {
    fn from(cells: [Cell; N]) -> Self {
        Self::Cells(cells.into())
    }
}

/// A cell, and how it is meant.
#[derive(Debug, Clone)]
pub(super) struct Cell {
    /// Blanks at its beginning say how deep it stands.
    pub(super) text: String,
    pub(super) tone: Tone,
    /// Whether it is read beside those above and below it, digit by digit.
    pub(super) is_number: bool,
}

/// How something is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    Good,
    Bad,
    Odd,
}

impl Cell {
    pub(super) fn toned(text: impl Into<String>, tone: Tone) -> Self {
        Self { text: text.into(), tone, is_number: false }
    }

    pub(super) fn number(text: impl Into<String>) -> Self {
        Self { is_number: true, ..Self::toned(text, Tone::Plain) }
    }

    /// How long something took.
    pub(super) fn took(milliseconds: u64) -> Self {
        Self::number(duration(milliseconds))
    }

    /// A time from the beginning of something.
    pub(super) fn after(milliseconds: Option<u64>) -> Self {
        Self::number(milliseconds.map_or_else(|| "-".to_owned(), |ms| format!("+{}", duration(ms))))
    }

    pub(super) fn or_dash(text: Option<&str>) -> Self {
        text.unwrap_or("-").into()
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::toned(text, Tone::Plain)
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

pub(super) fn table<const N: usize, R: Into<Row>>(
    columns: [&'static str; N],
    rows: impl IntoIterator<Item = R>,
) -> Block {
    let rows = rows.into_iter().map(Into::into).collect();
    Block::Table(Table { columns: columns.to_vec(), rows, fold: None })
}

pub(super) fn folded<const N: usize, R: Into<Row>>(
    fold: String,
    columns: [&'static str; N],
    rows: impl IntoIterator<Item = R>,
) -> Block {
    let rows = rows.into_iter().map(Into::into).collect();
    Block::Table(Table { columns: columns.to_vec(), rows, fold: Some(fold) })
}

pub(super) fn heading(level: u8, text: impl Into<String>) -> Block {
    Block::Heading { level, text: text.into() }
}
