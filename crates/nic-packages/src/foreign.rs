//! Libraries of others behind a net: what panics there is an error of the package that was read.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::ParsePackageError;

/// Runs `parse`, and makes a panic an error. What `parse` was working on is not looked at again after one.
///
/// It does not help against what aborts, such as an allocation that fails: for that there are bounds.
pub(crate) fn guarded<T, E: From<ParsePackageError>>(parse: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    catch_unwind(AssertUnwindSafe(parse)).unwrap_or_else(|panic| {
        Err(ParsePackageError::Panicked { message: message(panic.as_ref()).to_owned() }.into())
    })
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let literal = panic.downcast_ref::<&str>().copied();
    literal.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trial_w1_a_parser_that_panics_is_an_error() {
        let result: Result<(), ParsePackageError> = guarded(|| panic!("index {} out of range", 7));
        assert_eq!(
            result.unwrap_err().to_string(),
            "a library that reads packed data failed on the package: index 7 out of range"
        );
        let result: Result<u8, ParsePackageError> = guarded(|| Ok(1));
        assert_eq!(result.unwrap(), 1);
    }
}
