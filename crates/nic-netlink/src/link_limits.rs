//! What the kernel takes at most of a link: for states that were written down, and may have been edited since, or damaged.

use crate::LinkAddress;

/// The kernel counts MTUs and indexes as signed numbers.
pub const HIGHEST_INT: u32 = i32::MAX.unsigned_abs();
/// The longest hardware address, in bytes (`MAX_ADDR_LEN` in `include/linux/netdevice.h`).
const LONGEST_ADDRESS: usize = 32;
/// The longest alternative name, in bytes: `ALTIFNAMSIZ` less the closing NUL (`include/uapi/linux/if.h`).
const LONGEST_ALTNAME: usize = 127;
/// The longest description: `IFALIASZ` less the closing NUL (`include/uapi/linux/if.h`).
const LONGEST_ALIAS: usize = 255;

/// Whether a link can have this alternative name: the kernel takes nearly any.
#[must_use]
pub fn is_altname(name: &str) -> bool {
    (1..=LONGEST_ALTNAME).contains(&name.len())
        && !name.chars().any(|character| character == '/' || character.is_control())
}

/// Looks whether a link can have this hardware address.
///
/// # Errors
/// Why not.
pub fn ensure_address_fits(address: &LinkAddress) -> Result<(), String> {
    let length = address.0.len();
    if length > LONGEST_ADDRESS {
        return Err(format!("{length} bytes are more than the {LONGEST_ADDRESS} of an address"));
    }
    Ok(())
}

/// Looks whether a link can have this description.
///
/// # Errors
/// Why not.
pub fn ensure_alias_fits(alias: &str) -> Result<(), String> {
    let told = alias.chars().count();
    if told > LONGEST_ALIAS {
        return Err(format!("{told} characters are more than the {LONGEST_ALIAS} of a description"));
    }
    Ok(())
}
