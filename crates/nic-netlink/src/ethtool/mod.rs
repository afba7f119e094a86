//! What a driver lets one set of a network device, as `ethtool(8)` shows and sets it: the kernel's family `ethtool` of generic netlink.
//!
//! Each group of settings has one message to read it and one to change it, and what is read can be written again. The attributes are in
//! `include/uapi/linux/ethtool_netlink.h` (and `ethtool_netlink_generated.h` since 6.14), what the kernel makes of them in `net/ethtool/`.
//! The groups are data here (`group.rs`): which attributes can be set, and what ethtool(8) calls them.

mod bitset;
mod feature;
mod fits;
mod group;
mod outcome;
mod value;

use std::collections::BTreeMap;
use std::time::Duration;

use rustix::io::Errno;

use crate::IfIndex;
use crate::attributes::{Attributes, MalformedError};
use crate::connection::{ConnectError, RequestError};
use crate::generic::{Command, Generic};

pub use group::EthtoolGroup;
pub use value::{EthtoolSettings, EthtoolValue};

/// The version that ethtool(8) sends; the kernel looks at none.
const VERSION: u8 = 1;
/// The header is the first attribute of every message (`ETHTOOL_A_*_HEADER`).
const HEADER: u16 = 1;
const HEADER_DEV_INDEX: u16 = 1;
/// `NLA_F_NESTED`, which the kernel asks for in this family (`nla_parse_nested` is strict there).
const NESTED: u16 = 0x8000;

/// A connection to the kernel's ethtool, in the network namespace of the thread that opened it. Kernels before 5.6 have none.
///
/// Cloning is cheap, and the clones share the connection.
#[derive(Debug, Clone)]
pub struct Ethtool {
    generic: Generic,
}

/// A device's settings could not be read or changed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {verb} {group} of link {link}")]
pub struct EthtoolError {
    /// The link.
    pub link: IfIndex,
    /// The settings.
    pub group: EthtoolGroup,
    /// `read` or `change`.
    pub verb: &'static str,
    /// What went wrong with the request.
    #[source]
    pub source: RequestError,
}

impl EthtoolError {
    /// The kernel's errno, where it refused.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        self.source.errno()
    }
}

impl Ethtool {
    /// Opens a connection whose requests have a deadline of 10 s each.
    ///
    /// # Errors
    /// The socket could not be had.
    pub fn connect() -> Result<Self, ConnectError> {
        Ok(Self { generic: Generic::connect("ethtool")? })
    }

    /// The same connection, with another deadline for each request.
    #[must_use]
    pub fn with_deadline(&self, deadline: Duration) -> Self {
        Self { generic: self.generic.with_deadline(deadline) }
    }

    /// The settings of one group; `None` where the device's driver has none of them (EOPNOTSUPP).
    ///
    /// # Errors
    /// What the kernel said, ENODEV among it; or what of its answer is not understood.
    pub async fn settings(
        &self,
        link: IfIndex,
        group: EthtoolGroup,
    ) -> Result<Option<EthtoolSettings>, EthtoolError> {
        let error = |source| EthtoolError { link, group, verb: "read", source };
        let answer = match self.generic.ask(get(link, group), self.generic.deadline).await {
            Err(refused) if refused.errno() == Some(Errno::OPNOTSUPP) => return Ok(None),
            answer => answer.map_err(error)?,
        };
        let empty = || error(MalformedError("an empty answer".to_owned()).into());
        let attributes = answer.first().ok_or_else(empty)?;
        let settings = decode(group, attributes).map_err(|malformed| error(malformed.into()))?;
        Ok(Some(settings).filter(|settings| !settings.is_empty()))
    }

    /// The settings of one group, of all devices of this network namespace that have some, in one question.
    ///
    /// # Errors
    /// What the kernel said. One device whose driver fails ends the list (`ethnl_default_dumpit` in `net/ethtool/netlink.c`): then each is
    /// to be asked alone.
    pub async fn settings_of_all(
        &self,
        group: EthtoolGroup,
    ) -> Result<BTreeMap<IfIndex, EthtoolSettings>, RequestError> {
        let answer = match self.generic.list(Command::new(group.form().get, VERSION)).await {
            // Older than the group.
            Err(refused) if refused.errno() == Some(Errno::OPNOTSUPP) => Vec::new(),
            answer => answer?,
        };
        let mut all = BTreeMap::new();
        for attributes in answer {
            let settings = decode(group, &attributes)?;
            if !settings.is_empty() {
                all.insert(link_of(&attributes)?, settings);
            }
        }
        Ok(all)
    }

    /// Changes settings of one group; the others of the group stay as they are.
    ///
    /// Most drivers take the link down for a moment to change channels, rings or private flags.
    ///
    /// # Errors
    /// What the kernel said, with its sentence where it has one. Nothing of the group is changed then, features excepted: what the
    /// driver refuses of them stays as it was, and is no error (`ethnl_set_features` in `net/ethtool/features.c`).
    pub async fn change(
        &self,
        link: IfIndex,
        group: EthtoolGroup,
        settings: &EthtoolSettings,
        deadline: Duration,
    ) -> Result<(), EthtoolError> {
        tracing::debug!(%link, %group, %settings, "change settings");
        let changed = self.generic.ask(set(link, group, settings), deadline).await;
        changed.map(drop).map_err(|source| EthtoolError { link, group, verb: "change", source })
    }
}

fn get(link: IfIndex, group: EthtoolGroup) -> Command {
    about(link, group.form().get)
}

fn set(link: IfIndex, group: EthtoolGroup, settings: &EthtoolSettings) -> Command {
    let form = group.form();
    let mut command = about(link, form.set);
    for field in form.fields {
        if let Some(value) = settings.get(field.name) {
            field.write(value, command.attributes());
        }
    }
    command
}

fn about(link: IfIndex, command: u8) -> Command {
    let mut command = Command::new(command, VERSION);
    command.attributes().nested(HEADER | NESTED, |header| {
        header.u32(HEADER_DEV_INDEX, link.0);
    });
    command
}

/// Which link an answer is about.
fn link_of(attributes: &[u8]) -> Result<IfIndex, MalformedError> {
    let header = Attributes::new(attributes).find(HEADER)?;
    let index = header.map(|header| header.nested().find(HEADER_DEV_INDEX)).transpose()?.flatten();
    let index = index.ok_or_else(|| MalformedError("settings of no link".to_owned()))?;
    index.u32().map(IfIndex)
}

fn decode(group: EthtoolGroup, attributes: &[u8]) -> Result<EthtoolSettings, MalformedError> {
    if group == EthtoolGroup::Features {
        return feature::decode(attributes);
    }
    let mut settings = EthtoolSettings::default();
    for attribute in Attributes::new(attributes) {
        let attribute = attribute?;
        let field = group.form().fields.iter().find(|field| field.number == attribute.kind);
        if let Some(field) = field
            && let Some(value) = field.read(&attribute)?
        {
            settings.set(field.name, value);
        }
    }
    outcome::take_out(group, &mut settings);
    Ok(settings)
}

#[cfg(test)]
#[cfg(target_endian = "little")]
mod tests {
    use super::*;
    use crate::connection::{captured, wire};

    const CAPTURE: &str = include_str!("../../tests/ethtool/changes.txt");
    const FAMILY: u16 = 0x14;

    fn settings(values: &[(&'static str, EthtoolValue)]) -> EthtoolSettings {
        let mut settings = EthtoolSettings::default();
        for (name, value) in values {
            settings.set(name, value.clone());
        }
        settings
    }

    fn bits(names: &[(&str, bool)]) -> EthtoolValue {
        EthtoolValue::Bits(names.iter().map(|(name, on)| ((*name).to_owned(), *on)).collect())
    }

    /// The tool goes by the link's name where this goes by its index, and writes what it is told in the order of its arguments. So the header is
    /// taken off both, and the lines of the capture have their arguments in the order of the attributes.
    #[test]
    fn the_messages_are_those_of_the_ethtool_tool() {
        use EthtoolValue::{Number, Switch};
        let cases = [
            (
                "-G v0 rx 5 tx-push on",
                EthtoolGroup::Rings,
                settings(&[("rx", Number(5)), ("tx-push", Switch(true))]),
            ),
            (
                "-L v0 rx 2 combined 3",
                EthtoolGroup::Channels,
                settings(&[("rx", Number(2)), ("combined", Number(3))]),
            ),
            (
                "-C v0 rx-usecs 7 adaptive-rx on",
                EthtoolGroup::Coalesce,
                settings(&[("rx-usecs", Number(7)), ("adaptive-rx", Switch(true))]),
            ),
            (
                "-A v0 autoneg off rx on tx off",
                EthtoolGroup::Pause,
                settings(&[("autoneg", Switch(false)), ("rx", Switch(true)), ("tx", Switch(false))]),
            ),
            (
                "--set-priv-flags v0 foo on",
                EthtoolGroup::PrivateFlags,
                settings(&[("flags", bits(&[("foo", true)]))]),
            ),
            (
                "--set-fec v0 encoding rs",
                EthtoolGroup::Fec,
                settings(&[
                    ("modes", EthtoolValue::Names(["RS".to_owned()].into())),
                    ("auto", Switch(false)),
                ]),
            ),
            (
                "--set-eee v0 eee on tx-timer 6",
                EthtoolGroup::Eee,
                settings(&[("eee", Switch(true)), ("tx-timer", Number(6))]),
            ),
            (
                "-s v0 autoneg off speed 100 duplex full",
                EthtoolGroup::LinkModes,
                settings(&[("autoneg", Switch(false)), ("speed", Number(100)), ("duplex", Number(1))]),
            ),
            (
                "-K v0 rx-gro off",
                EthtoolGroup::Features,
                settings(&[("features", bits(&[("rx-gro", false)]))]),
            ),
        ];
        assert_eq!(cases.len(), CAPTURE.lines().filter(|line| line.contains(" => ")).count());
        for (words, group, settings) in cases {
            let ours = wire(set(IfIndex(7), group, &settings).to(FAMILY), netlink_packet_core::NLM_F_ACK);
            let theirs = captured(CAPTURE, &format!("ethtool {words}"));
            assert_eq!(hex::encode(behind_header(&ours)), hex::encode(behind_header(&theirs)), "{words}");
            assert_eq!(ours[16..20], theirs[16..20], "{words}: the command");
        }
    }

    /// Everything behind the netlink header, the generic one, and the attribute that says which link it is about.
    fn behind_header(message: &[u8]) -> &[u8] {
        let header = usize::from(u16::from_ne_bytes([message[20], message[21]])).next_multiple_of(4);
        &message[20 + header..]
    }

    #[tokio::test]
    async fn the_running_kernel_tells_the_settings_of_the_loopback_device() {
        let ethtool = Ethtool::connect().unwrap();
        let loopback = IfIndex(1);
        let features = ethtool.settings(loopback, EthtoolGroup::Features).await.unwrap().unwrap();
        assert!(
            matches!(features.get("features"), Some(EthtoolValue::Bits(bits)) if bits.contains_key("tx-udp-segmentation"))
        );
        let all = ethtool.settings_of_all(EthtoolGroup::Features).await.unwrap();
        assert_eq!(all.get(&loopback), Some(&features));
        assert!(ethtool.settings(loopback, EthtoolGroup::Rings).await.unwrap().is_none());
        let error = ethtool.settings(IfIndex(0x7fff_fff0), EthtoolGroup::Rings).await.unwrap_err();
        assert_eq!(error.errno(), Some(Errno::NODEV));
        assert_eq!(error.to_string(), "cannot read ring sizes of link 2147483632");
    }
}
