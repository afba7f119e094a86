//! A page of HTML that needs nothing else: no script, no font, no file. What is foreign is escaped, and nothing of it is markup.

use std::fmt::Write as _;

use super::block::{Block, Cell, Row, Table, Tone};
use super::escaped::Escaped;
use super::svg;
use crate::report::Level;

const STYLE: &str = include_str!("style.css");
/// What a browser is to load, whatever stands in the page: nothing.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";

/// From how many characters on a cell may be broken into lines.
const LONG: usize = 40;

pub(super) fn write(title: &str, blocks: &[Block]) -> String {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\
         <meta name=\"viewport\" content=\"width=device-width\"><meta name=\"color-scheme\" content=\"light dark\">\
         <title>{}</title><style>{STYLE}</style></head><body><main>\n",
        Escaped(title)
    );
    for block in blocks {
        write_block(&mut page, block);
    }
    page.push_str("</main></body></html>\n");
    page
}

fn write_block(page: &mut String, block: &Block) {
    // Writing to a text cannot fail.
    let _ = match block {
        Block::Verdict { level, text, next } => {
            let next =
                next.as_ref().map(|next| format!("<p>Next: {}</p>", Escaped(next))).unwrap_or_default();
            let (class, word) = (level_class(*level), level.word());
            writeln!(page, "<header class=\"{class}\"><b>{word}</b> {}{next}</header>", Escaped(text))
        }
        Block::Heading { level, text } => {
            writeln!(page, "<h{level}>{}</h{level}>", Escaped(text))
        }
        Block::Note(note) => writeln!(page, "<p class=\"note\">{note}</p>"),
        Block::Text(text) => writeln!(page, "<p>{}</p>", Escaped(text)),
        Block::Facts(facts) => {
            page.push_str("<dl>");
            for (name, fact) in facts {
                let _ = write!(page, "<dt>{name}</dt><dd>{}</dd>", Escaped(fact));
            }
            writeln!(page, "</dl>")
        }
        Block::Table(table) => {
            write_table(page, table);
            Ok(())
        }
        Block::Picture(picture) => {
            svg::write(page, picture);
            Ok(())
        }
    };
}

fn write_table(page: &mut String, table: &Table) {
    if let Some(fold) = &table.fold {
        let _ = write!(page, "<details><summary>{}</summary>", Escaped(fold));
    }
    page.push_str("<div class=\"wide\"><table><thead><tr>");
    for (position, column) in table.columns.iter().enumerate() {
        let class = if table.is_number(position) { " class=\"number\"" } else { "" };
        let _ = write!(page, "<th{class}>{column}</th>");
    }
    page.push_str("</tr></thead><tbody>\n");
    for row in &table.rows {
        match row {
            Row::Group(group) => {
                let _ = write!(
                    page,
                    "<tr class=\"group\"><td colspan=\"{}\">{}</td>",
                    table.columns.len(),
                    Escaped(group)
                );
            }
            Row::Cells(cells) => {
                page.push_str("<tr>");
                cells.iter().for_each(|cell| write_cell(page, cell));
            }
        }
        page.push_str("</tr>\n");
    }
    page.push_str("</tbody></table></div>");
    page.push_str(if table.fold.is_some() { "</details>\n" } else { "\n" });
}

fn write_cell(page: &mut String, cell: &Cell) {
    let tone = match cell.tone {
        Tone::Plain => "",
        Tone::Good => "good",
        Tone::Bad => "wrong",
        Tone::Odd => "odd",
    };
    let number = if cell.is_number { "number" } else { "" };
    let long = if cell.text.chars().count() > LONG { "long" } else { "" };
    let classes: Vec<&str> = [tone, number, long].into_iter().filter(|class| !class.is_empty()).collect();
    let class = if classes.is_empty() { String::new() } else { format!(" class=\"{}\"", classes.join(" ")) };
    let _ = write!(page, "<td{class}>{}</td>", Escaped(&cell.text));
}

fn level_class(level: Level) -> &'static str {
    match level {
        Level::Ready | Level::Done => "good",
        Level::Blocked | Level::RolledBack | Level::NotOver => "odd",
        Level::Failed | Level::Degraded => "wrong",
    }
}
