//! The running kernel's symbols.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use nic_host::Host;

use crate::ModuleName;

/// The names of the running kernel's symbols and of its modules' (`/proc/kallsyms`), whether they are exported or not.
#[derive(Debug, Clone, Default)]
pub struct KernelSymbols {
    /// Each name, with the modules that have it; none for the kernel itself.
    names: HashMap<Box<str>, Vec<Option<u16>>>,
    modules: Vec<ModuleName>,
}

impl KernelSymbols {
    /// `None` where they cannot be read, or where the kernel shows its functions alone (no `KALLSYMS_ALL`): a module's data would be taken
    /// for unknown.
    pub(super) fn read(host: &Host) -> Option<Self> {
        let text = host.read_if_exists("/proc/kallsyms").unwrap_or_else(|error| {
            tracing::info!(error = nic_host::error_chain(&error), "the kernel's symbols are not known");
            None
        });
        Self::parse(&text?)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut symbols = Self::default();
        let mut indices: BTreeMap<&str, Option<u16>> = BTreeMap::new();
        let mut has_data = false;
        for line in text.lines() {
            let mut fields = line.split_ascii_whitespace();
            let (Some(_address), Some(kind), Some(name)) = (fields.next(), fields.next(), fields.next())
            else {
                continue;
            };
            let module = match fields.next() {
                None => {
                    has_data |= matches!(kind, "d" | "D" | "b" | "B");
                    None
                }
                Some(module) => {
                    let module = module.trim_matches(['[', ']']);
                    let index = *indices.entry(module).or_insert_with(|| {
                        let index = u16::try_from(symbols.modules.len()).ok()?;
                        symbols.modules.push(module.parse().ok()?);
                        Some(index)
                    });
                    // What is no module (`bpf`, `__builtin__kprobes`) exports nothing.
                    let Some(index) = index else { continue };
                    Some(index)
                }
            };
            symbols.names.entry(name.into()).or_default().push(module);
        }
        has_data.then_some(symbols)
    }

    /// Whether the kernel, or a module that stays, has it.
    pub(super) fn has(&self, symbol: &str, going: &BTreeSet<ModuleName>) -> bool {
        self.names.get(symbol).is_some_and(|owners| {
            owners.iter().any(|owner| match owner {
                None => true,
                Some(index) => {
                    self.modules.get(usize::from(*index)).is_some_and(|module| !going.contains(module))
                }
            })
        })
    }
}

#[cfg(test)]
pub(super) fn symbols_of(text: &str) -> Option<KernelSymbols> {
    KernelSymbols::parse(text)
}
