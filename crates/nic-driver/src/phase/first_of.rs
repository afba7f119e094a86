//! Several reasons in one sentence.

use std::fmt;

/// The first of them, and how many more there are; `None` of none. All of them are in what the command shows.
pub(super) fn first_of(
    what: &str,
    mut reasons: impl ExactSizeIterator<Item = impl fmt::Display>,
) -> Option<String> {
    let first = reasons.next()?;
    Some(match reasons.len() {
        0 => format!("{what}: {first}"),
        more => format!("{what}: {first}; and {more} more"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_and_how_many_more() {
        for (reasons, expected) in [
            (&[][..], None),
            (&["a"], Some("in the way: a")),
            (&["a", "b", "c"], Some("in the way: a; and 2 more")),
        ] {
            assert_eq!(first_of("in the way", reasons.iter()).as_deref(), expected);
        }
    }
}
