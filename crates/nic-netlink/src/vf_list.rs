//! What a PF's driver says of each of its VFs.

use std::collections::BTreeMap;

use nic_host::Host;
use serde::Deserialize;

use crate::attributes::MalformedError;
use crate::connection::RawMessage;
use crate::decode::{IFLA_ADDRESS, LinkHeader};
use crate::links::{RecordedLinksError, recording};
use crate::{IfIndex, Setting, VfAttributes, decode_vf};

const IFLA_NUM_VF: u16 = 21;
const IFLA_VFINFO_LIST: u16 = 22;

/// What a PF's driver says of its VFs, by number (`IFLA_VFINFO_LIST`).
///
/// A VF can be missing from it: the kernel leaves one out whose driver answers the question with an error (`rtnl_fill_vfinfo` in
/// `net/core/rtnetlink.c`). Such a VF is not one of which nothing is set: what is set is not known.
#[derive(Debug, Clone, Default)]
pub struct VfList {
    /// How many VFs the device has (`IFLA_NUM_VF`).
    count: u32,
    /// `None` where the driver describes no VFs (no `ndo_get_vf_config`), as a representor's.
    vfs: Option<BTreeMap<u32, Result<VfAttributes, MalformedError>>>,
}

/// What is set for a VF is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnreadVf {
    /// It is not in the list.
    #[error("the kernel left VF {vf} out of its list of VFs: the driver could not tell what is set for it")]
    LeftOut {
        /// The VF's number on its PF.
        vf: u32,
    },
    /// Its entry in the list is not understood.
    #[error("what the kernel says of VF {vf} is not understood")]
    Malformed {
        /// The VF's number on its PF.
        vf: u32,
        /// What is wrong with it.
        #[source]
        source: MalformedError,
    },
}

impl VfList {
    /// What the driver says of VF number `vf`; not there where it describes no VFs at all.
    #[must_use]
    pub fn setting(&self, vf: u32) -> Setting<VfAttributes> {
        Setting::read(self.get(vf).map(Option::<&VfAttributes>::cloned))
    }

    /// What the driver says of VF number `vf`; `None` where it describes no VFs at all.
    ///
    /// # Errors
    /// Why it is not known what is set for this one.
    pub fn get(&self, vf: u32) -> Result<Option<&VfAttributes>, UnreadVf> {
        let Some(vfs) = &self.vfs else { return Ok(None) };
        match vfs.get(&vf) {
            Some(Ok(attributes)) => Ok(Some(attributes)),
            Some(Err(source)) => Err(UnreadVf::Malformed { vf, source: source.clone() }),
            None => Err(UnreadVf::LeftOut { vf }),
        }
    }

    /// How many VFs the device has, whether they are in the list or not.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }

    /// The VFs of which something is known, by number.
    pub fn iter(&self) -> impl Iterator<Item = &VfAttributes> {
        self.vfs.iter().flat_map(BTreeMap::values).filter_map(|vf| vf.as_ref().ok())
    }

    /// The list of the link `pf` among these answers to `RTM_GETLINK`.
    pub(crate) fn of_messages<'m>(
        messages: impl Iterator<Item = &'m RawMessage>,
        pf: IfIndex,
    ) -> Result<Option<Self>, MalformedError> {
        for message in messages {
            if LinkHeader::split(&message.body)?.0.index == pf {
                return Self::decode(&message.body).map(Some);
            }
        }
        Ok(None)
    }

    /// From the bytes of `RTM_NEWLINK`.
    pub(crate) fn decode(body: &[u8]) -> Result<Self, MalformedError> {
        let (header, attributes) = LinkHeader::split(body)?;
        let mut address_length = 0;
        let mut list = Self::default();
        for attribute in attributes {
            let attribute = attribute?;
            match attribute.kind {
                IFLA_ADDRESS => address_length = attribute.value.len(),
                // It stands in front of the list (`rtnl_fill_vf`).
                IFLA_NUM_VF => list.count = attribute.u32()?,
                IFLA_VFINFO_LIST => {
                    let entries = decode_vf::list(&attribute, list.count);
                    let vfs = decode_vf::vfs(entries, header.layer.into(), address_length)?;
                    list.vfs = Some(vfs.into_iter().collect());
                    // Its length may be wrong by a multiple of 65536, and nothing behind it is asked for.
                    break;
                }
                _ => {}
            }
        }
        Ok(list)
    }

    /// What was recorded in a tree that stands for a machine: the `num_vf` and `vfs` of the links in its `/netlink/links.json`.
    ///
    /// # Errors
    /// Why the recording could not be had.
    pub fn recorded(host: &Host) -> Result<BTreeMap<IfIndex, Self>, RecordedLinksError> {
        let links: Vec<RecordedVfs> = recording(host)?;
        Ok(links.into_iter().map(|link| (link.index, link.into())).collect())
    }
}

/// Of a link in a recording, its VFs.
#[derive(Deserialize)]
struct RecordedVfs {
    index: IfIndex,
    #[serde(default)]
    num_vf: u32,
    #[serde(default)]
    vfs: Vec<VfAttributes>,
}

impl From<RecordedVfs> for VfList {
    fn from(link: RecordedVfs) -> Self {
        let vfs: BTreeMap<_, _> = link.vfs.into_iter().map(|vf| (vf.index, Ok(vf))).collect();
        Self { count: link.num_vf, vfs: (!vfs.is_empty()).then_some(vfs) }
    }
}

// The captures are of a little-endian machine.
#[cfg(test)]
#[cfg(target_endian = "little")]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::connection::messages;

    const IGB: &str = include_str!("../tests/captures/igb-pf.hex");
    const NETDEVSIM: &str = include_str!("../tests/captures/netdevsim-pf.hex");
    const REPRESENTOR: &str = include_str!("../tests/captures/netdevsim-representor.hex");

    fn captured(capture: &str) -> VfList {
        let messages = messages(capture);
        VfList::decode(&messages.first().unwrap().body).unwrap()
    }

    /// These fields of each VF, as they stand in a snapshot.
    fn told(list: &VfList, fields: &[&str]) -> Vec<Vec<Value>> {
        let vf = |vf| {
            let mut vf = serde_json::to_value(vf).unwrap();
            fields.iter().map(|field| vf[field].take()).collect()
        };
        list.iter().map(vf).collect()
    }

    #[test]
    fn a_pf_of_igb_with_three_vfs() {
        let list = captured(IGB);
        let tag = json!({"id": 100, "qos": 3, "protocol": "802.1q"});
        let expected = json!({
            "index": 0, "address": "02:00:00:00:0a:01", "mac": {"set": "02:00:00:00:0a:01"}, "vlan": {"set": tag}, "vlans": [tag],
            "spoof_check": {"set": true}, "trust": {"set": false}, "link_state": "auto", "min_tx_rate": "not_set",
            "max_tx_rate": "not_set",
            // igb answers neither this nor GUIDs.
            "query_rss": "not_there", "node_guid": "not_there", "port_guid": "not_there",
        });
        assert_eq!(list.count(), 3);
        assert_eq!(serde_json::to_value(list.get(0).unwrap()).unwrap(), expected);
        let fields = ["index", "mac", "spoof_check", "trust", "min_tx_rate", "max_tx_rate"];
        let (unset, on, off) = (json!("not_set"), json!({"set": true}), json!({"set": false}));
        let second = [json!(1), unset.clone(), off, on, unset, json!({"set": 100})];
        assert_eq!(told(&list, &fields)[1], second);
        let tag = json!({"set": {"id": 7, "qos": 0, "protocol": "802.1q"}});
        assert_eq!(told(&list, &["vlan"])[1..], [[json!("not_set")], [tag]]);
    }

    #[test]
    fn a_port_of_netdevsim_with_four_vfs() {
        let list = captured(NETDEVSIM);
        let tag =
            |id: u16, qos: u8, protocol: &str| json!({"set": {"id": id, "qos": qos, "protocol": protocol}});
        let (unset, rate) = (json!("not_set"), |mbit: u32| json!({"set": mbit}));
        let expected = [
            [tag(5, 2, "802.1ad"), json!("auto"), unset.clone(), unset.clone(), json!({"set": false})],
            [tag(0, 4, "802.1q"), json!("auto"), unset.clone(), unset.clone(), json!({"set": false})],
            [unset.clone(), json!("enable"), rate(200), rate(1000), json!({"set": false})],
            [unset.clone(), json!("disable"), unset.clone(), unset, json!({"set": true})],
        ];
        assert_eq!(told(&list, &["vlan", "link_state", "min_tx_rate", "max_tx_rate", "query_rss"]), expected);
    }

    #[test]
    fn a_representor_counts_the_vfs_of_its_device_and_describes_none() {
        let list = captured(REPRESENTOR);
        assert_eq!((list.count(), list.iter().count()), (4, 0));
        assert!(list.get(0).unwrap().is_none());
    }

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        // The length wraps, as the kernel's does.
        let length = (value.len() + 4) & 0xffff;
        let mut bytes = [u16::try_from(length).unwrap().to_ne_bytes(), kind.to_ne_bytes()].concat();
        bytes.extend_from_slice(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    /// The list of a PF with `count` VFs and these entries, with an attribute behind it.
    fn list(layer: u16, address: &[u8], count: u32, entries: &[u8]) -> VfList {
        let mut body = vec![0; 16];
        body[2..4].copy_from_slice(&layer.to_ne_bytes());
        body[4] = 7;
        body.extend(attribute(IFLA_ADDRESS, address));
        body.extend(attribute(IFLA_NUM_VF, &words(&[count])));
        body.extend(attribute(IFLA_VFINFO_LIST, entries));
        body.extend(attribute(38, b"p0\0"));
        VfList::decode(&body).unwrap()
    }

    fn vf_mac(vf: u32, mac: &[u8]) -> Vec<u8> {
        let mut value = words(&[vf]);
        value.extend_from_slice(mac);
        value.resize(36, 0);
        attribute(1, &value)
    }

    #[test]
    fn what_the_driver_did_not_fill_in_is_not_there_and_not_off() {
        for (value, expected) in
            [(u32::MAX, json!("not_there")), (0, json!({"set": false})), (1, json!({"set": true}))]
        {
            let switches = [4, 9, 7].map(|kind| attribute(kind, &words(&[0, value])));
            let vf = attribute(1, &[vec![vf_mac(0, &[])], switches.to_vec()].concat().concat());
            let list = list(1, &[2; 6], 1, &vf);
            let told = told(&list, &["spoof_check", "trust", "query_rss"]);
            assert_eq!(told, [[expected.clone(), expected.clone(), expected]], "{value}");
        }
    }

    #[test]
    fn on_infiniband_a_vf_has_guids_and_no_mac() {
        let guid = |kind, guid: u64| attribute(kind, &[words(&[2, 0]), guid.to_ne_bytes().to_vec()].concat());
        let vf = [vf_mac(2, &[0xab; 20]), guid(10, 0x0011_2233_4455_6677), guid(11, 0)].concat();
        let list = list(32, &[0xab; 20], 1, &attribute(1, &vf));
        assert_eq!(list.get(2).unwrap().unwrap().address.0, [0xab; 20]);
        let expected = [json!("not_there"), json!({"set": "00:11:22:33:44:55:66:77"}), json!("not_set")];
        assert_eq!(told(&list, &["mac", "node_guid", "port_guid"]), [expected]);
    }

    /// Entries as long as the kernel's without statistics, of these VFs.
    fn entries(vfs: impl Iterator<Item = u32>) -> Vec<u8> {
        vfs.flat_map(|vf| {
            let list = attribute(12, &attribute(1, &words(&[vf, 0, 0, 0x81])));
            let padding = attribute(13, &[0xff; 32]);
            let attributes = [vf_mac(vf, &[2, 0, 0, 0, 1, 1]), padding, list];
            attribute(1, &attributes.concat())
        })
        .collect()
    }

    #[test]
    fn a_list_beyond_64_kib_is_read_to_its_end() {
        for count in [1_u32, 400, 1000, 3000] {
            let list = list(1, &[2; 6], count, &entries(0..count));
            assert_eq!((list.count(), list.iter().count()), (count, usize::try_from(count).unwrap()));
            assert_eq!(list.iter().last().map(|vf| vf.index), Some(count - 1));
        }
    }

    #[test]
    fn fault_2_2_a_vf_that_the_kernel_leaves_out_is_not_one_of_which_nothing_is_set() {
        let list = list(1, &[2; 6], 4, &entries([0, 1, 3].into_iter()));
        assert!(list.get(3).unwrap().is_some());
        assert_eq!(list.get(2).unwrap_err(), UnreadVf::LeftOut { vf: 2 });
        assert_eq!(list.get(4).unwrap_err(), UnreadVf::LeftOut { vf: 4 });
    }

    #[test]
    fn an_odd_value_of_one_vf_is_no_other_vfs() {
        let odd = attribute(1, &[vf_mac(1, &[2; 6]), attribute(5, &words(&[1, 9]))].concat());
        let entries = [entries([0].into_iter()), odd, entries([2].into_iter())].concat();
        let list = list(1, &[2; 6], 3, &entries);
        assert_eq!(list.iter().map(|vf| vf.index).collect::<Vec<_>>(), [0, 2]);
        let error = list.get(1).unwrap_err();
        assert!(matches!(error, UnreadVf::Malformed { vf: 1, .. }), "{error}");
    }

    #[test]
    fn a_recording_holds_the_vfs_of_its_links() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("netlink")).unwrap();
        let links = json!([
            {"index": 1, "num_vf": 2, "vfs": [VfAttributes::new(1)]}, {"index": 2, "num_vf": 2, "vfs": []}, {"index": 3}
        ]);
        std::fs::write(dir.path().join("netlink/links.json"), links.to_string()).unwrap();
        let recorded = VfList::recorded(&Host::at(dir.path())).unwrap();
        assert!(matches!(recorded[&IfIndex(1)].get(1), Ok(Some(_))));
        assert!(matches!(recorded[&IfIndex(1)].get(0), Err(UnreadVf::LeftOut { vf: 0 })));
        assert!(matches!(recorded[&IfIndex(2)].get(0), Ok(None)), "a representor");
        assert_eq!(recorded[&IfIndex(3)].count(), 0);
    }

    proptest::proptest! {
        /// A capture with one byte changed: the likeliest way into the depths of the decoder.
        #[test]
        fn a_damaged_capture_is_a_list_or_an_error(position in 0_usize..1600, byte: u8) {
            let mut body = messages(IGB).remove(0).body;
            let position = position % body.len();
            body[position] = byte;
            let _ = VfList::decode(&body);
        }
    }
}
