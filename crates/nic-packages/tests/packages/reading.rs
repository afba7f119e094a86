//! Package files and sets of them, read from small real packages.

use std::error::Error as _;
use std::path::{Path, PathBuf};

use crate::sample::{Sample, ar, compressed};
use nic_host::{Host, KernelRelease, error_chain};
use nic_packages::{
    Architecture, ModuleOrigin, PackageFile, PackageFormat, PackageSet, ParsePackageError, ReadPackageError,
    ReadSetError,
};

const KERNEL: &str = "5.14.0-570.73.1.el9_6.x86_64";

fn kernel() -> KernelRelease {
    KERNEL.parse().unwrap()
}

fn machine() -> Architecture {
    Architecture::from_uname("x86_64")
}

fn strings<'a>(paths: impl IntoIterator<Item = &'a Path>) -> Vec<&'a str> {
    paths.into_iter().map(|path| path.to_str().unwrap()).collect()
}

const FILES: &[&str] = &[
    "/etc/depmod.d/mlnx-ofa_kernel.conf",
    "/lib/modules/5.14.0-570.73.1.el9_6.x86_64/extra/mlnx-ofa_kernel/mlx5_core.ko.xz",
    "/lib/modules/5.14.0-570.73.1.el9_6.x86_64+rt/extra/mlnx-ofa_kernel/mlx5_core.ko",
    "/lib/modules/README",
    "/lib/modules/not-a-kernel/mlx5_core.ko",
    "/usr/lib/modules/5.14.0-570.73.1.el9_6.x86_64/extra/mlnx-ofa_kernel/mlx5_ib.ko.zst",
    "/usr/share/doc/mlnx-ofa_kernel/mlx5.ko.txt",
];

fn assert_content(package: &PackageFile) {
    assert_eq!(package.name, "mlnx-ofa_kernel-modules");
    assert_eq!(strings(package.files.iter().map(PathBuf::as_path)), FILES);
    let kernels: Vec<String> = package.kernels().iter().map(ToString::to_string).collect();
    assert_eq!(kernels, [KERNEL, "5.14.0-570.73.1.el9_6.x86_64+rt"]);
    assert_eq!(strings(package.modules_for(&kernel())), [FILES[1], FILES[5]]);
    assert_eq!(package.modules().count(), 4, "modules for any kernel, and in a folder of none");
}

#[test]
fn an_rpm_tells_its_name_version_architecture_and_files() {
    let bytes = Sample { files: FILES, ..Sample::default() }.rpm();
    let package = PackageFile::parse("/packages/a.rpm", bytes.as_slice()).unwrap();
    assert_eq!(package.path, Path::new("/packages/a.rpm"));
    assert_eq!(package.format, PackageFormat::Rpm);
    assert_eq!(package.version, "25.10-OFED.25.10.1.2.8.1");
    assert_eq!(package.architecture, "x86_64");
    assert_content(&package);
}

#[test]
fn the_epoch_of_an_rpm_is_part_of_its_version() {
    let bytes = Sample { epoch: 2, ..Sample::default() }.rpm();
    assert_eq!(PackageFile::parse("", bytes.as_slice()).unwrap().version, "2:25.10-OFED.25.10.1.2.8.1");
}

#[test]
fn a_deb_is_read_however_it_is_compressed() {
    for suffix in ["", ".gz", ".xz", ".zst"] {
        let sample =
            Sample { version: "1:25.10-1.2.8.0", architecture: "amd64", files: FILES, ..Sample::default() };
        let package = PackageFile::parse("/a.deb", sample.deb(suffix).as_slice()).unwrap();
        assert_eq!(package.format, PackageFormat::Deb);
        assert_eq!(package.version, "1:25.10-1.2.8.0");
        assert_eq!(package.architecture, "amd64");
        assert_content(&package);
    }
}

#[test]
fn what_is_no_package_is_said() {
    let control = |text: &str| {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, "./control", text.as_bytes()).unwrap();
        builder.into_inner().unwrap()
    };
    let deb = |members: &[(&str, Vec<u8>)]| ar(&[&[("debian-binary", b"2.0\n".to_vec())], members].concat());
    let truncated_rpm = {
        let rpm = Sample::default().rpm();
        rpm[..200].to_vec()
    };
    let truncated_xz = {
        let xz = compressed(&control("Package: a\n"), ".xz");
        xz[..xz.len() / 2].to_vec()
    };
    for (bytes, message) in [
        (
            b"#!/bin/sh\n".to_vec(),
            "the file is neither an rpm nor a deb: it begins with [23, 21, 2f, 62, 69, 6e, 2f, 73]",
        ),
        (Vec::new(), "the file is neither an rpm nor a deb: it begins with []"),
        (truncated_rpm, "cannot read the part rpm header: "),
        (deb(&[]), "the package has no control file"),
        (deb(&[("control.tar", control("Package: a\n"))]), "the package has no data.tar"),
        (
            deb(&[("control.tar", control("Package: a\nArchitecture: all\n")), ("data.tar", control(""))]),
            "the package has no field Version",
        ),
        (
            deb(&[("control.tar.lz4", vec![0])]),
            "the part \"control.tar.lz4\" is compressed in an unknown way",
        ),
        (deb(&[("control.tar.xz", truncated_xz)]), "cannot read the part control.tar.xz: "),
        (deb(&[("control.tar.zst", b"not zstd".to_vec())]), "cannot read the part control.tar.zst: "),
    ] {
        let error = PackageFile::parse("/a", bytes.as_slice()).unwrap_err();
        let text = error_chain(&error);
        assert!(text.starts_with(message), "{text:?} does not begin with {message:?}");
    }
}

#[test]
fn a_source_package_is_refused() {
    // An index entry of the header is tag, type, offset, count. The package's SOURCERPM (1044, a string) becomes a
    // SOURCEPACKAGE (1106).
    let mut bytes = Sample::default().rpm();
    let entry = [1044_u32.to_be_bytes(), 6_u32.to_be_bytes()].concat();
    let at = bytes.windows(entry.len()).position(|window| window == entry).unwrap();
    bytes[at..at + 4].copy_from_slice(&1106_u32.to_be_bytes());
    let error = PackageFile::parse("/a.src.rpm", bytes.as_slice()).unwrap_err();
    assert!(matches!(error, ParsePackageError::Source), "{error}");
}

#[test]
fn a_missing_file_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let error = PackageFile::read(&Host::at(dir.path()), "/packages/a.rpm").unwrap_err();
    assert!(matches!(error, ReadPackageError::Open { .. }));
    assert_eq!(error.to_string(), format!("cannot open the package {}/packages/a.rpm", dir.path().display()));
    assert!(error.source().is_some());
}

fn set_of(samples: &[Sample<'_>]) -> PackageSet {
    let dir = tempfile::tempdir().unwrap();
    for sample in samples {
        sample.write_rpm(&dir.path().join("packages"));
    }
    PackageSet::read(&Host::at(dir.path()), "/packages", PackageFormat::Rpm).unwrap()
}

const MODULE: &str = "/lib/modules/5.14.0-570.73.1.el9_6.x86_64/extra/mlx5_core.ko";
const OTHER_MODULE: &str = "/lib/modules/5.14.0-503.11.1.el9_5.x86_64/extra/mlx5_core.ko";

#[test]
fn a_set_is_all_packages_of_one_format_sorted_by_file_name() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("packages");
    Sample { files: &[MODULE], ..Sample::default() }.write_rpm(&folder);
    Sample { name: "mlnx-tools", architecture: "noarch", ..Sample::default() }.write_rpm(&folder);
    Sample { name: "a-deb", architecture: "amd64", ..Sample::default() }.write_deb(&folder);
    std::fs::write(folder.join("build.log"), "").unwrap();
    let host = Host::at(dir.path());
    let set = PackageSet::read(&host, "/packages", PackageFormat::Rpm).unwrap();
    let paths = strings(set.packages.iter().map(|package| package.path.as_path()));
    assert_eq!(
        paths,
        [
            "/packages/mlnx-ofa_kernel-modules-25.10-OFED.25.10.1.2.8.1.x86_64.rpm",
            "/packages/mlnx-tools-25.10-OFED.25.10.1.2.8.1.noarch.rpm",
        ]
    );
    assert_eq!(set.check(&host, &kernel(), &machine()).unwrap(), ModuleOrigin::Built);
    assert_eq!(strings(set.modules_for(&kernel())), [MODULE]);
    let debs = PackageSet::read(&host, "/packages", PackageFormat::Deb).unwrap();
    assert_eq!(debs.packages.len(), 1);
}

#[test]
fn a_folder_that_is_no_set_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (host, folder) = (Host::at(dir.path()), dir.path().join("packages"));
    let read = || PackageSet::read(&host, "/packages", PackageFormat::Rpm).unwrap_err();

    assert!(matches!(read(), ReadSetError::List(_)));

    std::fs::create_dir(&folder).unwrap();
    assert_eq!(read().to_string(), "there are no packages in /packages: no file is named *.rpm");

    let a = folder.join("a.rpm");
    std::fs::write(&a, "not a package").unwrap();
    let text = error_chain(&read());
    assert!(
        text.starts_with("the packages in /packages cannot be used: cannot understand the package "),
        "{text}"
    );

    std::fs::write(&a, Sample { architecture: "amd64", ..Sample::default() }.deb("")).unwrap();
    assert_eq!(read().to_string(), "/packages/a.rpm is a package of the format deb, whatever its name says");

    std::fs::write(&a, Sample::default().rpm()).unwrap();
    std::fs::write(folder.join("b.rpm"), Sample { version: "25.07", ..Sample::default() }.rpm()).unwrap();
    assert_eq!(
        read().to_string(),
        "/packages/a.rpm and /packages/b.rpm both hold the package mlnx-ofa_kernel-modules"
    );
}

#[test]
fn a_set_for_another_machine_is_found_out() {
    let tools = || Sample { name: "mlnx-tools", architecture: "noarch", ..Sample::default() };
    for (samples, result) in [
        (vec![Sample { files: &[MODULE], ..Sample::default() }, tools()], Ok(())),
        (vec![Sample { files: &[MODULE, OTHER_MODULE], ..Sample::default() }], Ok(())),
        (
            vec![Sample { files: &[OTHER_MODULE], ..Sample::default() }, tools()],
            Err("the package mlnx-ofa_kernel-modules is for the kernel 5.14.0-503.11.1.el9_5.x86_64, \
                 and this machine runs 5.14.0-570.73.1.el9_6.x86_64"),
        ),
        (
            vec![
                Sample { files: &[MODULE], ..Sample::default() },
                Sample { name: "kmod-isert", files: &[OTHER_MODULE], ..Sample::default() },
            ],
            Err("the package kmod-isert is for the kernel 5.14.0-503.11.1.el9_5.x86_64, \
                 and this machine runs 5.14.0-570.73.1.el9_6.x86_64"),
        ),
        (
            vec![Sample { architecture: "aarch64", files: &[MODULE], ..Sample::default() }],
            Err(
                "the package mlnx-ofa_kernel-modules is for the architecture aarch64, and this machine is x86_64",
            ),
        ),
        (
            vec![tools()],
            Err("no package in /packages holds a module for the running kernel 5.14.0-570.73.1.el9_6.x86_64"),
        ),
        (
            // Files for the kernel that are no modules.
            vec![Sample { files: &["/lib/modules/5.14.0-570.73.1.el9_6.x86_64/note"], ..Sample::default() }],
            Err("no package in /packages holds a module for the running kernel 5.14.0-570.73.1.el9_6.x86_64"),
        ),
    ] {
        let checked = set_of(&samples).check(&Host::at("/nonexistent"), &kernel(), &machine());
        let checked = checked.map(|_| ()).map_err(|error| error.to_string());
        assert_eq!(checked.as_ref().map_err(String::as_str).copied(), result);
    }
}

/// The places of an rpm's header in a package without padding between signature and header: the number of its entries, its index and
/// the end of its store.
fn header_of(rpm: &[u8]) -> (usize, usize, usize) {
    let number =
        |at: usize| usize::try_from(u32::from_be_bytes(rpm[at..at + 4].try_into().unwrap())).unwrap();
    let signature = 96 + 16 + 16 * number(96 + 8) + number(96 + 12);
    let header = signature.next_multiple_of(8);
    let entries = number(header + 8);
    (entries, header + 16, header + 16 + 16 * entries + number(header + 12))
}

#[test]
fn trial_w1_a_damaged_rpm_is_an_error_and_never_the_end_of_the_process() {
    let files = ["/lib/modules/5.14.0/extra/a.ko", "/etc/depmod.d/a.conf"];
    let whole = Sample { files: &files, ..Sample::default() }.rpm();
    let (entries, index, end) = header_of(&whole);
    let parse = |rpm: &[u8]| PackageFile::parse("/a.rpm", rpm);
    assert_eq!(parse(&whole).unwrap().files.len(), 2);
    // Every byte of lead, signature and header.
    for at in 0..end {
        for flip in [0x01, 0x80, 0xff] {
            let mut damaged = whole.clone();
            damaged[at] ^= flip;
            drop(parse(&damaged));
        }
    }
    // Every field of every entry: type, offset and count.
    for field in (0..entries).flat_map(|entry| [4, 8, 12].map(|field| index + 16 * entry + field)) {
        for value in [0_u32, 8, 1000, 0x7fff_ffff, 0xffff_ffff] {
            let mut damaged = whole.clone();
            damaged[field..field + 4].copy_from_slice(&value.to_be_bytes());
            drop(parse(&damaged));
        }
    }
    // An offset and a count that lead outside are told with their tag.
    for (field, value) in [(8, 0x7fff_ffff_u32), (12, 0x7fff_ffff)] {
        let mut damaged = whole.clone();
        damaged[index + field..index + field + 4].copy_from_slice(&value.to_be_bytes());
        let error = error_chain(&parse(&damaged).unwrap_err());
        assert!(error.contains("points outside"), "{error}");
    }
    // So are sizes: nothing is allocated for them.
    for (at, value) in [(8, 0x00ff_ffff_u32), (12, 0x7fff_ffff)] {
        let mut damaged = whole.clone();
        damaged[index - 16 + at..index - 12 + at].copy_from_slice(&value.to_be_bytes());
        let error = error_chain(&parse(&damaged).unwrap_err());
        assert!(error.contains("the header tells of"), "{error}");
    }
    // And every cut.
    for end in 0..end {
        parse(&whole[..end]).unwrap_err();
    }
}
