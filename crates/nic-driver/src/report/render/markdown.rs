//! Markdown whose tables can be pasted into a ticket.

use nic_host::printable;

use super::block::{Block, Row, Table};

pub(super) fn write(blocks: &[Block]) -> String {
    let mut text = String::new();
    for block in blocks {
        match block {
            Block::Verdict { level, text: verdict, next } => {
                text.push_str(&format!("**{}**: {}\n\n", level.word(), escaped(verdict)));
                if let Some(next) = next {
                    text.push_str(&format!("Next: {}\n\n", escaped(next)));
                }
            }
            Block::Heading { level, text: heading } => {
                text.push_str(&format!("{} {}\n\n", "#".repeat(usize::from(*level) + 1), escaped(heading)));
            }
            Block::Note(note) => text.push_str(&format!("{note}\n\n")),
            Block::Text(paragraph) => text.push_str(&format!("{}\n\n", escaped(paragraph))),
            Block::Facts(facts) => {
                text.push_str("| | |\n|---|---|\n");
                for (name, fact) in facts {
                    text.push_str(&format!("| {name} | {} |\n", escaped(fact)));
                }
                text.push('\n');
            }
            Block::Table(table) => write_table(&mut text, table),
            Block::Picture(_) => {}
        }
    }
    text
}

fn write_table(text: &mut String, table: &Table) {
    if let Some(fold) = &table.fold {
        text.push_str(&format!("<details><summary>{}</summary>\n\n", escaped(fold)));
    }
    text.push_str(&format!("| {} |\n|{}\n", table.columns.join(" | "), "---|".repeat(table.columns.len())));
    for row in &table.rows {
        let cells: Vec<String> = match row {
            // Markdown has no cell over several columns.
            Row::Group(group) => {
                let others = table.columns.iter().skip(1).map(|_| String::new());
                std::iter::once(format!("**{}**", escaped(group))).chain(others).collect()
            }
            Row::Cells(cells) => cells.iter().map(|cell| indented(&cell.text)).collect(),
        };
        text.push_str(&format!("| {} |\n", cells.join(" | ")));
    }
    text.push('\n');
    if table.fold.is_some() {
        text.push_str("</details>\n\n");
    }
}

/// What is indented in text stays so: blanks at the beginning of a cell are lost otherwise.
fn indented(text: &str) -> String {
    let inner = text.trim_start_matches(' ');
    format!("{}{}", "&nbsp;".repeat(text.len() - inner.len()), escaped(inner))
}

/// Foreign text in one line, in which nothing is markup.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in printable(text).chars() {
        match c {
            '\n' | '\r' | '\t' => escaped.push(' '),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '\\' | '|' | '`' | '*' | '_' | '[' | ']' | '#' | '~' => {
                escaped.push('\\');
                escaped.push(c);
            }
            c => escaped.push(c),
        }
    }
    escaped
}
