//! What `restore-sriov --output json` says of itself, for comparing it with what was seen.

use std::collections::BTreeMap;
use std::{fmt, fs};

use anyhow::{Context as _, ensure};
use nic_driver::Exit;
use nic_driver::state::StateStore;
use serde::Deserialize;
use serde_json::Value;

use crate::program::{NicDriver, Outcome, snapshot_of, store};

/// A restore, as the program tells it.
#[derive(Debug, Deserialize)]
pub(crate) struct Restored {
    outcome: Told,
}

#[derive(Debug, Deserialize)]
struct Told {
    vfs: Vec<ToldVf>,
    failures: Vec<ToldFailure>,
    differences: Vec<ToldDifference>,
}

#[derive(Debug, Deserialize)]
struct ToldVf {
    part: Value,
    verified: bool,
    retried: bool,
}

#[derive(Debug, Deserialize)]
struct ToldFailure {
    part: Value,
    step: String,
    cause: String,
}

/// A difference between the machine and the snapshot.
#[derive(Debug, Deserialize)]
pub(crate) struct ToldDifference {
    part: Value,
    pub(crate) attribute: String,
    saved: Value,
    found: Value,
    pub(crate) gravity: String,
}

/// A snapshot that was taken by hand, kept so that it can be owed again: a restore from it makes it a record.
#[derive(Debug)]
pub(crate) struct ByHand {
    store: StateStore,
    content: Vec<u8>,
}

impl ByHand {
    /// Keeps the one that is stored.
    pub(crate) fn keep(family: &str) -> anyhow::Result<Self> {
        let (store, file) = (store(family), snapshot_of(family));
        let content = fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
        Ok(Self { store, content })
    }

    /// Puts it in the place of a record. An armed one stays: a restore from it goes on.
    pub(crate) fn owe_again(&self) -> anyhow::Result<()> {
        if self.store.snapshot()?.context("there is no snapshot")?.is_armed() {
            return Ok(());
        }
        let file = self.store.snapshot_path();
        fs::write(&file, &self.content).with_context(|| format!("cannot write {}", file.display()))
    }
}

impl Restored {
    /// Runs `restore-sriov` for `family`, which must end with `exit`, and reads what it says.
    pub(crate) fn run(family: &str, arguments: &[&str], exit: Exit) -> anyhow::Result<(Self, Outcome)> {
        let words = ["--family", family, "--output", "json", "restore-sriov"];
        let outcome = NicDriver::bare(words.iter().chain(arguments)).quietly().run()?;
        let told = serde_json::from_str::<Self>(&outcome.stdout);
        let outcome = match (&told, outcome.is(exit)) {
            // The exit code alone would not tell what is wrong.
            (Ok(told), false) => {
                let told = told.to_string();
                outcome.expect(exit).context(told)?
            }
            _ => outcome.expect(exit)?,
        };
        let told =
            told.with_context(|| format!("the restore printed no such JSON: {}", outcome.stdout.trim()))?;
        Ok((told, outcome))
    }

    /// All differences.
    pub(crate) fn differences(&self) -> &[ToldDifference] {
        &self.outcome.differences
    }

    /// The PCI addresses of the VFs, and whether each was verified.
    pub(crate) fn verified(&self) -> BTreeMap<String, bool> {
        self.outcome.vfs.iter().map(|vf| (address(&vf.part), vf.verified)).collect()
    }

    /// Whether the VF at this address was probed a second time.
    pub(crate) fn retried(&self, vf: &str) -> bool {
        self.outcome.vfs.iter().any(|told| address(&told.part) == vf && told.retried)
    }

    /// An error unless exactly these VFs are told to be other than they were, and each with a reason that contains
    /// the words given with it.
    pub(crate) fn expect_failed(&self, expected: &[(&str, &str)]) -> anyhow::Result<()> {
        for (vf, verified) in self.verified() {
            let reason = expected.iter().find(|(failed, _)| *failed == vf).map(|(_, words)| *words);
            ensure!(verified == reason.is_none(), "VF {vf} is told to be verified: {verified}; {self}");
            let Some(words) = reason else { continue };
            let reasons = self.reasons(&vf);
            ensure!(
                reasons.contains(words),
                "the reason told for VF {vf} does not contain {words:?}: {reasons}"
            );
        }
        Ok(())
    }

    /// All that is told about a VF that is not what it was.
    fn reasons(&self, vf: &str) -> String {
        let failures = self.outcome.failures.iter().filter(|failure| address(&failure.part) == vf);
        let differences = self.outcome.differences.iter().filter(|difference| difference.address() == vf);
        let reasons: Vec<_> =
            failures.map(ToString::to_string).chain(differences.map(ToString::to_string)).collect();
        reasons.join("; ")
    }
}

impl ToldDifference {
    /// The PCI address of the VF, or else the whole description of the part.
    pub(crate) fn address(&self) -> String {
        address(&self.part)
    }
}

/// A VF's PCI address, where it has one.
fn address(part: &Value) -> String {
    match part.pointer("/vf/address").and_then(Value::as_str) {
        Some(address) => address.to_owned(),
        None => part.to_string(),
    }
}

impl fmt::Display for ToldFailure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {} failed: {}", address(&self.part), self.step, self.cause)
    }
}

impl fmt::Display for ToldDifference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { attribute, saved, found, gravity, .. } = self;
        write!(formatter, "{}: {attribute} was {saved}, is {found} ({gravity})", self.address())
    }
}

impl fmt::Display for Restored {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let failures = self.outcome.failures.iter().map(ToString::to_string);
        let differences = self.outcome.differences.iter().map(ToString::to_string);
        let all: Vec<_> = failures.chain(differences).collect();
        write!(
            formatter,
            "the restore tells: {}",
            if all.is_empty() { "nothing".to_owned() } else { all.join("; ") }
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOLD: &str = r#"{"outcome": {"steps": 3, "vfs": [
        {"part": {"vf": {"pf": "0000:01:00.0", "index": 0, "address": "0000:01:10.0"}}, "verified": true, "retried": false},
        {"part": {"vf": {"pf": "0000:01:00.0", "index": 1, "address": "0000:01:10.2"}}, "verified": false, "retried": true}],
        "failures": [{"part": {"vf": {"pf": "0000:01:00.0", "index": 1, "address": "0000:01:10.2"}},
            "step": "bind", "cause": "I/O error", "unsupported": false}],
        "differences": [{"part": {"pf": "0000:01:00.0"}, "attribute": "mtu", "saved": "1500", "found": "1400", "gravity": "wrong"}]}}"#;

    #[test]
    fn a_failed_vf_must_be_expected_with_its_reason() {
        let told: Restored = serde_json::from_str(TOLD).unwrap();
        told.expect_failed(&[("0000:01:10.2", "I/O error")]).unwrap();
        assert!(told.retried("0000:01:10.2") && !told.retried("0000:01:10.0"));
        for wrong in [&[][..], &[("0000:01:10.0", "")], &[("0000:01:10.2", "no memory")]] {
            told.expect_failed(wrong).unwrap_err();
        }
    }

    #[test]
    fn what_is_told_has_a_text() {
        let told: Restored = serde_json::from_str(TOLD).unwrap();
        assert_eq!(
            told.to_string(),
            "the restore tells: 0000:01:10.2: bind failed: I/O error; \
             {\"pf\":\"0000:01:00.0\"}: mtu was \"1500\", is \"1400\" (wrong)"
        );
    }
}
