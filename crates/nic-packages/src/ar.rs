//! The archive around a deb: ar's common form, of which deb(5) uses members with short names only.
//!
//! It is read here and not by a crate, since what is allocated must not be what the file says: names are 16 bytes, and contents are
//! handed on as they are read.

use std::io::{self, Read};

/// The first bytes of every ar archive.
pub(crate) const MAGIC: [u8; 8] = *b"!<arch>\n";

/// The length of a member's header: name (16 bytes), time (12), user (6), group (6), mode (8), size (10), and [`HEADER_END`].
const HEADER: usize = 60;
const HEADER_END: &[u8] = b"`\n";

/// A member's header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    /// Its name, without the blanks behind it and the slash that some write there, as in dpkg (lib/dpkg/ar.c,
    /// `dpkg_ar_normalize_name`). Bytes that are no UTF-8 are replaced.
    pub(crate) name: String,
    /// Its size in bytes.
    pub(crate) size: u64,
}

/// Calls `each` for every member, with a reader of its content.
///
/// Every member must be there as a whole, filled up to an even length, and nothing else: apt goes through all of them (apt's
/// apt-pkg/contrib/arfile.cc, `LoadHeaders`), and dpkg-deb wants an even length of the file (`dpkg_ar_check_size`).
pub(crate) fn read<E: From<io::Error>>(
    mut archive: impl Read,
    mut each: impl FnMut(&Member, &mut dyn Read) -> Result<(), E>,
) -> Result<(), E> {
    let mut magic = [0; MAGIC.len()];
    archive.read_exact(&mut magic)?;
    if magic != MAGIC {
        return Err(invalid("no ar archive begins so".to_owned()).into());
    }
    while let Some(member) = header(&mut archive)? {
        let mut content = Content { rest: (&mut archive).take(member.size), name: &member.name };
        each(&member, &mut content)?;
        io::copy(&mut content, &mut io::sink())?;
        if !member.size.is_multiple_of(2) && archive.read(&mut [0])? == 0 {
            return Err(cut_off(&member.name, 1).into());
        }
    }
    Ok(())
}

/// The content of a member, which fails where the archive ends before it: whoever reads it would take that for another damage.
struct Content<'a, R> {
    rest: io::Take<R>,
    name: &'a str,
}

impl<R: Read> Read for Content<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.rest.read(buffer)?;
        let missing = self.rest.limit();
        if read == 0 && missing > 0 && !buffer.is_empty() {
            return Err(cut_off(self.name, missing));
        }
        Ok(read)
    }
}

/// The next member's header, or `None` at the archive's end.
fn header(archive: &mut impl Read) -> io::Result<Option<Member>> {
    let mut header = Vec::with_capacity(HEADER);
    archive.take(HEADER as u64).read_to_end(&mut header)?;
    if header.is_empty() {
        return Ok(None);
    }
    let (Some(name), Some(size), Some(HEADER_END)) = (header.get(..16), header.get(48..58), header.get(58..))
    else {
        return Err(invalid("what should be a member's header is none: the archive is damaged".to_owned()));
    };
    let name = String::from_utf8_lossy(name.trim_ascii_end());
    let name = name.strip_suffix('/').unwrap_or(&name).to_owned();
    let size = std::str::from_utf8(size.trim_ascii()).ok();
    // A plus sign would be taken by `parse`.
    let size = size.filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    let size = size.and_then(|digits| digits.parse().ok());
    size.map(|size| Some(Member { name: name.clone(), size }))
        .ok_or_else(|| invalid(format!("the archive's member {name:?} tells no size")))
}

fn cut_off(name: &str, missing: u64) -> io::Error {
    io::Error::new(
        io::ErrorKind::UnexpectedEof,
        format!("the archive is cut off: {missing} bytes are missing of its member {name:?}"),
    )
}

fn invalid(reason: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str, size: &str, content: &[u8]) -> Vec<u8> {
        let mut bytes = format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{size:<10}`\n", 0, 0, 0, 0).into_bytes();
        bytes.extend_from_slice(content);
        bytes
    }

    fn names(archive: &[u8]) -> io::Result<Vec<(String, Vec<u8>)>> {
        let mut members = Vec::new();
        read(archive, |member, content| {
            let mut bytes = Vec::new();
            if member.name != "unread" {
                content.read_to_end(&mut bytes)?;
            }
            members.push((member.name.clone(), bytes));
            Ok::<_, io::Error>(())
        })?;
        Ok(members)
    }

    #[test]
    fn members_are_read_whatever_their_length_and_passed_over_where_they_are_not() {
        let archive = [
            MAGIC.to_vec(),
            member("even", "2", b"ab"),
            member("odd/", "1", b"c\n"),
            member("unread", "3", b"def\n"),
            member("empty", "0", b""),
        ]
        .concat();
        let read = names(&archive).unwrap();
        let read: Vec<_> = read.iter().map(|(name, content)| (name.as_str(), content.as_slice())).collect();
        assert_eq!(read, [("even", b"ab".as_slice()), ("odd", b"c"), ("unread", b""), ("empty", b"")]);
        assert_eq!(names(&MAGIC).unwrap(), []);
        for end in 0..archive.len() {
            // Between two members it is a shorter archive: whether all are there is its reader's question.
            let whole = [8, 70, 132, 196].contains(&end);
            assert_eq!(names(&archive[..end]).is_ok(), whole, "{end}");
        }
    }

    #[test]
    fn what_a_member_cannot_be() {
        for (name, size) in
            [("a", ""), ("a", "-1"), ("a", "+1"), ("a", "0x1"), ("a", "1 2"), ("a", "9999999999")]
        {
            names(&[MAGIC.to_vec(), member(name, size, b"1234")].concat()).unwrap_err();
        }
        // Forms with long names are names like others here.
        assert_eq!(names(&[MAGIC.to_vec(), member("/99", "0", b"")].concat()).unwrap()[0].0, "/99");
        names(b"!<arch>?").unwrap_err();
    }
}
