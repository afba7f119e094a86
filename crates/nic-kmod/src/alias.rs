use crate::ModuleFile;

impl ModuleFile {
    /// Whether the module is made for a device with this `modalias`, as sysfs shows it for the device, such as
    /// `pci:v00008086d000010C9sv00008086sd0000A03Cbc02sc00i00`.
    ///
    /// modprobe loads the modules one of whose aliases matches; the aliases are patterns of the shell
    /// (`scripts/mod/file2alias.c` in the kernel, `fnmatch` in kmod).
    #[must_use]
    pub fn serves(&self, modalias: &str) -> bool {
        self.aliases.iter().any(|pattern| matches(pattern.as_bytes(), modalias.as_bytes()))
    }
}

/// `*` stands for any text, `?` for any character, `[…]` for one of its characters and ranges.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern.split_first(), text.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => {
            // A pattern of the kernel's has a dozen stars at most, and most of them stand before a letter.
            (0..=text.len()).any(|skipped| matches(rest, text.get(skipped..).unwrap_or_default()))
        }
        (Some((b'?', rest)), Some((_, text))) => matches(rest, text),
        (Some((b'[', set)), Some((character, text))) => match set.iter().position(|byte| *byte == b']') {
            Some(end) => {
                let (set, rest) = set.split_at(end);
                in_set(set, *character) && matches(rest.get(1..).unwrap_or_default(), text)
            }
            None => false,
        },
        (Some((literal, rest)), Some((character, text))) => literal == character && matches(rest, text),
        (Some(_), None) | (None, Some(_)) => false,
    }
}

fn in_set(set: &[u8], character: u8) -> bool {
    match set {
        [from, b'-', to, rest @ ..] => (*from..=*to).contains(&character) || in_set(rest, character),
        [one, rest @ ..] => *one == character || in_set(rest, character),
        [] => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aliases_match_as_modprobe_matches_them() {
        const IGB: &str = "pci:v00008086d000010C9sv*sd*bc*sc*i*";
        const VF: &str = "pci:v00008086d000010CAsv*sd*bc*sc*i*";
        for (pattern, modalias, expected) in [
            (IGB, "pci:v00008086d000010C9sv00008086sd0000A03Cbc02sc00i00", true),
            (IGB, "pci:v00008086d000010CAsv00008086sd0000A03Cbc02sc00i00", false),
            (VF, "pci:v00008086d000010CAsv00008086sd0000A03Cbc02sc00i00", true),
            (IGB, "pci:v00008086d000010C9", false),
            (
                "pci:v000015B3d*sv*sd*bc02sc00i00*",
                "pci:v000015B3d0000101Dsv000015B3sd00000016bc02sc00i00",
                true,
            ),
            (
                "pci:v000015B3d*sv*sd*bc02sc00i00*",
                "pci:v000015B3d0000101Dsv000015B3sd00000016bc0Csc06i00",
                false,
            ),
            ("usb:v1D6Bp000[1-3]d*", "usb:v1D6Bp0002d0512", true),
            ("usb:v1D6Bp000[1-3]d*", "usb:v1D6Bp0004d0512", false),
            ("usb:v1D6Bp000[13]d*", "usb:v1D6Bp0002d0512", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*", "", true),
            ("", "", true),
            ("a[b", "ab", false),
        ] {
            assert_eq!(matches(pattern.as_bytes(), modalias.as_bytes()), expected, "{pattern} {modalias}");
        }
    }
}
