//! Watches that nothing is touched: no netlink change (as `ip monitor` tells it), and no write to the sysfs attributes of
//! the NICs (as inotify tells it, which sees every write that a program makes).

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use std::{fs, thread};

use anyhow::{Context as _, ensure};
use rustix::fs::inotify;
use rustix::io::Errno;

use crate::observe::{igb_pfs, netdev, netdev_of, pci_device, vfs_of};
use crate::{boot, read, write};

const MONITOR: &str = "/tmp/ip-monitor";
/// What `ip monitor` needs to have written what it was told.
const TOLD: Duration = Duration::from_millis(500);

/// A watch that goes on until it is ended.
#[derive(Debug)]
pub(crate) struct Watch {
    monitor: Child,
    writes: OwnedFd,
}

impl Watch {
    /// Begins to watch all igb PFs, their VFs and their netdevs. The watch is tried: a write to each kind of thing is seen.
    pub(crate) fn begin() -> anyhow::Result<Self> {
        let pf = igb_pfs()?.into_iter().next().context("there is no PF")?;
        let watch = Self::start()?;
        let queue = PathBuf::from("/sys/class/net").join(netdev_of(&pf)?).join("tx_queue_len");
        let now = read(&queue)?;
        write(&queue, &(now.parse::<u32>().context("tx_queue_len is no number")? + 1).to_string())?;
        let seen = watch.end()?;
        ensure!(seen.len() >= 2, "a change of tx_queue_len was to be seen twice, and was seen as {seen:?}");
        write(&queue, &now)?;
        boot::settle_udev()?;
        Self::start()
    }

    fn start() -> anyhow::Result<Self> {
        let writes = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC)
            .context("no inotify")?;
        for folder in folders()? {
            inotify::add_watch(&writes, &folder, inotify::WatchFlags::MODIFY)
                .with_context(|| format!("cannot watch {}", folder.display()))?;
        }
        let output = fs::File::create(MONITOR).context("cannot write what the monitor tells")?;
        let monitor = Command::new("ip")
            .args(["-o", "monitor", "link", "address", "route", "rule"])
            .stdin(Stdio::null())
            .stdout(output)
            .spawn()
            .context("cannot start ip monitor")?;
        thread::sleep(TOLD);
        Ok(Self { monitor, writes })
    }

    /// Ends the watch; returns all that was touched since it began.
    pub(crate) fn end(mut self) -> anyhow::Result<Vec<String>> {
        thread::sleep(TOLD);
        self.monitor.kill().context("cannot end the monitor")?;
        self.monitor.wait().context("cannot wait for the monitor")?;
        let mut seen: Vec<String> = read(MONITOR)?.lines().map(ToOwned::to_owned).collect();
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&self.writes, &mut buffer);
        loop {
            match reader.next() {
                Ok(event) => {
                    let name = event.file_name().map(|name| name.to_string_lossy().into_owned());
                    seen.push(format!("sysfs: {} was written", name.unwrap_or_default()));
                }
                Err(Errno::AGAIN) => return Ok(seen),
                Err(error) => return Err(error).context("cannot read inotify's events"),
            }
        }
    }
}

fn folders() -> anyhow::Result<Vec<PathBuf>> {
    let mut folders = vec![
        PathBuf::from("/sys/bus/pci"),
        PathBuf::from("/sys/bus/pci/drivers/igb"),
        PathBuf::from("/sys/bus/pci/drivers/igbvf"),
    ];
    for pf in igb_pfs()? {
        let vfs = vfs_of(&pf)?.into_iter().map(|(_, vf)| vf);
        for device in [pf.clone()].into_iter().chain(vfs) {
            let device = pci_device(&device);
            folders.extend(netdev(&device)?.map(|name| Path::new("/sys/class/net").join(name)));
            folders.push(device);
        }
    }
    Ok(folders)
}
