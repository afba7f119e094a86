//! Builds as they are shown: in a line of the terminal that is written over, or line by line where there is none.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::chroot::{Chroot, until};
use crate::dtk_run::{SHARED, openshift, sidecar};
use crate::install_run::ubuntu;

const COLUMNS: u16 = 100;
const TERM: (&str, &str) = ("TERM", "xterm");
/// By what a line of a terminal is taken away: back to its beginning, and all of it erased.
const ERASED: &str = "\r\u{1b}[2K";

/// A terminal, and what was written to it.
struct Screen {
    written: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

impl Screen {
    /// One, with the end that a program is given.
    fn new() -> (Self, OwnedFd) {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let path = ptsname(&master, Vec::new()).unwrap();
        let program = rustix::fs::open(&path, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap();
        let size = Winsize { ws_row: 24, ws_col: COLUMNS, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&program, size).unwrap();
        let written = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&written);
        let reader = std::thread::spawn(move || {
            let (mut master, mut buffer) = (File::from(master), [0; 4096]);
            // The other end is closed: that is an error here.
            while let Ok(length @ 1..) = master.read(&mut buffer) {
                into.lock().unwrap().extend_from_slice(&buffer[..length]);
            }
        });
        (Self { written, reader }, program)
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.written.lock().unwrap()).into_owned()
    }

    /// All of it, once nobody can write to it any more.
    fn end(self) -> String {
        self.reader.join().unwrap();
        String::from_utf8(Arc::try_unwrap(self.written).unwrap().into_inner().unwrap()).unwrap()
    }
}

/// Runs a command whose build is held until all of `words` are on the screen, and returns all that was written to it.
fn shown(
    root: &Chroot,
    building: &Chroot,
    variables: &[(&str, &str)],
    arguments: &[&str],
    words: &[&str],
) -> String {
    building.write("hold", "");
    let (screen, terminal) = Screen::new();
    let mut running = root.start_on_terminal(terminal, &[&[TERM], variables].concat(), arguments);
    until("the build begins", || building.path("log/reached").exists());
    until("the build is shown", || words.iter().all(|words| screen.text().contains(words)));
    building.remove("hold");
    assert_eq!(running.wait(), Some(0), "{}", screen.text());
    screen.end()
}

/// The lines that stay on the screen when all is over, without colours.
fn stays(written: &str) -> Vec<String> {
    let without_colours = |line: &str| -> String {
        let mut parts = line.split('\u{1b}');
        let first = parts.next().unwrap_or_default();
        let coloured = parts.map(|part| part.split_once('m').map_or("", |(_, text)| text));
        std::iter::once(first).chain(coloured).collect()
    };
    let last = |line: &str| without_colours(line.rsplit(ERASED).next().unwrap_or_default());
    written.split('\n').map(|line| last(line.trim_end_matches('\r'))).collect()
}

#[test]
fn on_a_terminal_a_build_is_one_line_that_is_written_over() {
    let root = ubuntu();
    // The second time is shown while nothing is printed.
    let display = [
        "build: 0 of 1 packages done (mlnx-ofed-kernel) 00:00:00 Build mlnx-ofed-kernel 25.10 RPM",
        "build: 0 of 1 packages done (mlnx-ofed-kernel) 00:00:01 Build mlnx-ofed-kernel 25.10 RPM",
    ];
    let written = shown(&root, &root, &[], &["install", "sources"], &display);
    // No line of the display is longer than the screen.
    let shown = written.split(['\n', '\r']).filter(|line| line.contains("packages done"));
    assert!(
        shown.clone().all(|line| line.chars().count() <= usize::from(COLUMNS) + ERASED.len()),
        "{written:?}"
    );
    let lines = stays(&written);
    assert!(!lines.iter().any(|line| line.contains("packages done")), "the display stays: {lines:#?}");
    // Logs stand above it, each in a line of its own; the lines of the build are not among them.
    for log in ["phase begins", "step=build packages from", "phase ends"] {
        let found =
            lines.iter().find(|line| line.contains(log)).unwrap_or_else(|| panic!("{log}: {lines:#?}"));
        assert!(found.starts_with("20"), "{found:?}");
    }
    assert!(!lines.iter().any(|line| line.contains("Build mlnx-ofed-kernel")), "{lines:#?}");
}

#[test]
fn logs_stand_above_the_display_each_in_a_line_of_its_own() {
    let root = ubuntu();
    let display = ["build: 0 of 1 packages done (mlnx-ofed-kernel) 00:00:0"];
    // At this level the lines of the build are logged as well, while the display is there.
    let command = ["--log", "debug", "install", "sources"];
    let lines = stays(&shown(&root, &root, &[], &command, &display));
    assert!(lines.iter().any(|line| line.contains("build: Build mlnx-ofed-kernel 25.10 RPM")), "{lines:#?}");
    // Of a command's last words some are printed in lines of their own.
    let logs: Vec<_> =
        lines.iter().filter(|line| line.contains(" nic_driver::") || line.contains(" nic_host::")).collect();
    assert!(logs.len() > 20 && logs.iter().all(|line| line.starts_with("20")), "{logs:#?}");
}

#[test]
fn on_a_terminal_the_sidecars_build_is_shown_as_well() {
    let root = openshift();
    let _sidecar = sidecar(&root, &[]);
    let display = ["build sidecar: 0 of 1 packages done 00:00:0", "Build mlnx-ofed-kernel 25.10 RPM"];
    let written = shown(&root, &root, &[SHARED], &["install", "dtk"], &display);
    assert!(!stays(&written).iter().any(|line| line.contains("packages done")), "{written}");
}

#[test]
fn a_build_that_is_given_up_leaves_no_display() {
    let root = ubuntu();
    root.write("hold", "");
    let (screen, terminal) = Screen::new();
    let mut running = root.start_on_terminal(terminal, &[TERM], &["install", "sources"]);
    until("the build is shown", || screen.text().contains("0 of 1 packages done"));
    running.terminate();
    assert_eq!(running.wait(), Some(nic_driver::Exit::Interrupted as i32));
    root.remove("hold");
    let lines = stays(&screen.end());
    assert!(!lines.iter().any(|line| line.contains("packages done")), "{lines:#?}");
    assert!(lines.iter().any(|line| line.starts_with("nic-driver: stopped as asked")), "{lines:#?}");
}

#[test]
fn elsewhere_there_are_plain_lines_alone() {
    let root = ubuntu();
    let plain = root.run(&[], &["install", "sources"]);
    plain.succeeded();
    let line =
        plain.stderr.lines().find(|line| line.contains("build: Build mlnx-ofed-kernel 25.10 RPM")).unwrap();
    assert!(line.contains("package=\"mlnx-ofed-kernel\" done=0 known=1"), "{line}");
    assert!(
        !plain.stderr.contains(['\r', '\u{1b}']) && !plain.stderr.contains("packages done"),
        "{}",
        plain.stderr
    );
    // Nor for a program that reads a terminal, or for a terminal that cannot write over a line.
    for (variables, options) in
        [(&[("TERM", "dumb")][..], &[][..]), (&[], &[]), (&[TERM], &["--log-format", "json"])]
    {
        let (screen, terminal) = Screen::new();
        let command = [options, &["install", "sources"]].concat();
        let mut running = root.start_on_terminal(terminal, variables, &command);
        assert_eq!(running.wait(), Some(0));
        let written = screen.end();
        assert!(written.contains("build: Build mlnx-ofed-kernel 25.10 RPM"), "{written}");
        assert!(!written.contains(ERASED) && !written.contains("packages done"), "{written}");
    }
}
