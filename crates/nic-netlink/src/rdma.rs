//! RDMA devices over netlink: which there are, and their names.
//!
//! What the messages are is in `include/uapi/rdma/rdma_netlink.h`, what the kernel makes of them in `drivers/infiniband/core/nldev.c`.

use std::time::Duration;

use nic_host::ForeignWord;
use rustix::io::Errno;

use crate::attributes::{Attributes, MalformedError};
use crate::body::Body;
use crate::connection::{ConnectError, Connection, RawMessage, RequestError};

const NETLINK_RDMA: isize = 20;
/// `RDMA_NL_GET_TYPE(RDMA_NL_NLDEV, …)`.
const CMD_GET: u16 = (5 << 10) + 1;
const CMD_SET: u16 = (5 << 10) + 2;
const ATTR_DEV_INDEX: u16 = 1;
const ATTR_DEV_NAME: u16 = 2;

/// A connection to the kernel's RDMA subsystem. To open one asks the kernel to load that, so it is for where there is an RDMA device.
#[derive(Debug, Clone)]
pub struct Rdma {
    connection: Connection,
    deadline: Duration,
}

/// An RDMA device could not be had, or did not get its name.
#[derive(Debug, thiserror::Error)]
pub enum RdmaError {
    /// There is no connection to the RDMA subsystem.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The kernel does not tell which devices there are.
    #[error("cannot list the RDMA devices")]
    List(#[source] RequestError),
    /// There is no device of this name.
    #[error("there is no RDMA device {}", ForeignWord(name))]
    Gone {
        /// The name.
        name: String,
    },
    /// The kernel does not give the name.
    #[error("cannot give the RDMA device {} the name {}", ForeignWord(from), ForeignWord(to))]
    Rename {
        /// The device's name.
        from: String,
        /// The name that it was to have.
        to: String,
        /// What the kernel said.
        #[source]
        source: RequestError,
    },
}

impl RdmaError {
    /// The kernel's errno, where it refused.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::List(source) | Self::Rename { source, .. } => source.errno(),
            Self::Connect(_) | Self::Gone { .. } => None,
        }
    }
}

impl Rdma {
    /// Opens a connection whose requests have this deadline each.
    ///
    /// # Errors
    /// The socket could not be had, as where the kernel has no RDMA.
    pub fn connect(deadline: Duration) -> Result<Self, ConnectError> {
        Ok(Self { connection: Connection::open(NETLINK_RDMA)?, deadline })
    }

    /// The RDMA devices of this network namespace, by the kernel's number.
    ///
    /// # Errors
    /// What the kernel said, or what of its answer is not understood.
    pub async fn devices(&self) -> Result<Vec<(u32, String)>, RdmaError> {
        let message = RawMessage { kind: CMD_GET, body: Vec::new() };
        let answer = self.connection.dump(message, self.deadline).await.map_err(RdmaError::List)?;
        let devices =
            answer.iter().filter(|message| message.kind == CMD_GET).map(|message| device(&message.body));
        devices.collect::<Result<_, _>>().map_err(|malformed| RdmaError::List(malformed.into()))
    }

    /// Gives the RDMA device `from` the name `to` (`ib_device_rename` in `drivers/infiniband/core/device.c`). Who has it open keeps it.
    ///
    /// # Errors
    /// What the kernel said: EEXIST where another device has the name.
    pub async fn rename(&self, from: &str, to: &str) -> Result<(), RdmaError> {
        let devices = self.devices().await?;
        let Some((index, _)) = devices.iter().find(|(_, name)| name == from) else {
            return Err(RdmaError::Gone { name: from.to_owned() });
        };
        tracing::debug!(from, to, "rename RDMA device");
        let renamed = self.connection.request(rename_message(*index, to), 0, self.deadline).await;
        renamed.map(drop).map_err(|source| RdmaError::Rename {
            from: from.to_owned(),
            to: to.to_owned(),
            source,
        })
    }
}

fn device(body: &[u8]) -> Result<(u32, String), MalformedError> {
    let attribute = |kind, what: &str| {
        let found = Attributes::new(body).find(kind)?;
        found.ok_or_else(|| MalformedError(format!("an RDMA device without {what}")))
    };
    Ok((attribute(ATTR_DEV_INDEX, "an index")?.u32()?, attribute(ATTR_DEV_NAME, "a name")?.text()))
}

fn rename_message(index: u32, name: &str) -> RawMessage {
    let mut body = Body::new(&[]);
    body.u32(ATTR_DEV_INDEX, index).text(ATTR_DEV_NAME, name);
    RawMessage { kind: CMD_SET, body: body.finish() }
}

#[cfg(test)]
#[cfg(target_endian = "little")]
mod tests {
    use super::*;

    #[test]
    fn fault_2_1_a_rename_is_the_message_that_the_rdma_tool_sends() {
        // `rdma dev set rxe0 name mlx5_0`: the index, then the name with its end.
        let message = rename_message(7, "mlx5_0");
        assert_eq!(message.kind, 0x1402);
        assert_eq!(hex::encode(&message.body), "08000100070000000b0002006d6c78355f300000");
        assert_eq!(device(&message.body).unwrap(), (7, "mlx5_0".to_owned()));
        assert!(device(&message.body[..8]).is_err());
    }

    #[tokio::test]
    async fn the_running_kernel_is_asked_or_has_no_rdma() {
        match Rdma::connect(Duration::from_secs(10)) {
            Ok(rdma) => {
                let error = rdma.rename("no such device", "other").await.unwrap_err();
                assert!(matches!(error, RdmaError::Gone { .. } | RdmaError::List(_)), "{error}");
            }
            Err(error) => assert_eq!(error.protocol, NETLINK_RDMA),
        }
    }
}
