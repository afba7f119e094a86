use std::fmt;

use serde::{Serialize, Serializer};

/// What stands in place of a secret wherever text is written.
pub const HIDDEN: &str = "***";

/// A text that may be in no log, error, journal or plan: a token, a password, a URL with one.
///
/// Debug, Display and serialisation write [`HIDDEN`] in its place. It can be handed to a program
/// ([`crate::Invocation::secret_arg`], [`crate::Invocation::secret_env`]), and is then hidden in what that program prints, too.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// A text to be hidden.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the program that needs it and for nobody else.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// `text` with every occurrence of the secret hidden, trailing white space of the secret aside: programs do not print
    /// that. An empty secret is in no text.
    #[must_use]
    pub fn hide_in(&self, text: &str) -> String {
        match self.0.trim() {
            "" => text.to_owned(),
            secret => text.replace(secret, HIDDEN),
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(HIDDEN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_written_nowhere() {
        let token = Secret::new("C1xyz\n");
        assert_eq!(format!("{token} {token:?} {token:#?}"), "*** *** ***");
        assert_eq!(serde_json::to_string(&token).unwrap(), "\"***\"");
        assert_eq!(token.reveal(), "C1xyz\n");
        assert_eq!(token.hide_in("attach C1xyz: C1xyz is no token"), "attach ***: *** is no token");
        assert_eq!(Secret::new(" ").hide_in("a b"), "a b");
    }
}
