//! A continuous ping across a data path, to measure how long it was interrupted.

use std::fmt;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail, ensure};
use lab_guest::wiring::{BYSTANDER_MACS, PEER_MAC};
use rustix::process::{Pid, Signal, kill_process};

use crate::command::run;
use crate::observe::netdev_by_mac;
use crate::{vfs, wait};

/// The time between two echo requests.
pub(crate) const INTERVAL: Duration = Duration::from_millis(20);

/// A NIC in its own network namespace, from which pings start.
#[derive(Debug)]
pub(crate) struct FarEnd {
    namespace: String,
    netdev: String,
}

/// A ping that runs.
#[derive(Debug)]
pub(crate) struct Pinger {
    child: Child,
    reader: JoinHandle<anyhow::Result<Record>>,
    /// Replies so far, for [`Pinger::wait_for_reply`].
    replies: std::sync::Arc<std::sync::atomic::AtomicU64>,
}

/// Everything a ping saw.
#[derive(Debug, Default, Clone)]
pub(crate) struct Record {
    /// When each reply arrived (seconds since the epoch) and its sequence number as ICMP counts it, modulo 65536.
    replies: Vec<(f64, u64)>,
    transmitted: u64,
}

/// An interruption: between two replies that should have been [`INTERVAL`] apart.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Outage {
    pub(crate) start: f64,
    pub(crate) end: f64,
}

/// Starts two pings: from the peer to the first VF, and between the two NICs that nobody touches.
pub(crate) fn across_and_beside(every: Duration) -> anyhow::Result<(Pinger, Pinger)> {
    let [near, far] = BYSTANDER_MACS;
    run("ip", ["link", "set", "dev", &netdev_by_mac(near)?, "up"])?;
    let bystander = FarEnd::new("bystander", &netdev_by_mac(far)?)?.ping_every(near, every)?;
    let data = FarEnd::new("peer", &netdev_by_mac(PEER_MAC)?)?.ping_every(&vfs::vf_mac(0, 0), every)?;
    for pinger in [&data, &bystander] {
        pinger.wait_for_reply(Duration::from_secs(20))?;
    }
    Ok((data, bystander))
}

impl FarEnd {
    /// Moves `netdev` into a new namespace and sets it up there.
    pub(crate) fn new(namespace: &str, netdev: &str) -> anyhow::Result<Self> {
        run("ip", ["netns", "add", namespace])?;
        for (path, value) in [("default/accept_dad", "0"), ("all/accept_dad", "0")] {
            run(
                "ip",
                [
                    "netns",
                    "exec",
                    namespace,
                    "sysctl",
                    "-q",
                    "-w",
                    &format!("net.ipv6.conf.{}={value}", path.replace('/', ".")),
                ],
            )?;
        }
        run("ip", ["link", "set", "dev", netdev, "netns", namespace])?;
        run("ip", ["-n", namespace, "link", "set", "dev", netdev, "up"])?;
        Ok(Self { namespace: namespace.to_owned(), netdev: netdev.to_owned() })
    }

    /// The same end on a VLAN.
    pub(crate) fn vlan(&self, id: u16) -> anyhow::Result<Self> {
        let (namespace, below) = (&self.namespace, &self.netdev);
        wait::until("the carrier of the far end", Duration::from_secs(20), || {
            let link = run("ip", ["-n", namespace, "-o", "link", "show", "dev", below])?;
            Ok(link.contains("state UP").then_some(()))
        })?;
        let netdev = format!("far.{id}");
        let number = id.to_string();
        let words = ["link", "add", "link", below, "name", &netdev, "type", "vlan", "id", &number];
        run("ip", [&["-n", namespace][..], &words].concat())?;
        run("ip", ["-n", namespace, "link", "set", "dev", &netdev, "up"])?;
        Ok(Self { namespace: namespace.clone(), netdev })
    }

    /// Starts to ping the link-local address that follows from `mac`.
    ///
    /// The neighbour entry is permanent: what is measured is the data path, and not how often the kernel of the far end
    /// repeats its neighbour solicitations.
    pub(crate) fn ping(&self, mac: &str) -> anyhow::Result<Pinger> {
        self.ping_every(mac, INTERVAL)
    }

    /// The same with another time between two echo requests. Emulated NICs take a good part of a processor for those of
    /// [`INTERVAL`].
    pub(crate) fn ping_every(&self, mac: &str, interval: Duration) -> anyhow::Result<Pinger> {
        let address = link_local(mac)?;
        run(
            "ip",
            [
                "-n",
                &self.namespace,
                "-6",
                "neigh",
                "replace",
                &address,
                "lladdr",
                mac,
                "dev",
                &self.netdev,
                "nud",
                "permanent",
            ],
        )?;
        let interval = format!("{:.2}", interval.as_secs_f64());
        let target = format!("{address}%{}", self.netdev);
        let mut child = Command::new("ip")
            .args(["netns", "exec", &self.namespace, "ping", "-6", "-n", "-D", "-i", &interval, &target])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start ping")?;
        let output = child.stdout.take().context("no pipe for ping's output")?;
        let replies = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
        let count = std::sync::Arc::clone(&replies);
        let reader = std::thread::spawn(move || {
            let mut record = Record::default();
            for line in BufReader::new(output).lines() {
                record.take(&line.context("cannot read ping's output")?);
                count.store(record.replies.len() as u64, std::sync::atomic::Ordering::Relaxed);
            }
            Ok(record)
        });
        Ok(Pinger { child, reader, replies })
    }
}

impl Pinger {
    /// Waits until another reply has arrived, as proof that the path carries now.
    pub(crate) fn wait_for_reply(&self, limit: Duration) -> anyhow::Result<()> {
        let seen = || self.replies.load(std::sync::atomic::Ordering::Relaxed);
        let before = seen();
        wait::until("a reply to a ping", limit, || Ok((seen() > before).then_some(())))
    }

    /// Ends the ping and returns what it saw.
    pub(crate) fn stop(mut self) -> anyhow::Result<Record> {
        // ping prints its statistics on SIGINT; `ip netns exec` has replaced itself by ping.
        let pid =
            i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).context("ping has no process id")?;
        kill_process(pid, Signal::INT).context("cannot interrupt ping")?;
        self.child.wait().context("cannot wait for ping")?;
        let record = self.reader.join().unwrap_or_else(|_| bail!("the reader of ping's output panicked"))?;
        ensure!(record.transmitted > 0, "ping ended without its statistics");
        Ok(record)
    }
}

impl Record {
    fn take(&mut self, line: &str) {
        if let Some((time, sequence)) = parse_reply(line) {
            self.replies.push((time, sequence));
        } else if let Some(transmitted) = parse_statistics(line) {
            self.transmitted = transmitted;
        }
    }

    /// The longest time without a reply that touches the span from `from` to `to` (seconds since the epoch).
    pub(crate) fn longest_outage(&self, from: f64, to: f64) -> Option<Outage> {
        self.replies
            .windows(2)
            .filter_map(|pair| match pair {
                [(start, _), (end, _)] => Some(Outage { start: *start, end: *end }),
                _ => None,
            })
            .filter(|outage| outage.end >= from && outage.start <= to)
            .max_by(|a, b| a.seconds().total_cmp(&b.seconds()))
    }

    /// Requests after the first reply that were never answered. (Before it, the path was not there yet.) The last one may
    /// have been on its way when the ping was ended, and is not counted.
    pub(crate) fn lost(&self) -> u64 {
        let Some((_, first)) = self.replies.first() else { return self.transmitted };
        let expected = (self.transmitted + 1).saturating_sub(*first);
        let answered = self.replies.len() as u64;
        let last_was_answered =
            self.replies.last().is_some_and(|(_, sequence)| *sequence == self.transmitted % 65536);
        let lost = expected.saturating_sub(answered);
        if last_was_answered { lost } else { lost.saturating_sub(1) }
    }

    /// How many requests were sent.
    pub(crate) fn transmitted(&self) -> u64 {
        self.transmitted
    }
}

impl Outage {
    pub(crate) fn seconds(self) -> f64 {
        self.end - self.start
    }
}

impl fmt::Display for Outage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:.2} s", self.seconds())
    }
}

/// Seconds since the epoch, on the clock by which ping stamps its replies.
pub(crate) fn now() -> anyhow::Result<f64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?.as_secs_f64())
}

/// `[1700000000.123456] 64 bytes from fe80::1%eth0: icmp_seq=7 ttl=64 time=0.4 ms`
fn parse_reply(line: &str) -> Option<(f64, u64)> {
    let (time, rest) = line.strip_prefix('[')?.split_once("] ")?;
    if !rest.contains(" bytes from ") {
        return None;
    }
    let (_, rest) = rest.split_once("icmp_seq=")?;
    let (sequence, _) = rest.split_once(' ')?;
    Some((time.parse().ok()?, sequence.parse().ok()?))
}

/// `120 packets transmitted, 118 received, 1.66667% packet loss, time 2431ms`
fn parse_statistics(line: &str) -> Option<u64> {
    let (transmitted, _) = line.split_once(" packets transmitted, ")?;
    transmitted.parse().ok()
}

/// The EUI-64 link-local address of a MAC address (RFC 4291, appendix A).
fn link_local(mac: &str) -> anyhow::Result<String> {
    let bytes: Vec<u8> = mac
        .split(':')
        .map(|byte| u8::from_str_radix(byte, 16))
        .collect::<Result<_, _>>()
        .with_context(|| format!("{mac} is no MAC address"))?;
    let [a, b, c, d, e, f] = bytes.as_slice() else { bail!("{mac} is no MAC address") };
    Ok(format!("fe80::{:02x}{b:02x}:{c:02x}ff:fe{d:02x}:{e:02x}{f:02x}", a ^ 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ping_lines_are_read() {
        let line = "[1700000000.500000] 64 bytes from fe80::1%eth0: icmp_seq=7 ttl=64 time=0.4 ms";
        assert_eq!(parse_reply(line), Some((1_700_000_000.5, 7)));
        assert_eq!(
            parse_reply(
                "[1700000000.5] From fe80::2%eth0 icmp_seq=8 Destination unreachable: Address unreachable"
            ),
            None
        );
        assert_eq!(
            parse_statistics("120 packets transmitted, 118 received, 1.66667% packet loss, time 2431ms"),
            Some(120)
        );
        assert_eq!(
            parse_statistics(
                "120 packets transmitted, 118 received, +3 errors, 1.6% packet loss, time 2431ms"
            ),
            Some(120)
        );
    }

    #[test]
    fn the_longest_outage_of_a_span_is_found() {
        let record =
            Record { replies: vec![(1.0, 1), (1.1, 2), (4.0, 3), (4.1, 4), (6.1, 5)], ..Record::default() };
        assert_eq!(record.longest_outage(0.0, 9.0), Some(Outage { start: 1.1, end: 4.0 }));
        assert_eq!(record.longest_outage(4.05, 9.0), Some(Outage { start: 4.1, end: 6.1 }));
        assert_eq!(record.longest_outage(7.0, 9.0), None);
    }

    #[test]
    fn only_the_last_request_may_be_on_its_way() {
        let lost = |replies: &[u64], transmitted| {
            let replies = replies.iter().map(|sequence| (1.0, *sequence)).collect();
            Record { replies, transmitted }.lost()
        };
        assert_eq!(lost(&[1, 2, 3], 3), 0);
        assert_eq!(lost(&[1, 2], 3), 0, "the third was on its way");
        assert_eq!(lost(&[1, 3], 3), 1);
        assert_eq!(lost(&[1], 3), 1);
        assert_eq!(lost(&[3, 4], 4), 0, "the path came up with the third");
        assert_eq!(lost(&[], 4), 4);
    }

    #[test]
    fn a_link_local_address_follows_from_the_mac() {
        assert_eq!(link_local("02:1a:b0:00:01:07").unwrap(), "fe80::001a:b0ff:fe00:0107");
        assert_eq!(link_local("52:54:00:00:f1:02").unwrap(), "fe80::5054:00ff:fe00:f102");
        assert!(link_local("52:54:00").is_err());
    }
}
