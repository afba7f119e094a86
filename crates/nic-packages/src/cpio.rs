//! The archive in an rpm: cpio's "new ASCII" format (cpio(5)), in which each member has a header of hexadecimal numbers.

use std::io::{self, Read};

use nic_host::Foreign;

/// Type bits of a mode (inode(7)).
pub(crate) const TYPE: u32 = 0o170_000;
pub(crate) const REGULAR: u32 = 0o100_000;
pub(crate) const LINK: u32 = 0o120_000;

const HEADER: usize = 110;
const END: &str = "TRAILER!!!";
/// Longer than any path that Linux takes.
const LONGEST_NAME: u64 = 4096;

/// A member's header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) inode: u64,
    pub(crate) mode: u32,
    pub(crate) links: u64,
    pub(crate) size: u64,
}

/// Calls `each` for every member, with a reader of its content.
pub(crate) fn read<E: From<io::Error>>(
    mut archive: impl Read,
    mut each: impl FnMut(&Member, &mut dyn Read) -> Result<(), E>,
) -> Result<(), E> {
    loop {
        let member = header(&mut archive)?;
        if member.name == END {
            return Ok(());
        }
        let mut content = (&mut archive).take(member.size);
        each(&member, &mut content)?;
        let read = io::copy(&mut content, &mut io::sink())?;
        if content.limit() > 0 {
            return Err(invalid(format!("{} is cut off after {read} bytes", Foreign(&member.name))).into());
        }
        skip_padding(&mut archive, member.size)?;
    }
}

fn header(archive: &mut impl Read) -> io::Result<Member> {
    let mut header = [0; HEADER];
    archive.read_exact(&mut header)?;
    let text = std::str::from_utf8(&header).map_err(|_| invalid("a header is no text".to_owned()))?;
    let (magic, fields) = text.split_at(6);
    // rpm has a form of its own for files of 4 GiB and more, `07070X`.
    if magic != "070701" && magic != "070702" {
        return Err(invalid(format!("a header begins with {magic:?}")));
    }
    let field = |index: usize| {
        fields
            .get(index * 8..index * 8 + 8)
            .and_then(|digits| u32::from_str_radix(digits, 16).ok())
            .ok_or_else(|| invalid(format!("the header {text:?} has no number {index}")))
    };
    let name_size = u64::from(field(11)?);
    if name_size == 0 || name_size > LONGEST_NAME {
        return Err(invalid(format!("a name is of {name_size} bytes")));
    }
    let mut name = Vec::new();
    (&mut *archive).take(name_size).read_to_end(&mut name)?;
    skip_padding(archive, HEADER as u64 + name_size)?;
    let name = name.strip_suffix(b"\0").and_then(|name| std::str::from_utf8(name).ok());
    Ok(Member {
        name: name.ok_or_else(|| invalid("a name is cut off or no text".to_owned()))?.to_owned(),
        inode: u64::from(field(0)?),
        mode: field(1)?,
        links: u64::from(field(4)?),
        size: u64::from(field(6)?),
    })
}

/// Names and contents are padded to multiples of four.
fn skip_padding(archive: &mut impl Read, length: u64) -> io::Result<()> {
    let padding = length.next_multiple_of(4) - length;
    io::copy(&mut archive.take(padding), &mut io::sink()).map(|_| ())
}

fn invalid(reason: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str, mode: usize, content: &[u8]) -> Vec<u8> {
        let fields = [7, mode, 0, 0, 2, 0, content.len(), 0, 0, 0, 0, name.len() + 1, 0]
            .map(|field: usize| format!("{field:08x}"))
            .concat();
        let mut bytes = format!("070701{fields}{name}\0").into_bytes();
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes.extend_from_slice(content);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn read_all(archive: &[u8]) -> io::Result<Vec<(Member, Vec<u8>)>> {
        let mut members = Vec::new();
        read(archive, |member, content| {
            let mut bytes = Vec::new();
            // One is left unread: the next is found all the same.
            if member.name != "./unread" {
                content.read_to_end(&mut bytes)?;
            }
            members.push((member.clone(), bytes));
            Ok::<_, io::Error>(())
        })?;
        Ok(members)
    }

    #[test]
    fn members_of_all_lengths() {
        let contents: Vec<Vec<u8>> = (0..6).map(|length| vec![b'x'; length]).collect();
        let mut archive: Vec<u8> = contents
            .iter()
            .enumerate()
            .flat_map(|(index, content)| member(&"n".repeat(index + 1), 0o100_644, content))
            .collect();
        archive.extend(member("./unread", LINK as usize, b"target"));
        archive.extend(member("./link", LINK as usize, b"target"));
        archive.extend(member(END, 0, b""));
        let read = read_all(&archive).unwrap();
        assert_eq!(read.len(), 8);
        for ((member, found), content) in read.iter().zip(&contents) {
            assert_eq!((member.inode, member.links, member.size), (7, 2, content.len() as u64));
            assert_eq!(found, content);
        }
        assert_eq!(read[7].1, b"target");
        // Cut off anywhere it is an error, but for the padding at the end.
        for end in 0..archive.len() - 3 {
            read_all(&archive[..end]).unwrap_err();
        }
    }

    #[test]
    fn what_is_no_archive() {
        let mut large = member("a", 0, b"");
        large[..6].copy_from_slice(b"07070X");
        let mut negative = member("a", 0, b"");
        negative[6..14].copy_from_slice(b"-0000001");
        let mut nameless = member("", 0, b"");
        nameless[94..102].copy_from_slice(b"00000000");
        for archive in [large, negative, nameless, vec![b'0'; 110]] {
            assert_eq!(read_all(&archive).unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
    }
}
