use crate::text::in_one_line;

/// How many bytes of a message are told, such as an error with its causes. More is what somebody else has written.
pub const LONGEST_MESSAGE: usize = 4000;

/// An error with its causes, in one line of bounded length, whatever foreign text is in it. A cause whose text its error repeats
/// is not told twice.
#[must_use]
pub fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let message = error.to_string();
        // A transparent error repeats its cause's text.
        if !text.ends_with(&message) {
            text.push_str(": ");
            text.push_str(&message);
        }
        cause = error.source();
    }
    in_one_line(&text, LONGEST_MESSAGE)
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    enum Sample {
        #[error("outer")]
        Told(#[source] io::Error),
        #[error(transparent)]
        Transparent(#[from] io::Error),
        #[error("whole: {0}")]
        Repeats(#[source] io::Error),
    }

    #[test]
    fn each_cause_is_told_once() {
        let cause = || io::Error::other("inner");
        assert_eq!(error_chain(&Sample::Told(cause())), "outer: inner");
        assert_eq!(error_chain(&Sample::Transparent(cause())), "inner");
        assert_eq!(error_chain(&Sample::Repeats(cause())), "whole: inner");
        let hostile = format!("{}\n\u{1b}[31m", "x".repeat(1 << 20));
        assert!(error_chain(&Sample::Told(io::Error::other(hostile))).len() < 4100);
        assert_eq!(error_chain(&Sample::Told(io::Error::other("a\nb"))), "outer: a | b");
    }
}
