//! A kernel's functions by address, as `/proc/kallsyms` and System.map list them.

/// The functions of a kernel, sorted by address.
#[derive(Debug)]
pub(crate) struct Symbols {
    functions: Vec<(u64, String)>,
}

impl Symbols {
    /// Reads lines such as `ffffffff81000000 T name`. Symbols of modules, which end with the module's name, are left out:
    /// modules lie elsewhere in each run.
    pub(crate) fn parse(text: &str) -> Self {
        let function = |line: &str| {
            let mut words = line.split_whitespace();
            let (address, kind, name) = (words.next()?, words.next()?, words.next()?);
            let is_code = matches!(kind, "t" | "T" | "w" | "W") && words.next().is_none();
            Some((u64::from_str_radix(address, 16).ok().filter(|_| is_code)?, name.to_owned()))
        };
        let mut functions: Vec<_> = text.lines().filter_map(function).collect();
        functions.sort();
        Self { functions }
    }

    /// Whether nothing is known, as when the kernel hides its addresses.
    pub(crate) fn is_empty(&self) -> bool {
        self.functions.iter().all(|(address, _)| *address == 0)
    }

    /// The function in which `address` lies: the last one that begins at or before it.
    pub(crate) fn function_at(&self, address: u64) -> Option<&str> {
        let next = self.functions.partition_point(|(begin, _)| *begin <= address);
        let (_, name) = self.functions.get(next.checked_sub(1)?)?;
        (next < self.functions.len()).then_some(name.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_lies_in_the_function_before_it() {
        let symbols = Symbols::parse(
            "ffffffff81000200 T third\nffffffff81000000 T first\nffffffff81000100 t second\n\
             ffffffff81000180 d data\nffffffffc0000000 t of_module [igb]\nno symbol\n",
        );
        for (address, function) in [
            (0xffff_ffff_8100_0000, Some("first")),
            (0xffff_ffff_8100_00ff, Some("first")),
            (0xffff_ffff_8100_0190, Some("second")),
            // Behind the last one nothing is known: it may be a module.
            (0xffff_ffff_c000_0010, None),
            (0x7f00, None),
        ] {
            assert_eq!(symbols.function_at(address), function, "{address:#x}");
        }
        assert!(!symbols.is_empty());
        assert!(Symbols::parse("0000000000000000 T hidden\n").is_empty());
    }
}
