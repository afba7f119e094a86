//! Text of at most 100 columns, whatever is in it.

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr};

use super::Detail;
use super::block::{Block, Cell, Row, Table};

/// How wide it is at most, in columns.
const WIDTH: usize = 100;
/// What is between two columns of a table, and before the first.
const GAP: usize = 2;
const MARGIN: usize = 1;
/// How much farther in the second line of a cell stands.
const HANGING: usize = 2;

pub(super) fn write(blocks: &[Block], detail: Detail) -> String {
    let mut text = String::new();
    let mut write = |lines: &str| {
        for line in lines.lines() {
            text.push_str(line.trim_end());
            text.push('\n');
        }
    };
    for block in blocks {
        match block {
            Block::Verdict { level, text, next } => {
                write(&paragraph(&format!("{}: {text}", level.word())));
                if let Some(next) = next {
                    write(&paragraph(&format!("Next: {next}")));
                }
            }
            Block::Heading { level: 1, text } => {
                let text = paragraph(text);
                let longest = text.lines().map(UnicodeWidthStr::width).max().unwrap_or_default();
                write(&format!("\n{text}\n{}", "=".repeat(longest)));
            }
            Block::Heading { level: 2, text } => write(&format!("\n{}", paragraph(text))),
            Block::Heading { text, .. } => write(&paragraph(text)),
            Block::Text(text) => write(&paragraph(text)),
            Block::Note(note) => write(&paragraph(note)),
            Block::Facts(facts) => {
                let rows = facts.iter().map(|(name, text)| vec![Cell::from(*name), Cell::from(text.clone())]);
                let rows = rows.map(Row::Cells).collect();
                write(&table(&Table { columns: Vec::new(), rows, fold: None }));
            }
            Block::Table(table) => match &table.fold {
                None => write(&self::table(table)),
                Some(fold) if detail == Detail::All => {
                    write(&paragraph(fold));
                    write(&self::table(table));
                }
                Some(_) => {}
            },
            Block::Picture(_) => {}
        }
    }
    text
}

/// A table; where it is wider than the text may be, its widest columns are broken into lines.
fn table(table: &Table) -> String {
    let Table { columns, rows, fold: _ } = table;
    let count = table.cells().map(Vec::len).chain([columns.len()]).max().unwrap_or_default();
    let header = |column: usize| columns.get(column).copied().unwrap_or_default();
    let longest =
        |column: usize| table.cells().filter_map(|row| row.get(column)).map(|cell| cell.text.width()).max();
    let mut widths: Vec<usize> =
        (0..count).map(|column| longest(column).unwrap_or_default().max(header(column).width())).collect();
    let room = WIDTH.saturating_sub(MARGIN + GAP * count.saturating_sub(1));
    while widths.iter().sum::<usize>() > room {
        let Some(widest) = widths.iter_mut().max() else { break };
        *widest -= 1;
    }
    let mut text = String::new();
    if !columns.is_empty() {
        let of_column = |(column, width): (usize, &usize)| {
            let cell = Cell { is_number: table.is_number(column), ..Cell::from(header(column)) };
            cell_lines(&cell, *width)
        };
        let header: Vec<Vec<String>> = widths.iter().enumerate().map(of_column).collect();
        write_lines(&mut text, &header, &widths);
    }
    for row in rows {
        match row {
            Row::Group(group) => {
                let indented: Vec<String> = lines(group, WIDTH - MARGIN, HANGING);
                write_lines(&mut text, &[indented], &[WIDTH - MARGIN]);
            }
            Row::Cells(cells) => {
                let lines: Vec<Vec<String>> =
                    cells.iter().zip(&widths).map(|(cell, width)| cell_lines(cell, *width)).collect();
                write_lines(&mut text, &lines, &widths);
            }
        }
    }
    text
}

/// A cell's lines, each of which takes at most this many columns.
fn cell_lines(cell: &Cell, width: usize) -> Vec<String> {
    let text = one_line(&cell.text);
    let indent = text.len() - text.trim_start_matches(' ').len();
    let hanging = if indent > 0 { indent + HANGING } else { 0 };
    let mut lines = lines(&text, width, hanging);
    if cell.is_number {
        for line in &mut lines {
            line.insert_str(0, &" ".repeat(width.saturating_sub(line.width())));
        }
    }
    lines
}

fn write_lines(text: &mut String, cells: &[Vec<String>], widths: &[usize]) {
    let height = cells.iter().map(Vec::len).max().unwrap_or_default();
    for number in 0..height {
        let mut line = " ".repeat(MARGIN);
        for (cell, width) in cells.iter().zip(widths) {
            let part = cell.get(number).map(String::as_str).unwrap_or_default();
            line.push_str(part);
            line.push_str(&" ".repeat(width.saturating_sub(part.width()) + GAP));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
}

pub(super) fn wrapped(text: &str, columns: usize) -> String {
    let broken = text.lines().flat_map(|line| {
        let indent = line.len() - line.trim_start_matches(' ').len();
        lines(line, columns, indent + HANGING)
    });
    broken.collect::<Vec<_>>().join("\n") + "\n"
}

fn one_line(text: &str) -> String {
    text.replace(['\n', '\r', '\t'], " ")
}

fn paragraph(text: &str) -> String {
    lines(text.trim_start(), WIDTH, 0).join("\n")
}

/// Breaks a text into lines, between words where that can be; the blanks at its beginning stay, and lines after the first have `hanging` ones.
fn lines(text: &str, width: usize, hanging: usize) -> Vec<String> {
    let first = text.len() - text.trim_start_matches(' ').len();
    // In a narrow column there is no room for blanks.
    let hanging = if hanging * 2 > width { 0 } else { hanging };
    let mut used = first.min(width / 2);
    let mut lines = vec![" ".repeat(used)];
    let mut is_empty = true;
    let begin = |lines: &mut Vec<String>| {
        lines.push(" ".repeat(hanging));
        hanging
    };
    for word in text.split_whitespace() {
        let space = usize::from(!is_empty);
        if used + space + word.width() > width && !is_empty {
            used = begin(&mut lines);
            is_empty = true;
        }
        if !is_empty {
            lines.last_mut().into_iter().for_each(|line| line.push(' '));
            used += 1;
        }
        for c in word.chars() {
            let columns = c.width().unwrap_or_default();
            if used + columns > width && !is_empty {
                used = begin(&mut lines);
            }
            lines.last_mut().into_iter().for_each(|line| line.push(c));
            used += columns;
            is_empty = false;
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::super::block::table;
    use super::*;

    fn drawn(rows: Vec<[Cell; 3]>) -> String {
        write(&[table(["time", "what", "took"], rows)], Detail::Wrong)
    }

    #[test]
    fn what_is_broken_into_lines_stands_below_its_beginning() {
        let step =
            "  have packages built by the sidecar in /mnt/shared/packages, which is where both of them look";
        let told = drawn(vec![
            ["01:02:03".into(), "install".into(), Cell::number("1.000 s")],
            ["01:02:04".into(), step.into(), Cell::number("12.000 s")],
        ]);
        let lines: Vec<&str> = told.lines().collect();
        assert_eq!(lines[2].find("have"), Some(13), "{told}");
        assert_eq!(lines[3].trim_start(), "both of them look", "{told}");
        assert_eq!(lines[3].find("both"), Some(15), "{told}");
        assert!(lines[1].ends_with("  1.000 s") && lines[2].ends_with("  12.000 s"), "{told}");
    }

    #[test]
    fn a_word_that_is_longer_than_a_line_is_broken() {
        let told = drawn(vec![["-".into(), "w".repeat(250).into(), "-".into()]]);
        assert!(told.lines().all(|line| line.width() <= WIDTH), "{told}");
        assert_eq!(told.matches('w').count(), 251);
    }

    #[test]
    fn lines_are_as_wide_as_a_terminal() {
        let told = wrapped("one line\n  in the way: a process that has something open\n", 20);
        assert_eq!(told, "one line\n  in the way: a\n    process that has\n    something open\n");
    }

    /// Two columns each, on a terminal.
    #[test]
    fn wide_characters_count_as_what_they_take() {
        let told = drawn(vec![["-".into(), "網".repeat(120).into(), "-".into()]]);
        assert!(told.lines().all(|line| line.width() <= WIDTH), "{told}");
        assert_eq!(told.matches('網').count(), 120);
    }
}
