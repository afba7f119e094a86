//! What somebody has attached to links within the kernel: queueing disciplines with their filters, and XDP programs.

use std::collections::BTreeMap;
use std::fmt;

use crate::IfIndex;
use crate::attributes::{Attributes, MalformedError};
use crate::change::RTM_NEWLINK;
use crate::connection::{RawMessage, RequestError};
use crate::netlink::{Netlink, VfMask, get_link};

const RTM_NEWQDISC: u16 = 36;
const RTM_GETQDISC: u16 = 38;
const TCA_KIND: u16 = 1;
const IFLA_XDP: u16 = 43;
const IFLA_XDP_PROG_ID: u16 = 4;
/// `struct tcmsg`: family and padding, link, handle, parent, information.
const TC_HEADER: usize = 20;
/// `struct ifinfomsg`: family and padding, link, flags, mask.
const LINK_HEADER: usize = 16;

/// Something that is attached to a link, and goes with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attached {
    /// A queueing discipline that somebody has made, with its classes and filters.
    Discipline {
        /// The kernel's word for its kind, such as `clsact`.
        kind: String,
        /// Its number, of which the upper half is its own.
        handle: u32,
    },
    /// An XDP program.
    XdpProgram {
        /// Its number.
        id: u32,
    },
}

impl fmt::Display for Attached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Discipline { kind, handle } => {
                write!(f, "the queueing discipline {kind} {:x}: with its filters", handle >> 16)
            }
            Self::XdpProgram { id } => write!(f, "the XDP program {id}"),
        }
    }
}

/// What is attached to links could not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read what is attached to the network interfaces")]
pub struct AttachedError {
    /// What went wrong with the request.
    #[from]
    source: RequestError,
}

impl Netlink {
    /// What somebody has attached to the links of this namespace. Programs of the hook `tcx` (6.6 and later) are not told over netlink.
    ///
    /// # Errors
    /// What the kernel said, or what of its answer is not understood.
    pub async fn attached(&self) -> Result<BTreeMap<IfIndex, Vec<Attached>>, AttachedError> {
        Ok(self.find_attached().await?)
    }

    async fn find_attached(&self) -> Result<BTreeMap<IfIndex, Vec<Attached>>, RequestError> {
        let question = RawMessage { kind: RTM_GETQDISC, body: vec![0; TC_HEADER] };
        let disciplines = self.connection.dump(question, self.deadline).await?;
        let links = self.connection.dump(get_link(None, VfMask::Without), self.deadline).await?;
        let mut attached: BTreeMap<IfIndex, Vec<Attached>> = BTreeMap::new();
        for message in disciplines.iter().chain(&links) {
            if let Some((link, what)) = decode(message)? {
                attached.entry(link).or_default().push(what);
            }
        }
        Ok(attached)
    }
}

/// `None` for a discipline that the kernel has made, whose handle is 0 (`qdisc_create_dflt` in `net/sched/sch_generic.c`; one that
/// somebody makes gets another, `qdisc_alloc_handle` in `sch_api.c` beside it), and for a link without a program.
fn decode(message: &RawMessage) -> Result<Option<(IfIndex, Attached)>, MalformedError> {
    let header = match message.kind {
        RTM_NEWQDISC => TC_HEADER,
        RTM_NEWLINK => LINK_HEADER,
        _ => return Ok(None),
    };
    let Some((header, attributes)) = message.body.split_at_checked(header) else { return Ok(None) };
    let number = |at: usize| {
        header.get(at..).and_then(|bytes| bytes.first_chunk()).copied().map_or(0, u32::from_ne_bytes)
    };
    let (link, attributes) = (IfIndex(number(4)), Attributes::new(attributes));
    let attached = if message.kind == RTM_NEWQDISC {
        let handle = number(8);
        let kind = attributes.find(TCA_KIND)?.map_or_else(String::new, |kind| kind.text());
        (handle != 0).then_some(Attached::Discipline { kind, handle })
    } else {
        let program = match attributes.find(IFLA_XDP)? {
            Some(xdp) => xdp.nested().find(IFLA_XDP_PROG_ID)?.map(|id| id.u32()).transpose()?,
            None => None,
        };
        program.filter(|id| *id != 0).map(|id| Attached::XdpProgram { id })
    };
    Ok(attached.map(|what| (link, what)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body::Body;

    fn discipline(kind: &str, handle: u32) -> RawMessage {
        let header = [[0; 4], 3_u32.to_ne_bytes(), handle.to_ne_bytes(), [0xff; 4], [0; 4]].concat();
        let mut body = Body::new(&header);
        body.text(TCA_KIND, kind);
        RawMessage { kind: RTM_NEWQDISC, body: body.finish() }
    }

    fn link(program: Option<u32>) -> RawMessage {
        let mut body = Body::new(&[[0; 4], 3_u32.to_ne_bytes(), [0; 4], [0; 4]].concat());
        body.nested(IFLA_XDP, |xdp| {
            xdp.u8(2, u8::from(program.is_some()));
            if let Some(id) = program {
                xdp.u32(IFLA_XDP_PROG_ID, id);
            }
        });
        RawMessage { kind: RTM_NEWLINK, body: body.finish() }
    }

    #[test]
    fn fault_3_4_what_somebody_has_attached_is_told_apart_from_what_the_kernel_has() {
        let told = |message| decode(&message).unwrap().map(|(link, what)| format!("{}: {what}", link.0));
        for (message, expected) in [
            (discipline("mq", 0), None),
            (
                discipline("clsact", 0xffff_0000),
                Some("3: the queueing discipline clsact ffff: with its filters"),
            ),
            (discipline("prio", 0x0001_0000), Some("3: the queueing discipline prio 1: with its filters")),
            (link(None), None),
            (link(Some(42)), Some("3: the XDP program 42")),
        ] {
            assert_eq!(told(message).as_deref(), expected);
        }
    }

    #[tokio::test]
    async fn fault_3_4_the_running_kernel_answers() {
        Netlink::connect().unwrap().attached().await.unwrap();
    }
}
