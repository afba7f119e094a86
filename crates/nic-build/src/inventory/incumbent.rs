//! The incumbent's `.checksum`: one MD5 over the lines that `find FOLDER -type f -exec md5sum {} +` prints.
//!
//! The lines stand in the order in which the kernel lists the folder, which is that of a file system and not of names, and
//! hold the folder's path. Nothing in the sum tells the order. On the file system on which it was made the order is the
//! same again; where the folder was copied it may not be. A few files are tried in every order; of many, those in which
//! file systems list. What then still differs may be another order or another file, and cannot be told apart.

use std::path::Path;

use md5::{Digest as _, Md5};

use super::plain_files::PlainFile;

/// Up to this number of files all orders are tried: 40 320, which takes less than a tenth of a second.
const TRIED_IN_EVERY_ORDER: usize = 8;

/// Whether a checksum is of these files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is.
    Same,
    /// It is of other files, or of a folder of another path.
    Different,
    /// There are too many files to try each order in which they could have been listed.
    Undecided,
}

/// The text of a checksum file for these files, listed in this order.
pub(super) fn checksum(folder: &Path, files: &[PlainFile]) -> String {
    let folder = folder.to_string_lossy();
    format!("{}\n", sum_of(&lines(&folder, files).iter().map(String::as_str).collect::<Vec<_>>()))
}

/// Compares the text of a checksum file with what is found. `spellings` are the texts that may have stood for the folder.
pub(super) fn compare(noted: &str, spellings: &[String], found: &[PlainFile]) -> Verdict {
    // md5sum(1) prints a name behind the sum, `-` for its input.
    let noted = noted.split_whitespace().next().unwrap_or_default().to_ascii_lowercase();
    let is_same = |lines: &[&str]| sum_of(lines) == noted;
    for folder in spellings {
        let lines = lines(folder, found);
        let mut order: Vec<&str> = lines.iter().map(String::as_str).collect();
        if is_same(&order) {
            return Verdict::Same;
        }
        order.reverse();
        if is_same(&order) {
            return Verdict::Same;
        }
        // By the name, which stands behind a sum of fixed length.
        order.sort_unstable_by_key(|line| line.get(32..));
        if is_same(&order) {
            return Verdict::Same;
        }
        if order.len() <= TRIED_IN_EVERY_ORDER && any_order(&mut order, &is_same) {
            return Verdict::Same;
        }
    }
    if found.len() > TRIED_IN_EVERY_ORDER { Verdict::Undecided } else { Verdict::Different }
}

fn lines(folder: &str, files: &[PlainFile]) -> Vec<String> {
    files.iter().map(|file| format!("{}  {folder}/{}\n", file.md5, file.name)).collect()
}

fn sum_of(lines: &[&str]) -> String {
    let mut md5 = Md5::new();
    for line in lines {
        md5.update(line);
    }
    hex::encode(md5.finalize())
}

/// Heap's algorithm: each step exchanges two.
fn any_order<'a>(order: &mut [&'a str], is_same: &impl Fn(&[&'a str]) -> bool) -> bool {
    let mut counters = vec![0; order.len()];
    let mut at = 0;
    while let Some(counter) = counters.get_mut(at) {
        if *counter < at {
            order.swap(if at % 2 == 0 { 0 } else { *counter }, at);
            *counter += 1;
            at = 0;
            if is_same(order) {
                return true;
            }
        } else {
            *counter = 0;
            at += 1;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(number: usize) -> Vec<PlainFile> {
        let file = |index| PlainFile {
            name: format!("{index}.rpm"),
            sha256: String::new(),
            md5: hex::encode(Md5::digest(format!("content {index}"))),
        };
        (0..number).map(file).collect()
    }

    #[test]
    fn every_order_of_a_few_files_is_found() {
        let folder = Path::new("/mnt/drivers-inventory/6.8/25.10");
        let spellings = ["/mnt/drivers-inventory//6.8/25.10".to_owned(), folder.display().to_string()];
        for number in 1..=7 {
            let mut stored = files(number);
            // A rotation and an exchange: neither sorted, nor reversed.
            stored.rotate_left(number / 2);
            stored.swap(0, number - 1);
            let noted = checksum(folder, &stored);
            assert_eq!(compare(&noted, &spellings, &files(number)), Verdict::Same, "{number}");
            assert_eq!(compare(&format!("{}  -\n", noted.trim()), &spellings, &files(number)), Verdict::Same);
            stored[0].md5 = files(8)[7].md5.clone();
            assert_eq!(compare(&noted, &spellings, &stored), Verdict::Different, "{number}");
            assert_eq!(compare(&noted, &["/elsewhere".to_owned()], &files(number)), Verdict::Different);
        }
    }

    #[test]
    fn every_order_is_tried_once() {
        let tried = std::cell::RefCell::new(std::collections::BTreeSet::new());
        let mut order = ["a", "b", "c", "d", "e"];
        let collect = |order: &[&str]| {
            tried.borrow_mut().insert(order.concat());
            false
        };
        assert!(!any_order(&mut order, &collect));
        // The order at the beginning is for the caller to try.
        assert_eq!(tried.borrow().len(), 119);
    }

    #[test]
    fn of_many_files_only_the_likely_orders_are_tried() {
        let folder = Path::new("/f");
        let spellings = ["/f".to_owned()];
        let stored = files(12);
        let noted = checksum(folder, &stored);
        let mut found = stored.clone();
        found.reverse();
        assert_eq!(compare(&noted, &spellings, &found), Verdict::Same);
        found.swap(3, 7);
        assert_eq!(compare(&noted, &spellings, &found), Verdict::Undecided);
    }

    #[test]
    fn it_is_what_the_incumbents_commands_print() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b.rpm", "a.rpm", "kmod x.rpm", "c.deb", "z", "1", "2", "3", "4"] {
            std::fs::write(dir.path().join(name), name).unwrap();
        }
        let pipeline =
            format!("find {} -type f -exec md5sum {{}} + | md5sum | cut -d ' ' -f 1", dir.path().display());
        let printed = std::process::Command::new("sh").args(["-c", &pipeline]).output().unwrap();
        let found = super::super::plain_files::read(dir.path()).unwrap();
        assert_eq!(checksum(dir.path(), &found), String::from_utf8(printed.stdout).unwrap());
    }
}
