//! `cargo xtask pictures`: pages that people look at, as a real browser shows them: light, dark, folded out and printed. Fails when a page makes
//! the browser complain. Whether they are good to look at, somebody has to look.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use clap::Args;

use crate::{fixtures, workspace};

/// As distributions call it.
const BROWSERS: [&str; 4] = ["chromium", "chromium-browser", "google-chrome-stable", "google-chrome"];
/// A page that takes longer is no use in an incident review, on this machine as on others.
const LONGEST: Duration = Duration::from_secs(20);
/// A page that the browser has to complain of, so that its silence means something.
const BROKEN: &str = "<!doctype html><html><head><meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'\"></head>\
    <body><img src=\"picture.png\"></body></html>";

#[derive(Debug, Args)]
pub(crate) struct Arguments {}

pub(crate) fn run(Arguments {}: &Arguments) -> anyhow::Result<()> {
    let metadata = workspace::metadata()?;
    let target = metadata.target_directory.as_std_path();
    let folder = target.join("pictures");
    fs::create_dir_all(&folder)?;
    let browser = Browser::find(&folder)?;
    let program = build(target)?;
    browser.ensure_it_complains()?;
    // One port without VFs, as on the documented node, and eight with 127.
    let many = [127, 0, 127, 127, 127, 127, 127, 127, 127];
    for (name, vfs) in [("documented-night", &[50, 0][..]), ("many-vfs", &many)] {
        let page = page(&program, &folder, name, vfs)?;
        browser.take_pictures(&page, name)?;
    }
    println!("{}", folder.display());
    Ok(())
}

fn build(target: &Path) -> anyhow::Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo).args(["build", "--package", "nic-driver"]).status()?;
    ensure!(built.success(), "the program cannot be built");
    Ok(target.join("debug/nic-driver"))
}

/// The report of such a night, as a page.
fn page(program: &Path, folder: &Path, name: &str, vfs: &[usize]) -> anyhow::Result<PathBuf> {
    let state = folder.join(name);
    fs::create_dir_all(&state)?;
    fs::write(state.join("journal.jsonl"), fixtures::night(vfs)?)?;
    let page = folder.join(format!("{name}.html"));
    let began = Instant::now();
    let told = Command::new(program)
        .arg("--state-dir")
        .arg(&state)
        .args(["report", "--format", "html", "--file"])
        .arg(&page)
        .status()?;
    ensure!(told.success(), "report fails for {name}");
    let (all, size) = (vfs.iter().sum::<usize>(), fs::metadata(&page)?.len());
    println!("{name}: {all} VFs, {} KiB, told in {:.2} s", size >> 10, began.elapsed().as_secs_f64());
    Ok(page)
}

struct Browser {
    program: &'static str,
    folder: PathBuf,
}

impl Browser {
    fn find(folder: &Path) -> anyhow::Result<Self> {
        let is_there = |program: &&str| Command::new(program).arg("--version").output().is_ok();
        let program = BROWSERS
            .into_iter()
            .find(is_there)
            .context("no browser is installed that can take pictures: apt-get install chromium")?;
        Ok(Self { program, folder: folder.to_path_buf() })
    }

    /// Lets the browser show a page; what it complains of.
    fn show(&self, page: &Path, arguments: &[String]) -> anyhow::Result<Vec<String>> {
        let output = Command::new(self.program)
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--enable-logging=stderr",
                "--hide-scrollbars",
            ])
            .arg(format!("--user-data-dir={}", self.folder.join("browser").display()))
            .args(arguments)
            .arg(format!("file://{}", page.display()))
            .output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "the browser fails on {}:\n{said}", page.display());
        Ok(said.lines().filter(|line| line.contains(":CONSOLE")).map(str::to_owned).collect())
    }

    fn ensure_it_complains(&self) -> anyhow::Result<()> {
        let page = self.folder.join("broken.html");
        fs::write(&page, BROKEN)?;
        let complaints =
            self.show(&page, &[format!("--screenshot={}", self.folder.join("broken.png").display())])?;
        ensure!(
            !complaints.is_empty(),
            "the browser does not complain of what a page is not allowed to load"
        );
        Ok(())
    }

    fn take_pictures(&self, page: &Path, name: &str) -> anyhow::Result<()> {
        // With all that is folded.
        let unfolded = self.folder.join(format!("{name}-unfolded.html"));
        fs::write(&unfolded, fs::read_to_string(page)?.replace("<details>", "<details open>"))?;
        let png =
            |look: &str| format!("--screenshot={}", self.folder.join(format!("{name}-{look}.png")).display());
        let window = |height: usize| format!("--window-size=1280,{height}");
        let dark = "--blink-settings=preferredColorScheme=0".to_owned();
        let pdf = format!("--print-to-pdf={}", self.folder.join(format!("{name}.pdf")).display());
        for (look, page, arguments) in [
            ("light", page, vec![png("light"), window(3200)]),
            ("dark", page, vec![png("dark"), window(3200), dark]),
            ("narrow", page, vec![png("narrow"), "--window-size=500,2400".to_owned()]),
            ("unfolded", &*unfolded, vec![png("unfolded"), window(6000)]),
            ("print", page, vec![pdf, "--no-pdf-header-footer".to_owned()]),
        ] {
            let began = Instant::now();
            let complaints = self.show(page, &arguments)?;
            let took = began.elapsed();
            if !complaints.is_empty() {
                bail!("the browser complains of {name}, {look}:\n{}", complaints.join("\n"));
            }
            ensure!(took < LONGEST, "{name}, {look}, takes {:.1} s", took.as_secs_f64());
            println!("  {look}: {:.1} s, the browser's start included", took.as_secs_f64());
        }
        Ok(())
    }
}
