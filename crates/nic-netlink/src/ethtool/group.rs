use std::fmt;

use serde::{Deserialize, Serialize};

use super::value::EthtoolValue;
use super::{bitset, feature};
use crate::HexBytes;
use crate::attributes::{Attribute, MalformedError};
use crate::body::Body;

/// A group of settings that are read and changed together, in the order in which they are given to a device: private flags decide what
/// others there are, and channels how many rings.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum EthtoolGroup {
    /// `ethtool --show-priv-flags`: switches of the driver's own.
    PrivateFlags,
    /// `ethtool -k`: offloads.
    Features,
    /// `ethtool -l`: how many channels (queues with an interrupt).
    Channels,
    /// `ethtool -g`: how many descriptors a queue has.
    Rings,
    /// `ethtool -c`: when an interrupt is raised.
    Coalesce,
    /// `ethtool --show-fec`: forward error correction.
    Fec,
    /// `ethtool DEV`: speed, duplex, and what is advertised.
    LinkModes,
    /// `ethtool -a`: pause frames.
    Pause,
    /// `ethtool --show-eee`: Energy-Efficient Ethernet.
    Eee,
    /// `ethtool DEV`: what wakes the machine.
    WakeOnLan,
    /// `ethtool --show-module`: the transceiver's power.
    Module,
    /// `ethtool DEV`: which messages the driver logs.
    MessageLevel,
}

/// The messages of a group.
pub(super) struct Form {
    /// `ETHTOOL_MSG_*_GET`.
    pub(super) get: u8,
    /// `ETHTOOL_MSG_*_SET`.
    pub(super) set: u8,
    /// What can be set, in the order in which it is written.
    pub(super) fields: &'static [Field],
}

/// An attribute that can be read and set.
pub(super) struct Field {
    pub(super) number: u16,
    /// What ethtool(8) calls it.
    pub(super) name: &'static str,
    pub(super) kind: Kind,
}

#[derive(Clone, Copy)]
pub(super) enum Kind {
    U8,
    U32,
    /// One byte, 0 or 1.
    Switch,
    /// Bits of which some can be changed.
    Bits,
    /// A set that is given as a whole.
    WholeBits,
    Bytes,
}

impl EthtoolGroup {
    /// All, in the order in which they are given to a device.
    pub const ALL: [Self; 12] = [
        Self::PrivateFlags,
        Self::Features,
        Self::Channels,
        Self::Rings,
        Self::Coalesce,
        Self::Fec,
        Self::LinkModes,
        Self::Pause,
        Self::Eee,
        Self::WakeOnLan,
        Self::Module,
        Self::MessageLevel,
    ];

    pub(super) fn form(self) -> &'static Form {
        match self {
            Self::PrivateFlags => &PRIVATE_FLAGS,
            Self::Features => &FEATURES,
            Self::Channels => &CHANNELS,
            Self::Rings => &RINGS,
            Self::Coalesce => &COALESCE,
            Self::Fec => &FEC,
            Self::LinkModes => &LINK_MODES,
            Self::Pause => &PAUSE,
            Self::Eee => &EEE,
            Self::WakeOnLan => &WAKE_ON_LAN,
            Self::Module => &MODULE,
            Self::MessageLevel => &MESSAGE_LEVEL,
        }
    }
}

impl fmt::Display for EthtoolGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PrivateFlags => "private flags",
            Self::Features => "offloads",
            Self::Channels => "channel counts",
            Self::Rings => "ring sizes",
            Self::Coalesce => "interrupt coalescing",
            Self::Fec => "forward error correction",
            Self::LinkModes => "link modes",
            Self::Pause => "pause frames",
            Self::Eee => "Energy-Efficient Ethernet",
            Self::WakeOnLan => "Wake-on-LAN",
            Self::Module => "transceiver power",
            Self::MessageLevel => "message level",
        })
    }
}

impl Field {
    /// The value; `None` where the kernel says that it does not know (`SPEED_UNKNOWN`, `DUPLEX_UNKNOWN`).
    pub(super) fn read(&self, attribute: &Attribute<'_>) -> Result<Option<EthtoolValue>, MalformedError> {
        Ok(match self.kind {
            Kind::U8 => Some(attribute.u8()?)
                .filter(|&byte| byte != u8::MAX)
                .map(|byte| EthtoolValue::Number(byte.into())),
            Kind::U32 => {
                Some(attribute.u32()?).filter(|&number| number != u32::MAX).map(EthtoolValue::Number)
            }
            Kind::Switch => Some(EthtoolValue::Switch(attribute.u8()? != 0)),
            Kind::Bits => Some(EthtoolValue::Bits(bitset::read(attribute)?)),
            Kind::WholeBits => {
                let bits = bitset::read(attribute)?;
                let names = bits.into_iter().filter(|(_, on)| *on).map(|(name, _)| name);
                Some(EthtoolValue::Names(names.collect()))
            }
            Kind::Bytes => Some(EthtoolValue::Bytes(HexBytes(attribute.value.to_vec()))),
        })
    }

    /// Writes a value. One of another form than this field has, as a file that was edited may hold, is left out.
    pub(super) fn write(&self, value: &EthtoolValue, body: &mut Body) {
        match (self.kind, value) {
            (Kind::U8, EthtoolValue::Number(number)) => {
                if let Ok(byte) = u8::try_from(*number) {
                    body.u8(self.number, byte);
                }
            }
            (Kind::U32, EthtoolValue::Number(number)) => {
                body.u32(self.number, *number);
            }
            (Kind::Switch, EthtoolValue::Switch(on)) => {
                body.u8(self.number, (*on).into());
            }
            (Kind::Bits, EthtoolValue::Bits(bits)) => bitset::write(bits, self.number, body),
            (Kind::WholeBits, EthtoolValue::Names(names)) => {
                bitset::write_whole(names, self.number, body);
            }
            (Kind::Bytes, EthtoolValue::Bytes(bytes)) => {
                body.bytes(self.number, &bytes.0);
            }
            _ => {}
        }
    }
}

const fn field(number: u16, name: &'static str, kind: Kind) -> Field {
    Field { number, name, kind }
}

const fn number(number: u16, name: &'static str) -> Field {
    field(number, name, Kind::U32)
}

const fn switch(number: u16, name: &'static str) -> Field {
    field(number, name, Kind::Switch)
}

static PRIVATE_FLAGS: Form = Form { get: 13, set: 14, fields: &[field(2, "flags", Kind::Bits)] };

static FEATURES: Form = Form { get: 11, set: 12, fields: &[field(feature::WANTED, "features", Kind::Bits)] };

static CHANNELS: Form = Form {
    get: 17,
    set: 18,
    fields: &[number(6, "rx"), number(7, "tx"), number(8, "other"), number(9, "combined")],
};

static RINGS: Form = Form {
    get: 15,
    set: 16,
    fields: &[
        number(6, "rx"),
        number(7, "rx-mini"),
        number(8, "rx-jumbo"),
        number(9, "tx"),
        number(10, "rx-buf-len"),
        field(11, "tcp-data-split", Kind::U8),
        number(12, "cqe-size"),
        switch(13, "tx-push"),
        switch(14, "rx-push"),
        number(15, "tx-push-buf-len"),
        number(17, "hds-thresh"),
    ],
};

static COALESCE: Form = Form {
    get: 19,
    set: 20,
    fields: &[
        number(2, "rx-usecs"),
        number(3, "rx-frames"),
        number(4, "rx-usecs-irq"),
        number(5, "rx-frames-irq"),
        number(6, "tx-usecs"),
        number(7, "tx-frames"),
        number(8, "tx-usecs-irq"),
        number(9, "tx-frames-irq"),
        number(10, "stats-block-usecs"),
        switch(11, "adaptive-rx"),
        switch(12, "adaptive-tx"),
        number(13, "pkt-rate-low"),
        number(14, "rx-usecs-low"),
        number(15, "rx-frame-low"),
        number(16, "tx-usecs-low"),
        number(17, "tx-frame-low"),
        number(18, "pkt-rate-high"),
        number(19, "rx-usecs-high"),
        number(20, "rx-frame-high"),
        number(21, "tx-usecs-high"),
        number(22, "tx-frame-high"),
        number(23, "sample-interval"),
        switch(24, "cqe-mode-tx"),
        switch(25, "cqe-mode-rx"),
        number(26, "tx-aggr-max-bytes"),
        number(27, "tx-aggr-max-frames"),
        number(28, "tx-aggr-time-usecs"),
    ],
};

static FEC: Form =
    Form { get: 29, set: 30, fields: &[field(2, "modes", Kind::WholeBits), switch(3, "auto")] };

static LINK_MODES: Form = Form {
    get: 4,
    set: 5,
    fields: &[
        switch(2, "autoneg"),
        field(3, "advertise", Kind::WholeBits),
        number(5, "speed"),
        field(6, "duplex", Kind::U8),
        number(9, "lanes"),
    ],
};

static PAUSE: Form =
    Form { get: 21, set: 22, fields: &[switch(2, "autoneg"), switch(3, "rx"), switch(4, "tx")] };

static EEE: Form = Form {
    get: 23,
    set: 24,
    fields: &[
        field(2, "advertise", Kind::WholeBits),
        switch(5, "eee"),
        switch(6, "tx-lpi"),
        number(7, "tx-timer"),
    ],
};

static WAKE_ON_LAN: Form =
    Form { get: 9, set: 10, fields: &[field(2, "wol", Kind::WholeBits), field(3, "sopass", Kind::Bytes)] };

static MODULE: Form = Form { get: 34, set: 35, fields: &[field(2, "power-mode-policy", Kind::U8)] };

static MESSAGE_LEVEL: Form = Form { get: 7, set: 8, fields: &[field(2, "msglvl", Kind::WholeBits)] };

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_groups_are_listed_in_the_order_in_which_they_are_given() {
        assert!(EthtoolGroup::ALL.is_sorted());
        for group in EthtoolGroup::ALL {
            let form = group.form();
            assert_eq!(form.set, form.get + 1, "{group}");
            assert!(form.fields.is_sorted_by_key(|field| field.number), "{group}");
        }
    }
}
