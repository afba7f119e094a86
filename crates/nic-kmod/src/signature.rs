//! The signature that is appended to a module.

use std::fmt;

use cms::content_info::ContentInfo;
use cms::signed_data::{SignedData, SignerIdentifier};
use der::asn1::ObjectIdentifier;
use der::{Decode as _, Encode as _};
use nic_host::Foreign;
use serde::{Deserialize, Serialize};
use x509_cert::name::Name;

/// What a module's file says of who has signed it. Whether the signature is right is the kernel's to judge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModuleSignature {
    /// No signature is appended.
    Unsigned,
    /// One is, of the certificate whose issuer has this common name.
    By(String),
    /// One is, and it names its signer otherwise (by a key's identifier), or its form is not known.
    ByUnknown,
}

/// What stands behind the signature (`struct module_signature` in `include/linux/module_signature.h`).
mod trailer {
    /// `MODULE_SIG_STRING`.
    pub(super) const END: &[u8] = b"~Module signature appended~\n";
    /// The size of the structure before it, in bytes.
    pub(super) const SIZE: usize = 12;
    /// Where its big-endian length of the signature is.
    pub(super) const LENGTH: std::ops::Range<usize> = 8..12;
}

/// id-at-commonName (RFC 5280).
const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");

impl ModuleSignature {
    /// Reads the end of an unpacked module.
    #[must_use]
    pub fn of(module: &[u8]) -> Self {
        let Some(rest) = module.strip_suffix(trailer::END) else { return Self::Unsigned };
        signature(rest).and_then(issuer).map_or(Self::ByUnknown, Self::By)
    }
}

/// The PKCS#7 message.
fn signature(rest: &[u8]) -> Option<&[u8]> {
    let (rest, trailer) = rest.split_at_checked(rest.len().checked_sub(trailer::SIZE)?)?;
    let length = trailer.get(trailer::LENGTH)?;
    let length = usize::try_from(u32::from_be_bytes(length.try_into().ok()?)).ok()?;
    rest.get(rest.len().checked_sub(length)?..)
}

/// The common name of the issuer of the first signer's certificate.
fn issuer(message: &[u8]) -> Option<String> {
    let content = ContentInfo::from_der(message).ok()?.content.to_der().ok()?;
    let signed = SignedData::from_der(&content).ok()?;
    match &signed.signer_infos.0.get(0)?.sid {
        SignerIdentifier::IssuerAndSerialNumber(by) => common_name(&by.issuer),
        SignerIdentifier::SubjectKeyIdentifier(_) => None,
    }
}

fn common_name(name: &Name) -> Option<String> {
    let mut attributes = name.0.iter().flat_map(|part| part.0.iter());
    let value = &attributes.find(|attribute| attribute.oid == COMMON_NAME)?.value;
    Some(String::from_utf8_lossy(value.value()).into_owned()).filter(|name| !name.is_empty())
}

impl fmt::Display for ModuleSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsigned => f.write_str("unsigned"),
            Self::By(signer) => write!(f, "signed by {}", Foreign(signer)),
            Self::ByUnknown => f.write_str("signed by a signer without a name"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `openssl cms -sign -binary -outform DER -noattr -nocerts`, as the kernel's `scripts/sign-file.c` makes it.
    const BY_ISSUER: &[u8] = include_bytes!("signature/by-issuer.der");
    /// The same with `-keyid`.
    const BY_KEY: &[u8] = include_bytes!("signature/by-key.der");

    fn signed(message: &[u8]) -> Vec<u8> {
        let length = u32::try_from(message.len()).unwrap().to_be_bytes();
        [b"the module's content".as_slice(), message, &[0, 0, 2, 0, 0, 0, 0, 0], &length, trailer::END]
            .concat()
    }

    #[test]
    fn who_has_signed_is_told_by_the_issuers_name() {
        let of = |message: &[u8]| ModuleSignature::of(&signed(message));
        assert_eq!(of(BY_ISSUER), ModuleSignature::By("Example module signing key".to_owned()));
        assert_eq!(of(BY_KEY), ModuleSignature::ByUnknown);
        assert_eq!(of(b""), ModuleSignature::ByUnknown);
        assert_eq!(ModuleSignature::of(b"\x7fELF and so on"), ModuleSignature::Unsigned);
        assert_eq!(ModuleSignature::of(trailer::END), ModuleSignature::ByUnknown);
    }

    #[test]
    fn a_damaged_signature_is_one_without_a_name() {
        for cut in 0..BY_ISSUER.len() {
            let told = ModuleSignature::of(&signed(&BY_ISSUER[..cut]));
            assert_eq!(told, ModuleSignature::ByUnknown, "cut at {cut}");
        }
        for at in 0..BY_ISSUER.len() {
            let mut damaged = BY_ISSUER.to_vec();
            damaged[at] ^= 0x55;
            assert_ne!(ModuleSignature::of(&signed(&damaged)), ModuleSignature::Unsigned, "damaged at {at}");
        }
    }
}
