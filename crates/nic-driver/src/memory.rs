//! Memory that is freed and that the process keeps.
//!
//! glibc raises the size from which a block is the kernel's again when it is freed, up to that of the largest block so far
//! (`M_MMAP_THRESHOLD` in mallopt(3)). Here that is a whole module's file: tens of MiB stay with the process that has read a few of them,
//! for as long as it waits.

/// Gives what is freed back to the kernel. With another C library than glibc nothing is done.
pub(crate) fn give_back() {
    #[cfg(target_env = "gnu")]
    glibc::malloc_trim(0);
}

#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "malloc_trim(3) has no safe wrapper")]
mod glibc {
    use std::ffi::c_int;

    // It takes a number of bytes to be left, and locks what it looks at.
    unsafe extern "C" {
        pub(super) safe fn malloc_trim(pad: usize) -> c_int;
    }
}

#[cfg(test)]
#[cfg(target_env = "gnu")]
mod tests {
    use std::hint::black_box;

    use super::*;

    const MIB: usize = 1 << 20;

    /// What is in memory of what is no file's, in bytes.
    fn resident() -> usize {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap() * 1024
    }

    #[test]
    fn what_was_freed_is_the_kernels_again() {
        // As large as a module's file: from here on smaller ones stay.
        drop(black_box(vec![1_u8; 8 * MIB]));
        let files: Vec<_> = (0..32).map(|_| black_box(vec![1_u8; MIB])).collect();
        // What is allocated last keeps the heap from shrinking.
        let last = black_box(vec![1_u8; MIB]);
        let full = resident();
        drop(files);
        give_back();
        let left = resident();
        drop(last);
        assert!(left + 24 * MIB < full, "{left} of {full} bytes are still there");
    }
}
