//! Text that others have written, in messages of ours.

use std::borrow::Cow;
use std::fmt;

/// How many characters of a foreign text a message shows.
pub const LONGEST_FOREIGN: usize = 100;
/// How many foreign words of a list a message shows.
pub const MOST_FOREIGN: usize = 20;

/// Text that others have written, as a message shows it: in quotes, control characters and quotes escaped, and cut after
/// [`LONGEST_FOREIGN`] characters. A terminal, a log and a line stay what they are, whatever a file or a device says.
#[derive(Debug, Clone, Copy)]
pub struct Foreign<'a>(pub &'a str);

impl fmt::Display for Foreign<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.char_indices().nth(LONGEST_FOREIGN) {
            None => write!(f, "{:?}", self.0),
            Some((end, _)) => write!(f, "{:?}…", self.0.get(..end).unwrap_or_default()),
        }
    }
}

/// Text that others have written, as [`Foreign`] and without quotes: a name, where the sentence tells by itself where it ends.
#[derive(Debug, Clone, Copy)]
pub struct ForeignWord<'a>(pub &'a str);

impl fmt::Display for ForeignWord<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut characters = self.0.chars();
        for character in characters.by_ref().take(LONGEST_FOREIGN) {
            if is_harmless(character) {
                write!(f, "{character}")?;
            } else {
                write!(f, "{}", character.escape_debug())?;
            }
        }
        if characters.next().is_some() { f.write_str("…") } else { Ok(()) }
    }
}

/// Several of them, of which a message shows the first [`MOST_FOREIGN`].
#[derive(Debug, Clone, Copy)]
pub struct ForeignWords<'a>(pub &'a [String]);

impl ForeignWords<'_> {
    /// With something else than a comma between them.
    #[must_use]
    pub fn joined(self, between: &str) -> String {
        let mut words: Vec<String> =
            self.0.iter().take(MOST_FOREIGN).map(|word| ForeignWord(word).to_string()).collect();
        let more = self.0.len().saturating_sub(MOST_FOREIGN);
        words.extend((more > 0).then(|| format!("{more} more")));
        words.join(between)
    }
}

impl fmt::Display for ForeignWords<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.joined(", "))
    }
}

/// A message in one line: the ends of lines become ` | `, other control characters are escaped, and of what is longer than `longest`
/// bytes the middle is left out: the beginning tells what has failed, and the end of a program's output why. Escaped it is at most
/// twice as long.
#[must_use]
pub fn in_one_line(text: &str, longest: usize) -> String {
    // First, since a text of megabytes would be escaped in vain; and then again, since a control character takes several letters.
    shortened(&escaped(&shortened(text, longest)), longest.saturating_mul(2)).into_owned()
}

fn shortened(text: &str, longest: usize) -> Cow<'_, str> {
    if text.len() <= longest {
        return Cow::Borrowed(text);
    }
    let half = longest / 2;
    let (beginning, end) = (text.floor_char_boundary(half), text.ceil_char_boundary(text.len() - half));
    let part = |part: Option<&str>| part.unwrap_or_default().to_owned();
    Cow::Owned(part(text.get(..beginning)) + " … " + &part(text.get(end..)))
}

/// A text of several lines as a terminal may be shown it: control characters, but for the ends of lines and tabs, are escaped.
#[must_use]
pub fn printable(text: &str) -> Cow<'_, str> {
    let stays = |character: char| matches!(character, '\n' | '\t') || is_harmless(character);
    if text.chars().all(stays) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if stays(character) { shown.push(character) } else { shown.extend(character.escape_debug()) }
    }
    Cow::Owned(shown)
}

fn escaped(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for (number, piece) in text.lines().enumerate() {
        if number > 0 {
            line.push_str(" | ");
        }
        for character in piece.chars() {
            if is_harmless(character) { line.push(character) } else { line.extend(character.escape_debug()) }
        }
    }
    line
}

/// Neither a control character, nor one that turns the writing's direction (Unicode, Bidi_Control) or ends a line.
fn is_harmless(character: char) -> bool {
    !character.is_control()
        && !matches!(character, '\u{61c}' | '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trial_w14_foreign_text_is_escaped_and_cut() {
        assert_eq!(Foreign("a\n\u{1b}[31mb\"").to_string(), r#""a\n\u{1b}[31mb\"""#);
        assert_eq!(Foreign(&"é".repeat(100)).to_string(), format!("\"{}\"", "é".repeat(100)));
        assert_eq!(Foreign(&"é".repeat(101)).to_string(), format!("\"{}\"…", "é".repeat(100)));
    }

    #[test]
    fn trial_w14_foreign_words_are_escaped_cut_and_few() {
        assert_eq!(ForeignWord("mlx5_core").to_string(), "mlx5_core");
        assert_eq!(ForeignWord("a b\n\u{1b}[31m\u{202e}").to_string(), r"a b\n\u{1b}[31m\u{202e}");
        assert_eq!(ForeignWord(&"é".repeat(101)).to_string(), format!("{}…", "é".repeat(100)));
        let words: Vec<String> = (0..22).map(|number| format!("m{number}\n")).collect();
        assert_eq!(ForeignWords(&words[..2]).to_string(), r"m0\n, m1\n");
        assert_eq!(ForeignWords(&words[..2]).joined(" or "), r"m0\n or m1\n");
        assert!(ForeignWords(&words).to_string().ends_with(r"m19\n, 2 more"));
    }

    #[test]
    fn trial_w14_a_message_stays_one_line_of_bounded_length() {
        assert_eq!(
            in_one_line("cannot read \u{202e}a\tb\r\nc “é”\n", 100),
            r"cannot read \u{202e}a\tb | c “é”"
        );
        let long = format!("begins{}\nends", "é".repeat(1000));
        assert_eq!(in_one_line(&long, 16), "beginsé … é | ends");
        assert!(in_one_line(&"\u{1}".repeat(1000), 100).len() < 210);
    }

    #[test]
    fn trial_w14_a_text_of_lines_moves_no_cursor() {
        let table = "a\tb\n“é”\n";
        assert!(matches!(printable(table), Cow::Borrowed(shown) if shown == table));
        assert_eq!(printable("x\u{1b}[2Jy\r\n\u{202e}z\n"), "x\\u{1b}[2Jy\\r\n\\u{202e}z\n");
    }
}
