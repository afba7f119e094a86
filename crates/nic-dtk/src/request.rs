//! What the driver container wants built: the file that makes a done flag provable.

use std::fmt;

use nic_host::{DriverVersion, KernelRelease};
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::sources::SourceEntry;

/// The form of this crate's own files. A file of another form is not understood, and says so.
pub(crate) const SCHEMA: Schema = Schema;

/// The most bytes of a request: some hundred thousand files.
pub(crate) const LARGEST_REQUEST: u64 = 64 << 20;

/// The name of one setting up of the shared folder. Two of the same sources are two.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptId(String);

/// The number 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub(crate) struct Schema;

/// All that decides what comes out of a build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Inputs {
    pub(crate) version: DriverVersion,
    pub(crate) kernel: KernelRelease,
    pub(crate) architecture: String,
    /// The arguments of `install.pl`.
    pub(crate) arguments: Vec<String>,
    pub(crate) sources: Vec<SourceEntry>,
}

/// `request.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Request {
    pub(crate) schema: Schema,
    pub(crate) attempt: AttemptId,
    /// The digest of `inputs`.
    pub(crate) digest: Digest,
    pub(crate) inputs: Inputs,
}

impl AttemptId {
    /// One that nobody has had.
    pub(crate) fn new() -> std::io::Result<Self> {
        let mut bytes = [0_u8; 16];
        rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
        Ok(Self(hex::encode(bytes)))
    }
}

impl fmt::Display for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Inputs {
    pub(crate) fn digest(&self) -> Result<Digest, serde_json::Error> {
        // The fields are always written in the same order, and nothing here is a map.
        Ok(Digest::of(&serde_json::to_vec(self)?))
    }
}

/// A file of another form.
#[derive(Debug, thiserror::Error)]
#[error("schema {0} is not known")]
pub(crate) struct UnknownSchema(u32);

impl TryFrom<u32> for Schema {
    type Error = UnknownSchema;

    fn try_from(number: u32) -> Result<Self, Self::Error> {
        if number == 1 { Ok(Self) } else { Err(UnknownSchema(number)) }
    }
}

impl From<Schema> for u32 {
    fn from(Schema: Schema) -> Self {
        1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::SourceContent;

    fn inputs() -> Inputs {
        Inputs {
            version: "25.10-1.2.8.0".parse().unwrap(),
            kernel: "5.14.0".parse().unwrap(),
            architecture: "x86_64".to_owned(),
            arguments: vec!["--a".to_owned(), "b".to_owned()],
            sources: vec![SourceEntry {
                path: "install.pl".to_owned(),
                content: SourceContent::File { size: 1, sha256: Digest::of(b"x"), executable: true },
            }],
        }
    }

    #[test]
    fn whatever_goes_into_a_build_changes_its_digest() {
        let digest = |change: fn(&mut Inputs)| {
            let mut inputs = inputs();
            change(&mut inputs);
            inputs.digest().unwrap()
        };
        let same = digest(|_| {});
        assert_eq!(same, inputs().digest().unwrap());
        for changed in [
            digest(|inputs| inputs.version = "25.10-1.2.8.1".parse().unwrap()),
            digest(|inputs| inputs.kernel = "5.14.1".parse().unwrap()),
            digest(|inputs| inputs.architecture = "aarch64".to_owned()),
            digest(|inputs| inputs.arguments = vec!["--a b".to_owned()]),
            digest(|inputs| inputs.sources[0].path = "install".to_owned()),
            digest(|inputs| {
                inputs.sources[0].content =
                    SourceContent::File { size: 1, sha256: Digest::of(b"x"), executable: false };
            }),
        ] {
            assert_ne!(changed, same);
        }
    }

    #[test]
    fn a_file_of_another_form_is_refused() {
        let request = Request {
            schema: SCHEMA,
            attempt: AttemptId::new().unwrap(),
            digest: inputs().digest().unwrap(),
            inputs: inputs(),
        };
        let text = serde_json::to_string(&request).unwrap();
        assert_eq!(serde_json::from_str::<Request>(&text).unwrap(), request);
        let other = text.replace("\"schema\":1", "\"schema\":2");
        let error = serde_json::from_str::<Request>(&other).unwrap_err().to_string();
        assert!(error.starts_with("schema 2 is not known"), "{error}");
        assert_ne!(AttemptId::new().unwrap(), AttemptId::new().unwrap());
    }
}
