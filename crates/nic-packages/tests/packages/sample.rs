//! Small real packages, built by the tests.

use std::io::Write as _;
use std::path::Path;

/// What a package is to hold.
pub(crate) struct Sample<'a> {
    pub(crate) name: &'a str,
    pub(crate) version: &'a str,
    pub(crate) release: &'a str,
    pub(crate) epoch: u32,
    pub(crate) architecture: &'a str,
    pub(crate) files: &'a [&'a str],
}

impl Default for Sample<'_> {
    fn default() -> Self {
        Self {
            name: "mlnx-ofa_kernel-modules",
            version: "25.10",
            release: "OFED.25.10.1.2.8.1",
            epoch: 0,
            architecture: "x86_64",
            files: &[],
        }
    }
}

impl Sample<'_> {
    pub(crate) fn rpm(&self) -> Vec<u8> {
        let mut builder =
            rpm::PackageBuilder::new(self.name, self.version, "GPL-2.0-only", self.architecture, "A sample");
        builder
            .release(self.release)
            .with_dir_entry(rpm::FileOptions::dir("/lib/modules"))
            .unwrap()
            .with_ghost(rpm::FileOptions::ghost("/lib/modules/9.9.9-ghost/modules.dep"))
            .unwrap();
        if self.epoch > 0 {
            builder.epoch(self.epoch);
        }
        for file in self.files {
            builder.with_file_contents(*file, rpm::FileOptions::new(*file)).unwrap();
        }
        let mut bytes = Vec::new();
        builder.build().unwrap().write(&mut bytes).unwrap();
        bytes
    }

    /// With control.tar and data.tar compressed as `suffix` (`""`, `.gz`, `.xz`, `.zst`) says.
    pub(crate) fn deb(&self, suffix: &str) -> Vec<u8> {
        let control = format!(
            "Package: {}\nVersion: {}\nArchitecture: {}\nMaintainer: nobody <nobody@example.org>\n\
             Description: A sample\n Version: this line is still the description\n",
            self.name, self.version, self.architecture
        );
        let control = tar(&[("./control", control.as_bytes())]);
        let files: Vec<(String, &[u8])> =
            self.files.iter().map(|file| (format!(".{file}"), file.as_bytes())).collect();
        let data = tar(&files.iter().map(|(name, content)| (name.as_str(), *content)).collect::<Vec<_>>());
        ar(&[
            ("debian-binary", b"2.0\n".to_vec()),
            (&format!("control.tar{suffix}"), compressed(&control, suffix)),
            (&format!("data.tar{suffix}"), compressed(&data, suffix)),
        ])
    }

    pub(crate) fn write_rpm(&self, folder: &Path) {
        let name = format!("{}-{}-{}.{}.rpm", self.name, self.version, self.release, self.architecture);
        std::fs::create_dir_all(folder).unwrap();
        std::fs::write(folder.join(name), self.rpm()).unwrap();
    }

    pub(crate) fn write_deb(&self, folder: &Path) {
        let name = format!("{}_{}_{}.deb", self.name, self.version, self.architecture);
        std::fs::create_dir_all(folder).unwrap();
        std::fs::write(folder.join(name), self.deb(".xz")).unwrap();
    }
}

/// An ar archive, as dpkg-deb writes it.
pub(crate) fn ar(members: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut archive = b"!<arch>\n".to_vec();
    for (name, content) in members {
        let header = format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, "100644", content.len());
        archive.extend_from_slice(header.as_bytes());
        archive.extend_from_slice(content);
        archive.resize(archive.len().next_multiple_of(2), b'\n');
    }
    archive
}

/// A deb with this control file, and with this archive for its data.
pub(crate) fn deb_of(control: &str, data: Vec<u8>) -> Vec<u8> {
    ar(&[
        ("debian-binary", b"2.0\n".to_vec()),
        ("control.tar", tar(&[("./control", control.as_bytes())])),
        ("data.tar", data),
    ])
}

/// A tar archive of these files, with the folders above each in front of it, as dpkg-deb writes it.
pub(crate) fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut folders = std::collections::BTreeSet::new();
    for (name, content) in files {
        let above: Vec<&Path> =
            Path::new(name).ancestors().skip(1).filter(|path| *path != Path::new("")).collect();
        for folder in above.into_iter().rev() {
            if folders.insert(folder.to_path_buf()) {
                let mut header = tar::Header::new_gnu();
                header.set_entry_type(tar::EntryType::Directory);
                header.set_mode(0o755);
                header.set_size(0);
                builder.append_data(&mut header, folder, std::io::empty()).unwrap();
            }
        }
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        builder.append_data(&mut header, name, *content).unwrap();
    }
    builder.into_inner().unwrap()
}

pub(crate) fn compressed(content: &[u8], suffix: &str) -> Vec<u8> {
    match suffix {
        "" => content.to_vec(),
        ".gz" => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(content).unwrap();
            encoder.finish().unwrap()
        }
        ".xz" => {
            let options = lzma_rust2::XzOptions::with_preset(1);
            let mut encoder = lzma_rust2::XzWriter::new(Vec::new(), options).unwrap();
            encoder.write_all(content).unwrap();
            encoder.finish().unwrap()
        }
        ".zst" => ruzstd::encoding::compress_to_vec(content, ruzstd::encoding::CompressionLevel::Fastest),
        other => panic!("no sample is compressed as {other}"),
    }
}
