/// `text` with at most `most` characters, and none that a terminal or a log would obey.
pub(crate) fn printable(text: &str, most: usize) -> String {
    let clean = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    let mut short: String = text.trim_end().chars().take(most).map(clean).collect();
    if text.trim_end().chars().nth(most).is_some() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_is_told_nothing() {
        assert_eq!(printable("CC [M] a.o\n", 100), "CC [M] a.o");
        assert_eq!(printable("\u{1b}]0;x\u{7}a\nb", 100), "\u{fffd}]0;x\u{fffd}a\u{fffd}b");
        assert_eq!(printable("abcdef", 3), "abc…");
    }
}
