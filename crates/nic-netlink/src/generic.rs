//! Generic netlink: one protocol for many families, each with a name, and a number that the kernel gives it when it is registered.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustix::io::Errno;

use crate::attributes::{Attributes, MalformedError};
use crate::body::Body;
use crate::connection::{ConnectError, Connection, RawMessage, RequestError};

const NETLINK_GENERIC: isize = 16;
/// The length of `struct genlmsghdr`.
const HEADER: usize = 4;

/// A connection to one family of generic netlink, in the network namespace of the thread that opened it.
///
/// Cloning is cheap, and the clones share the connection.
#[derive(Debug, Clone)]
pub(crate) struct Generic {
    connection: Connection,
    name: &'static str,
    number: Arc<OnceLock<u16>>,
    pub(crate) deadline: Duration,
}

/// What is asked of a family: the command, and its attributes behind `struct genlmsghdr`.
#[derive(Debug)]
pub(crate) struct Command(Body);

impl Command {
    /// A command of the version of its interface that the family's own tool sends.
    pub(crate) fn new(command: u8, version: u8) -> Self {
        Self(Body::new(&[command, version, 0, 0]))
    }

    /// The attributes, to be written.
    pub(crate) fn attributes(&mut self) -> &mut Body {
        &mut self.0
    }

    /// The message to the family with this number.
    pub(crate) fn to(self, family: u16) -> RawMessage {
        RawMessage { kind: family, body: self.0.finish() }
    }
}

impl Generic {
    /// A connection to the family of this name, whose requests have a deadline of 10 s each.
    pub(crate) fn connect(name: &'static str) -> Result<Self, ConnectError> {
        let connection = Connection::open(NETLINK_GENERIC)?;
        Ok(Self { connection, name, number: Arc::default(), deadline: Duration::from_secs(10) })
    }

    /// The same connection, with another deadline for each request.
    pub(crate) fn with_deadline(&self, deadline: Duration) -> Self {
        Self { deadline, ..self.clone() }
    }

    /// Asks, and waits for the answer. The attributes of each of its messages.
    pub(crate) async fn ask(
        &self,
        command: Command,
        deadline: Duration,
    ) -> Result<Vec<Vec<u8>>, RequestError> {
        let family = self.number().await?;
        let answer = self.connection.request(command.to(family), 0, deadline).await?;
        Ok(answer.into_iter().filter_map(|message| payload(message, family)).collect())
    }

    /// Asks for a list.
    pub(crate) async fn list(&self, command: Command) -> Result<Vec<Vec<u8>>, RequestError> {
        let family = self.number().await?;
        let answer = self.connection.dump(command.to(family), self.deadline).await?;
        Ok(answer.into_iter().filter_map(|message| payload(message, family)).collect())
    }

    /// The number under which the family is registered; asked for until there is one.
    async fn number(&self) -> Result<u16, RequestError> {
        // include/uapi/linux/genetlink.h
        const GENL_ID_CTRL: u16 = 16;
        const CTRL_CMD_GETFAMILY: u8 = 3;
        const CTRL_ATTR_FAMILY_ID: u16 = 1;
        const CTRL_ATTR_FAMILY_NAME: u16 = 2;
        if let Some(number) = self.number.get() {
            return Ok(*number);
        }
        let mut command = Command::new(CTRL_CMD_GETFAMILY, 0);
        command.attributes().text(CTRL_ATTR_FAMILY_NAME, self.name);
        let answer = match self.connection.request(command.to(GENL_ID_CTRL), 0, self.deadline).await {
            Err(refused) if refused.errno() == Some(Errno::NOENT) => {
                return Err(RequestError::NoFamily { name: self.name });
            }
            answer => answer?,
        };
        for body in answer.into_iter().filter_map(|message| payload(message, GENL_ID_CTRL)) {
            if let Some(id) = Attributes::new(&body).find(CTRL_ATTR_FAMILY_ID)? {
                return Ok(*self.number.get_or_init({
                    let id = id.u16()?;
                    move || id
                }));
            }
        }
        Err(MalformedError(format!("the number of the family {} is missing", self.name)).into())
    }
}

/// The attributes of a message of this family.
fn payload(message: RawMessage, family: u16) -> Option<Vec<u8>> {
    if message.kind != family {
        return None;
    }
    let mut body = message.body;
    (body.len() >= HEADER).then(|| body.split_off(HEADER))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_family_that_no_kernel_has_is_named() {
        let generic = Generic::connect("no such family").unwrap();
        let error = generic.ask(Command::new(1, 0), Duration::from_secs(10)).await.unwrap_err();
        assert_eq!(error.to_string(), "the kernel has no no such family");
    }
}
