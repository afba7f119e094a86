//! What people read of a report: text, Markdown, a page with a picture. All of it is made of the model alone.
//!
//! `sections.rs` says what is told in which order, once; [`text()`], [`markdown()`] and [`html()`] say what that looks like.

mod block;
mod escaped;
mod html;
mod markdown;
mod picture;
mod sections;
mod svg;
mod swap_sections;
mod text;

use super::{Comparison, Report};

/// How much is told in a form that cannot fold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// Of VFs and settings those that are not what they were.
    Wrong,
    /// Each VF, and each setting that was given back.
    All,
}

/// As text of at most 100 columns.
#[must_use]
pub fn text(report: &Report, detail: Detail) -> String {
    text::write(&sections::of_report(report), detail)
}

/// A text whose lines take at most this many columns; what goes on in another line stands below its beginning.
#[must_use]
pub fn wrapped(text: &str, columns: usize) -> String {
    text::wrapped(text, columns)
}

/// As Markdown: tables that can be pasted into a ticket.
#[must_use]
pub fn markdown(report: &Report) -> String {
    markdown::write(&sections::of_report(report))
}

/// As a page of HTML that needs nothing else: its style and its pictures are in it, and no script.
#[must_use]
pub fn html(report: &Report) -> String {
    html::write("nic-driver report", &sections::of_report(report))
}

/// Two nights side by side, as text of at most 100 columns.
#[must_use]
pub fn comparison_text(comparison: &Comparison) -> String {
    text::write(&sections::of_comparison(comparison), Detail::Wrong)
}

/// Two nights side by side, as Markdown.
#[must_use]
pub fn comparison_markdown(comparison: &Comparison) -> String {
    markdown::write(&sections::of_comparison(comparison))
}

/// Two nights side by side, as a page of HTML.
#[must_use]
pub fn comparison_html(comparison: &Comparison) -> String {
    html::write("nic-driver report: two nights", &sections::of_comparison(comparison))
}

#[cfg(test)]
mod tests;
