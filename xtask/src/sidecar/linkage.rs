//! What a program needs of the system that it is started in, as its file tells.

use anyhow::{Context as _, ensure};
use object::elf::{FileHeader64, PT_INTERP};
use object::read::elf::{FileHeader as _, ProgramHeader as _};
use object::{Endianness, Object as _, ObjectSymbol};

/// Functions by which a statically linked C library loads files of the system that it runs in, built for another C library: modules of
/// the name service, and of character sets. Such a program may crash, where a dynamic one would not have started.
///
/// `dlopen` is none of them: in the C library it is behind messages in another language, and so in every static program. What switches
/// those on is `setlocale`.
const OF_THE_SYSTEM: [&str; 18] = [
    "getaddrinfo",
    "getgrent",
    "getgrgid_r",
    "getgrnam_r",
    "getgrouplist",
    "gethostbyaddr_r",
    "gethostbyname",
    "gethostbyname_r",
    "getnameinfo",
    "getpwent",
    "getpwnam_r",
    "getpwuid_r",
    "getservbyname_r",
    "getservbyport_r",
    "iconv_open",
    "initgroups",
    "newlocale",
    "setlocale",
];

/// Each thing that is needed, in words.
pub(super) fn needs(program: &[u8]) -> anyhow::Result<Vec<String>> {
    let header = FileHeader64::<Endianness>::parse(program).context("no ELF program of 64 bits")?;
    let endian = header.endian()?;
    let mut needs = Vec::new();
    for segment in header.program_headers(endian, program)? {
        if segment.p_type(endian) == PT_INTERP {
            let name = segment.interpreter(endian, program)?.unwrap_or_default();
            needs.push(format!("the interpreter {}", String::from_utf8_lossy(name)));
        }
    }
    let file = object::File::parse(program)?;
    for library in file.import_libraries()? {
        needs.push(format!("the library {}", String::from_utf8_lossy(library?.name())));
    }
    let mut imports = file.dynamic_symbols().filter(ObjectSymbol::is_undefined);
    if let Some(first) = imports.next() {
        needs.push(format!("{} symbols of libraries, such as {}", imports.count() + 1, first.name()?));
    }
    ensure!(file.symbols().next().is_some(), "the program has no table of symbols any more");
    let defined = file.symbols().filter(ObjectSymbol::is_definition);
    for name in defined.filter_map(|symbol| symbol.name().ok()) {
        if OF_THE_SYSTEM.contains(&name) {
            needs.push(format!("what {name} loads"));
        }
    }
    Ok(needs)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::Command;

    use super::*;
    use crate::lab::process;

    fn compiled(source: &str, options: &[&str]) -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let (file, program) = (folder.path().join("sample.c"), folder.path().join("sample"));
        fs::write(&file, source).unwrap();
        process::run(Command::new("gcc").args(options).arg("-o").arg(&program).arg(&file)).unwrap();
        fs::read(program).unwrap()
    }

    const NOTHING: &str = "int main(void) { return 0; }\n";

    #[test]
    fn a_dynamic_program_needs_its_interpreter_and_its_libraries() {
        let needs = needs(&compiled(NOTHING, &[])).unwrap();
        for part in ["the interpreter /lib", "the library libc.so.6", "symbols of libraries"] {
            assert!(needs.iter().any(|need| need.contains(part)), "{needs:?}");
        }
    }

    #[test]
    fn a_static_program_needs_what_the_name_service_loads_when_it_asks_it() {
        let asks = "#include <netdb.h>\nint main(void) { struct addrinfo *found; return getaddrinfo(\"h\", 0, 0, &found); }\n";
        for kind in ["-static", "-static-pie"] {
            assert!(needs(&compiled(asks, &[kind])).unwrap().contains(&"what getaddrinfo loads".to_owned()));
        }
    }

    #[test]
    fn what_cannot_be_told_is_an_error() {
        needs(b"#!/bin/sh\n").unwrap_err();
        needs(&compiled(NOTHING, &["-static", "-s"])).unwrap_err();
    }
}
