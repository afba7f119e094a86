//! Packages that are damaged, made to do harm, or such that the package manager will refuse them: each is an error that names what is
//! wrong, in bounded time and memory.

use std::ops::Range;

use nic_host::error_chain;
use nic_packages::PackageFile;

use crate::sample::{Sample, ar, compressed, deb_of, tar};

const CONTROL: &str = "Package: a\nVersion: 1\nArchitecture: all\n";
const GOOD: [&str; 4] = ["a", "1", "1", "noarch"];
const FILES: [&str; 2] = ["/lib/modules/5.14.0/extra/a.ko", "/etc/depmod.d/a.conf"];

fn parse(package: &[u8]) -> Result<PackageFile, String> {
    PackageFile::parse("/a", package).map_err(|error| error_chain(&error))
}

/// What is wrong with a package.
fn refused(package: &[u8]) -> String {
    parse(package).unwrap_err()
}

/// The places of the headers of an ar archive's members.
fn ar_headers(archive: &[u8]) -> Vec<Range<usize>> {
    let (mut at, mut headers) = (8, Vec::new());
    while at < archive.len() {
        let size = std::str::from_utf8(&archive[at + 48..at + 58]).unwrap().trim().parse::<usize>().unwrap();
        headers.push(at..at + 60);
        at += 60 + size.next_multiple_of(2);
    }
    headers
}

#[test]
fn trial_w1_a_damaged_deb_is_an_error_and_never_the_end_of_the_process() {
    for suffix in ["", ".gz", ".xz", ".zst"] {
        let whole =
            Sample { version: "1", architecture: "amd64", files: &FILES, ..Sample::default() }.deb(suffix);
        assert_eq!(parse(&whole).unwrap().files.len(), 2);
        for at in (0..8).chain(ar_headers(&whole).into_iter().flatten()) {
            for value in [0, b' ', b'/', b'#', b'0', b'9', b'`', 0xff] {
                let mut damaged = whole.clone();
                damaged[at] = value;
                drop(parse(&damaged));
            }
        }
        // Every cut, the last byte's too.
        for end in (0..whole.len()).step_by(if suffix.is_empty() { 13 } else { 1 }) {
            refused(&whole[..end]);
        }
        refused(&whole[..whole.len() - 1]);
        refused(&[&whole, b"more".as_slice()].concat());
    }
}

#[test]
fn trial_w1_members_of_other_ar_forms_and_sizes_are_refused() {
    let whole = deb_of(CONTROL, tar(&[]));
    let header = ar_headers(&whole)[1].start;
    for (name, size) in [
        ("/99", "10"),
        ("//", "9999999999"),
        ("#1/9999999999", "10"),
        ("#1/20", "9999999999"),
        ("control.tar", "9999999999"),
        ("control.tar", "-1"),
        ("control.tar", "+5"),
        ("control.tar", ""),
        ("control.tar", "1x"),
    ] {
        let mut damaged = whole.clone();
        damaged[header..header + 16].copy_from_slice(format!("{name:<16}").as_bytes());
        damaged[header + 48..header + 58].copy_from_slice(format!("{size:<10}").as_bytes());
        let error = refused(&damaged);
        assert!(error.contains("archive") || error.contains("control.tar"), "{name} {size}: {error}");
    }
}

#[test]
fn trial_w1_members_stand_as_dpkg_deb_wants_them() {
    let control = || tar(&[("./control", CONTROL.as_bytes())]);
    let (version, data) = (|| b"2.0\n".to_vec(), || tar(&[]));
    for (members, message) in [
        (vec![("control.tar", control()), ("data.tar", data())], "begins with the member \"control.tar\""),
        (vec![("debian-binary", b"3.0\n".to_vec())], "of the format \"3.0\""),
        (vec![("debian-binary", b"2.0".to_vec())], "of the format \"2.0\""),
        (vec![("debian-binary", vec![b'2'; 1 << 20])], "of the format "),
        (
            vec![("debian-binary", version()), ("data.tar", data()), ("control.tar", control())],
            "the member \"data.tar\" stands where control.tar is expected",
        ),
        (
            vec![("debian-binary", version()), ("control.tar", control()), ("other", data())],
            "the member \"other\" stands where data.tar is expected",
        ),
        (
            vec![("debian-binary", version()), ("control.tar", control()), ("control.tar.gz", control())],
            "the member \"control.tar.gz\" stands where data.tar is expected",
        ),
        (
            vec![
                ("debian-binary", version()),
                ("control.tar", control()),
                ("data.tar", data()),
                ("data.tar.xz", data()),
            ],
            "the member \"data.tar.xz\" is there a second time",
        ),
        (
            vec![("debian-binary", version()), ("control.tar", Vec::new())],
            "the member \"control.tar\" is empty",
        ),
    ] {
        let error = refused(&ar(&members));
        assert!(error.contains(message), "{error:?} does not contain {message:?}");
    }
    // What dpkg-deb passes over is passed over: members of an underscore anywhere, and any behind the data.
    for (place, name) in [(1, "_gpgbuilder"), (2, "_x"), (3, "_gpgorigin"), (3, "later")] {
        let mut members =
            vec![("debian-binary", version()), ("control.tar", control()), ("data.tar", data())];
        members.insert(place, (name, b"odd".to_vec()));
        assert_eq!(parse(&ar(&members)).unwrap().name, "a");
    }
}

/// A tar header, and nothing behind it.
fn tar_header(name: &str, kind: u8, size: u64) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(tar::EntryType::new(kind));
    header.set_mode(0o644);
    header.set_size(size);
    header.set_cksum();
    header.as_bytes().to_vec()
}

/// A compressed tar archive of `header` and 1 GiB of zeros behind it.
fn gibibyte_behind(header: &[u8]) -> Vec<u8> {
    [compressed(header, ".xz"), compressed(&vec![0; 64 << 20], ".xz").repeat(16)].concat()
}

#[test]
fn trial_w4_a_deb_that_unpacks_to_a_gibibyte_is_refused() {
    let control = compressed(&tar(&[("./control", CONTROL.as_bytes())]), ".xz");
    for (part, kind, message) in [
        ("control.tar.xz", b'0', "longer than 1048576 bytes"),
        ("control.tar.xz", b'L', "a name of 1073741824 bytes"),
        ("control.tar.xz", b'K', "a name of 1073741824 bytes"),
        ("control.tar.xz", b'x', "a member of the kind 'x'"),
        ("data.tar.xz", b'0', "unpacks to more than the "),
    ] {
        let bomb = gibibyte_behind(&tar_header("./control", kind, 1 << 30));
        let (control, data) =
            if part.starts_with("data") { (control.clone(), bomb) } else { (bomb, control.clone()) };
        let members =
            [("debian-binary", b"2.0\n".to_vec()), ("control.tar.xz", control), ("data.tar.xz", data)];
        let error = refused(&ar(&members));
        assert!(error.contains(part) && error.contains(message), "{part} {kind}: {error}");
    }
}

#[test]
fn trial_w4_names_without_measure_are_refused() {
    let long = "n".repeat(5000);
    let mut data = tar_header("././@LongLink", b'L', 5000);
    data.extend_from_slice(long.as_bytes());
    data.resize(data.len().next_multiple_of(512), 0);
    data.extend(tar_header("a", b'0', 0));
    let error = refused(&deb_of(CONTROL, data));
    assert!(error.contains("a name of 5000 bytes"), "{error}");
}

#[test]
fn trial_w4_kinds_of_tar_that_dpkg_refuses_are_named() {
    for (kind, told) in [(b'x', "'x'"), (b'g', "'g'"), (b'S', "'S'"), (b'V', "'V'"), (b'Z', "'Z'")] {
        let error = refused(&deb_of(CONTROL, tar_header("./a", kind, 0)));
        assert!(error.contains(&format!("a member of the kind {told}")), "{error}");
    }
}

#[test]
fn trial_w18_a_cut_package_is_refused_wherever_it_was_cut() {
    let rpm = Sample { files: &FILES, ..Sample::default() }.rpm();
    assert_eq!(parse(&rpm).unwrap().files.len(), 2);
    for end in 0..rpm.len() {
        refused(&rpm[..end]);
    }
    let error = refused(&rpm[..rpm.len() - 10]);
    assert!(error.contains("the package is cut off: 10 bytes are missing"), "{error}");
    let error = refused(&[&rpm, b"more".as_slice()].concat());
    assert!(error.contains("4 bytes more than its signature tells"), "{error}");
}

#[test]
fn trial_w18_a_changed_byte_of_an_rpm_is_found_out() {
    let rpm = Sample { files: &FILES, ..Sample::default() }.rpm();
    let mut damaged = rpm.clone();
    let last = damaged.len() - 12;
    damaged[last] ^= 1;
    assert_eq!(refused(&damaged), "the checksum of the part payload does not match");
    // A letter of the name, which stands in the header.
    let mut damaged = rpm;
    let at = damaged.windows(15).rposition(|window| window == b"mlnx-ofa_kernel").unwrap();
    damaged[at] = b'n';
    assert_eq!(refused(&damaged), "the checksum of the part header does not match");
}

#[test]
fn trial_w18_a_changed_byte_of_a_deb_is_found_out() {
    for suffix in [".gz", ".xz", ".zst"] {
        let deb =
            Sample { version: "1", architecture: "amd64", files: &FILES, ..Sample::default() }.deb(suffix);
        // Each ends with checksums: a gzip member's and a zstd frame's are the last bytes but for the archive's padding.
        for at in deb.len() - 8..deb.len() - 1 {
            let mut damaged = deb.clone();
            damaged[at] ^= 0x10;
            let error = refused(&damaged);
            assert!(error.contains(&format!("data.tar{suffix}")), "{suffix} {at}: {error}");
        }
    }
}

#[test]
fn trial_w18_fields_that_the_package_manager_would_take_for_something_else_are_refused() {
    for (field, value) in [
        ("Package", "--force-all"),
        ("Package", "a b; rm -rf /"),
        ("Package", "-a"),
        ("Package", "../a"),
        ("Package", "A"),
        ("Package", "a*"),
        ("Package", "a/b"),
        ("Package", "\u{e9}"),
        ("Version", "\u{1b}[31m1"),
        ("Version", "1 2"),
        ("Version", "a1"),
        ("Version", ":1"),
        ("Version", "x:1"),
        ("Version", "1-"),
        ("Version", "1/2"),
        ("Version", "99999999999:1"),
        ("Architecture", "amd 64"),
        ("Architecture", "../x"),
        ("Architecture", "-x"),
    ] {
        let control = CONTROL.lines().map(|line| match line.split_once(':') {
            Some((name, _)) if name == field => format!("{field}: {value}\n"),
            _ => format!("{line}\n"),
        });
        let error = refused(&deb_of(&control.collect::<String>(), tar(&[])));
        assert!(error.starts_with(&format!("the field {field} is ")), "{field} {value:?}: {error}");
        assert!(!error.contains('\u{1b}'), "{error:?}");
    }
    for (version, ok) in [("1:25.10-1.2.8.0", true), ("2.0~rc1+b2", true), ("0:1-2-3", true)] {
        assert_eq!(
            parse(&deb_of(&CONTROL.replace("Version: 1", &format!("Version: {version}")), tar(&[]))).is_ok(),
            ok
        );
    }
    assert_eq!(parse(&rpm_with_files(GOOD, 1, "a", "/\0", 1)).unwrap().version, "1-1");
    for (place, field, value) in [
        (0, "Name", "--force-all"),
        (0, "Name", "a;b"),
        (0, "Name", "a*"),
        (0, "Name", ""),
        (1, "Version", "1 2"),
        (1, "Version", "1-2"),
        (2, "Release", "\u{1b}[31m"),
        (3, "Arch", "x86/64"),
    ] {
        let mut texts = GOOD;
        texts[place] = value;
        let error = refused(&rpm_with_files(texts, 1, "a", "/\0", 1));
        assert!(error.starts_with(&format!("the field {field} is ")), "{error}");
        assert!(!error.contains('\u{1b}'), "{error:?}");
    }
}

#[test]
fn trial_w18_a_control_file_that_dpkg_refuses_is_refused() {
    for (control, message) in [
        (format!("{CONTROL}Package: b\n"), "the field Package is there twice"),
        (format!("{CONTROL}\nPackage: b\n"), "the control file tells of more than one package"),
    ] {
        let error = refused(&deb_of(&control, tar(&[])));
        assert!(error.contains(message), "{error}");
    }
    // dpkg reads the file of this name in the archive's root, and no other.
    let elsewhere = ar(&[
        ("debian-binary", b"2.0\n".to_vec()),
        ("control.tar", tar(&[("./sub/control", CONTROL.as_bytes())])),
        ("data.tar", tar(&[])),
    ]);
    assert!(refused(&elsewhere).contains("has no control file"));
}

#[test]
fn trial_w18_files_that_lead_elsewhere_are_refused() {
    for (name, message) in [
        ("./usr/../../etc/passwd", "leads out of the package"),
        ("./lib/modules/a\u{1b}[31m.ko", "control character"),
        ("./lib/modules/a\nb.ko", "control character"),
    ] {
        let mut header = tar_header("", b'0', 0);
        header[..name.len()].copy_from_slice(name.as_bytes());
        let mut parsed = tar::Header::from_byte_slice(&header).clone();
        parsed.set_cksum();
        let error = refused(&deb_of(CONTROL, parsed.as_bytes().to_vec()));
        assert!(error.contains(message), "{error}");
        assert!(!error.contains('\u{1b}') && !error.contains('\n'), "{error:?}");
    }
    let rpm = Sample { files: &["/lib/modules/5.14.0/extra/../a.ko"], ..Sample::default() }.rpm();
    assert!(refused(&rpm).contains("leads out of the package"), "{}", refused(&rpm));
}

/// The bytes of an rpm whose header has these entries (tag, type, offset, count) over this store, behind a signature that tells nothing.
fn rpm_of(entries: &[[u32; 4]], store: &[u8]) -> Vec<u8> {
    let header = |entries: &[[u32; 4]], store: &[u8]| {
        let mut bytes = vec![0x8e, 0xad, 0xe8, 1, 0, 0, 0, 0];
        bytes.extend_from_slice(&u32::try_from(entries.len()).unwrap().to_be_bytes());
        bytes.extend_from_slice(&u32::try_from(store.len()).unwrap().to_be_bytes());
        bytes.extend(entries.iter().flatten().flat_map(|number| number.to_be_bytes()));
        bytes.extend_from_slice(store);
        bytes
    };
    let mut lead = vec![0xed, 0xab, 0xee, 0xdb];
    lead.resize(96, 0);
    [lead, header(&[[1007, 4, 0, 1]], &[0; 8]), header(entries, store)].concat()
}

#[test]
fn trial_w1_entries_of_an_rpm_that_overlap_are_refused() {
    // 60,000 entries over one store of 1 MiB: 60 GB, were each copied.
    let entries: Vec<[u32; 4]> = (0..60_000).map(|number| [2000 + number, 4, 0, 1 << 18]).collect();
    let error = refused(&rpm_of(&entries, &vec![0; 1 << 20]));
    assert!(error.contains("overlaps"), "{error}");
}

/// A package of this name, version, release and architecture, and of so many files, which are all in the first of these folders, and all have this name.
fn rpm_with_files(texts: [&str; 4], files: u32, name: &str, folders: &str, folder_count: u32) -> Vec<u8> {
    let (mut entries, mut store) = (Vec::new(), Vec::new());
    let mut put = |tag: u32, kind: u32, count: u32, values: &[u8]| {
        let width = [1, 1, 1, 2, 4, 8].get(usize::try_from(kind).unwrap()).copied().unwrap_or(1);
        store.resize(usize::next_multiple_of(store.len(), width), 0);
        entries.push([tag, kind, u32::try_from(store.len()).unwrap(), count]);
        store.extend_from_slice(values);
    };
    let many = |value: &[u8]| value.repeat(usize::try_from(files).unwrap());
    for (tag, text) in [1000, 1001, 1002, 1022].into_iter().zip(texts) {
        put(tag, 6, 1, format!("{text}\0").as_bytes());
    }
    put(1030, 3, files, &many(&0o100_644_u16.to_be_bytes()));
    put(1037, 4, files, &many(&[0; 4]));
    put(1044, 6, 1, b"a.src.rpm\0");
    put(1116, 4, files, &many(&[0; 4]));
    put(1117, 8, files, &many(format!("{name}\0").as_bytes()));
    put(1118, 8, folder_count, folders.as_bytes());
    rpm_of(&entries, &store)
}

#[test]
fn trial_w1_as_many_texts_as_zeros_are_refused() {
    assert_eq!(parse(&rpm_with_files(GOOD, 3, "a", "/\0", 1)).unwrap().files.len(), 3);
    let folders = 12 << 20;
    let error =
        refused(&rpm_with_files(GOOD, 1, "a", &"\0".repeat(folders), u32::try_from(folders).unwrap()));
    assert!(error.contains("tag 1118"), "{error}");
}

#[test]
fn trial_w1_one_long_folder_for_many_files_is_refused() {
    // 100,000 files in one folder whose name has 1 MiB: 100 GB of paths.
    let error = refused(&rpm_with_files(GOOD, 100_000, "a", &format!("/{}/\0", "f".repeat(1 << 20)), 1));
    assert!(error.contains("a name of 1048579 bytes"), "{error}");
    // Each of them short, and 400 MB together.
    let error = refused(&rpm_with_files(GOOD, 100_000, "a", &format!("/{}/\0", "f".repeat(4000)), 1));
    assert!(error.contains("bytes of names"), "{error}");
}
