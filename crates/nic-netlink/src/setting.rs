//! What is known of a value that was looked for.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What is known of a value that was looked for: one of four answers.
///
/// There is no `==`, and none for what contains one: that two values could not be read does not make them the same. How two of them
/// stand to each other is for [`Setting::against`] to say.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Setting<T> {
    /// There is no such thing: the device or its driver does not have it. What cannot be reported cannot be given, and there is nothing
    /// to restore.
    #[serde(alias = "unsupported")]
    NotThere,
    /// It is there, and holds what stands for "nobody has set it".
    NotSet,
    /// The value.
    Set(T),
    /// It could not be read. It may be there, and be set.
    NotKnown(Unread),
}

/// Why a value is not known.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema, thiserror::Error)]
#[serde(deny_unknown_fields)]
#[error("{why}")]
pub struct Unread {
    /// The reason, in one line.
    why: String,
    /// Whether it was taken into account that it is not known: what it was is then lost, and said to be. It is no fault of a restore.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    accepted: bool,
}

impl Unread {
    /// Not known for this reason.
    pub fn because(why: impl Into<String>) -> Self {
        Self { why: why.into(), accepted: false }
    }

    /// Not known because of an error, with its causes.
    #[must_use]
    pub fn of(error: &dyn std::error::Error) -> Self {
        Self::because(nic_host::error_chain(error))
    }

    /// The same, taken into account.
    #[must_use]
    pub fn accepted(self) -> Self {
        Self { accepted: true, ..self }
    }

    /// Whether it was taken into account.
    #[must_use]
    pub fn is_accepted(&self) -> bool {
        self.accepted
    }
}

/// How a saved value and a found one stand to each other.
#[derive(Debug)]
pub enum Agreement<'a, T> {
    /// Both are known, and the same. Nothing is lost either where nobody had set what is not there now.
    Same,
    /// Both are known, and differ.
    Differs {
        /// The saved value; `None` where it was not set.
        saved: Option<&'a T>,
        /// The found value; `None` where it is not set.
        found: Option<&'a T>,
    },
    /// It was not there: nothing could be lost.
    WasNotThere,
    /// It was set, and is not there now.
    IsNotThere {
        /// The saved value.
        saved: &'a T,
    },
    /// What was saved is known, and what is now is not.
    FoundNotKnown(&'a Unread),
    /// What was saved is not known.
    SavedNotKnown(&'a Unread),
}

impl<T> Setting<T> {
    /// The answer of a reading that may have found nothing of the kind.
    pub fn read<E: std::error::Error>(reading: Result<Option<T>, E>) -> Self {
        match reading {
            Ok(Some(value)) => Self::Set(value),
            Ok(None) => Self::NotThere,
            Err(error) => Self::NotKnown(Unread::of(&error)),
        }
    }

    /// The value, where there is one.
    pub fn as_set(&self) -> Option<&T> {
        match self {
            Self::Set(value) => Some(value),
            Self::NotThere | Self::NotSet | Self::NotKnown(_) => None,
        }
    }

    /// The value, where there is one, to be changed.
    pub fn as_set_mut(&mut self) -> Option<&mut T> {
        match self {
            Self::Set(value) => Some(value),
            Self::NotThere | Self::NotSet | Self::NotKnown(_) => None,
        }
    }

    /// Whether it is known that there is such a thing, set or not.
    pub fn is_there(&self) -> bool {
        matches!(self, Self::NotSet | Self::Set(_))
    }

    /// Why it is not known; `None` where it is.
    pub fn unread(&self) -> Option<&Unread> {
        match self {
            Self::NotKnown(unread) => Some(unread),
            Self::NotThere | Self::NotSet | Self::Set(_) => None,
        }
    }
}

impl<T: PartialEq> Setting<T> {
    /// How this saved value stands to the one that is found `now`. Nothing else compares two:
    ///
    /// ```compile_fail,E0369
    /// use nic_netlink::Setting;
    /// let (one, other) = (Setting::Set(1), Setting::Set(1));
    /// assert!(one == other);
    /// ```
    pub fn against<'a>(&'a self, now: &'a Self) -> Agreement<'a, T> {
        match (self, now) {
            (Self::NotKnown(unread), _) => Agreement::SavedNotKnown(unread),
            (_, Self::NotKnown(unread)) => Agreement::FoundNotKnown(unread),
            (Self::NotThere, _) => Agreement::WasNotThere,
            (Self::NotSet, Self::NotThere | Self::NotSet) => Agreement::Same,
            (Self::Set(saved), Self::NotThere) => Agreement::IsNotThere { saved },
            (Self::Set(saved), Self::Set(found)) if saved == found => Agreement::Same,
            (saved, found) => Agreement::Differs { saved: saved.as_set(), found: found.as_set() },
        }
    }
}

impl<T: fmt::Display> fmt::Display for Setting<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotThere => f.write_str("unsupported"),
            Self::NotSet => f.write_str("not set"),
            Self::Set(value) => value.fmt(f),
            Self::NotKnown(unread) => write!(f, "unknown: {unread}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn unread() -> Setting<u32> {
        Setting::NotKnown(Unread::because("the device is in error"))
    }

    #[test]
    fn what_is_not_known_is_never_the_same() {
        let known = [Setting::NotThere, Setting::NotSet, Setting::Set(1)];
        for known in &known {
            assert!(matches!(known.against(&unread()), Agreement::FoundNotKnown(_)), "{known}");
            assert!(matches!(unread().against(known), Agreement::SavedNotKnown(_)), "{known}");
        }
        assert!(matches!(unread().against(&unread()), Agreement::SavedNotKnown(_)));
    }

    #[test]
    fn what_is_known_is_compared() {
        let agreement = |saved: Setting<u32>, found: Setting<u32>| match saved.against(&found) {
            Agreement::Same => "same".to_owned(),
            Agreement::Differs { saved, found } => format!("{saved:?} {found:?}"),
            Agreement::WasNotThere => "was not there".to_owned(),
            Agreement::IsNotThere { saved } => format!("{saved} is not there"),
            Agreement::FoundNotKnown(_) | Agreement::SavedNotKnown(_) => "not known".to_owned(),
        };
        use Setting::{NotSet, NotThere, Set};
        assert_eq!(agreement(Set(1), Set(1)), "same");
        assert_eq!(agreement(NotSet, NotSet), "same");
        assert_eq!(agreement(NotSet, NotThere), "same");
        assert_eq!(agreement(Set(1), Set(2)), "Some(1) Some(2)");
        assert_eq!(agreement(NotSet, Set(2)), "None Some(2)");
        assert_eq!(agreement(Set(1), NotSet), "Some(1) None");
        assert_eq!(agreement(Set(1), NotThere), "1 is not there");
        for found in [NotThere, NotSet, Set(2)] {
            assert_eq!(agreement(NotThere, found), "was not there");
        }
    }

    #[test]
    fn each_answer_has_a_form_and_the_earlier_one_is_read() {
        let forms = [
            (Setting::NotThere, json!("not_there")),
            (Setting::NotSet, json!("not_set")),
            (Setting::Set(7), json!({"set": 7})),
            (unread(), json!({"not_known": {"why": "the device is in error"}})),
            (
                Setting::NotKnown(Unread::because("gone").accepted()),
                json!({"not_known": {"why": "gone", "accepted": true}}),
            ),
        ];
        for (setting, form) in forms {
            assert_eq!(serde_json::to_value(&setting).unwrap(), form);
            let read: Setting<u32> = serde_json::from_value(form.clone()).unwrap();
            assert_eq!(serde_json::to_value(&read).unwrap(), form);
        }
        let read: Setting<u32> = serde_json::from_value(json!("unsupported")).unwrap();
        assert!(matches!(read, Setting::NotThere));
    }
}
