//! Writing netlink attributes, as `attributes.rs` reads them.

/// A message's body being written: a fixed header, then attributes.
#[derive(Debug)]
pub(crate) struct Body(Vec<u8>);

impl Body {
    pub(crate) fn new(header: &[u8]) -> Self {
        Self(header.to_vec())
    }

    pub(crate) fn bytes(&mut self, number: u16, value: &[u8]) -> &mut Self {
        self.nested(number, |body| body.0.extend_from_slice(value))
    }

    pub(crate) fn u8(&mut self, number: u16, value: u8) -> &mut Self {
        self.bytes(number, &[value])
    }

    pub(crate) fn u16(&mut self, number: u16, value: u16) -> &mut Self {
        self.bytes(number, &value.to_ne_bytes())
    }

    pub(crate) fn u32(&mut self, number: u16, value: u32) -> &mut Self {
        self.bytes(number, &value.to_ne_bytes())
    }

    /// A text with its terminating zero byte.
    pub(crate) fn text(&mut self, number: u16, text: &str) -> &mut Self {
        self.nested(number, |body| {
            body.0.extend_from_slice(text.as_bytes());
            body.0.push(0);
        })
    }

    /// An attribute whose value is what `write` writes.
    pub(crate) fn nested(&mut self, number: u16, write: impl FnOnce(&mut Self)) -> &mut Self {
        let start = self.0.len();
        self.0.extend([0; 2]);
        self.0.extend(number.to_ne_bytes());
        write(self);
        self.close(start);
        self
    }

    /// A structure that begins with its own length in two bytes, as an attribute does (`struct rtnexthop`).
    pub(crate) fn counted(&mut self, after_length: &[u8], write: impl FnOnce(&mut Self)) -> &mut Self {
        let start = self.0.len();
        self.0.extend([0; 2]);
        self.0.extend_from_slice(after_length);
        write(self);
        self.close(start);
        self
    }

    /// Writes the length of what began at `start`, and pads it. What is too long for a length of two bytes gets a length
    /// that the kernel refuses; nothing that it ever said is that long.
    fn close(&mut self, start: usize) {
        let length = u16::try_from(self.0.len() - start).unwrap_or_default();
        if let Some(field) = self.0.get_mut(start..start + 2) {
            field.copy_from_slice(&length.to_ne_bytes());
        }
        let end = self.0.len().next_multiple_of(4);
        self.0.resize(end, 0);
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_and_nested_ones_counted_without_their_padding() {
        let mut body = Body::new(&[9; 4]);
        body.nested(18, |info| {
            info.text(1, "vlan").u16(2, 5);
        });
        let expected = [
            &[9; 4][..],
            &24_u16.to_ne_bytes(),
            &18_u16.to_ne_bytes(),
            &9_u16.to_ne_bytes(),
            &1_u16.to_ne_bytes(),
            b"vlan\0\0\0\0",
            &6_u16.to_ne_bytes(),
            &2_u16.to_ne_bytes(),
            &5_u16.to_ne_bytes(),
            &[0; 2],
        ];
        assert_eq!(body.finish(), expected.concat());
    }
}
