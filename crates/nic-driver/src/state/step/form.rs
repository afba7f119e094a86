//! A step as it stands in JSON: its text, and beside it the data, which earlier versions pass over.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use super::{Step, old_text};
use crate::state::named::Named;

/// The two fields of a step.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct StepForm {
    /// For people, and for a version that knows nothing else.
    step: String,
    /// The step. A version that told the text alone wrote none, and a path that is no UTF-8 cannot be in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    does: Option<Value>,
}

impl StepForm {
    /// The form of a step.
    pub(crate) fn of(step: &Named<Step>) -> Self {
        let does = step.known().and_then(|step| serde_json::to_value(step).ok());
        Self { step: step.to_string(), does }
    }

    /// The data, where there is any.
    pub(crate) fn data(self) -> Option<Value> {
        self.does
    }

    /// The step: by its data, where there is any, and else by the text of the time when there was none. Whatever this version does not
    /// know is a text.
    fn into_step(self) -> Named<Step> {
        let known = match self.does {
            Some(does) => serde_json::from_value(does).ok(),
            None => old_text::of_text(&self.step),
        };
        known.map_or(Named::Told(self.step), Named::Known)
    }
}

/// For `#[serde(flatten, with = …)]`.
pub(crate) fn serialize<S: Serializer>(step: &Named<Step>, serializer: S) -> Result<S::Ok, S::Error> {
    StepForm::of(step).serialize(serializer)
}

/// For `#[serde(flatten, with = …)]`.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Named<Step>, D::Error> {
    StepForm::deserialize(deserializer).map(StepForm::into_step)
}
