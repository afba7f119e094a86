//! Where the Kubernetes API is.

use std::collections::BTreeSet;
use std::io::BufReader;
use std::net::IpAddr;

use nic_host::Host;
use procfs::FromBufReadSI as _;
use procfs::net::{TcpNetEntries, TcpState};

use crate::context::Context;

/// The addresses of the API's servers: those that this machine's kubelet is connected to, and the one that a container is told, which mostly
/// is a Service's and leads anywhere.
///
/// A kubelet that cannot be seen, in a container without the host's processes, tells none.
pub(super) fn api_servers(context: &Context) -> BTreeSet<IpAddr> {
    let mut servers = kubelets_peers(&context.host);
    servers.extend(context.settings.kubernetes_api);
    servers
}

/// The other ends of a kubelet's established connections, without those on this machine.
fn kubelets_peers(host: &Host) -> BTreeSet<IpAddr> {
    let processes = host.list("/proc").unwrap_or_default();
    let kubelets = processes.into_iter().filter(|pid| {
        pid.parse::<u32>().is_ok()
            && host.attribute(format!("/proc/{pid}/comm")).ok().flatten().as_deref() == Some("kubelet")
    });
    kubelets.flat_map(|pid| peers_of(host, &pid)).collect()
}

fn peers_of(host: &Host, pid: &str) -> BTreeSet<IpAddr> {
    let folder = format!("/proc/{pid}/fd");
    let open = host.list(&folder).unwrap_or_default();
    let links = open.iter().filter_map(|fd| std::fs::read_link(host.path(format!("{folder}/{fd}"))).ok());
    let sockets: BTreeSet<u64> = links.filter_map(|link| socket(link.to_str()?)).collect();
    let connections: Vec<_> = ["tcp", "tcp6"]
        .into_iter()
        .filter_map(|table| connections(host, &format!("/proc/{pid}/net/{table}")))
        .flatten()
        .collect();
    let local: BTreeSet<IpAddr> =
        connections.iter().map(|one| one.local_address.ip().to_canonical()).collect();
    let of_kubelet =
        connections.iter().filter(|one| sockets.contains(&one.inode) && one.state == TcpState::Established);
    let peers = of_kubelet.map(|one| one.remote_address.ip().to_canonical());
    peers.filter(|peer| !peer.is_loopback() && !local.contains(peer)).collect()
}

/// The number of a socket behind a file descriptor: `socket:[12345]`.
fn socket(link: &str) -> Option<u64> {
    link.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

fn connections(host: &Host, table: &str) -> Option<Vec<procfs::net::TcpNetEntry>> {
    let text = host.read_if_exists(table).ok().flatten()?;
    let entries =
        TcpNetEntries::from_buf_read(BufReader::new(text.as_bytes()), procfs::current_system_info());
    entries
        .inspect_err(|error| tracing::info!(table, %error, "the kubelet's connections are not known"))
        .ok()
        .map(|entries| entries.0)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn fault_3_8_the_api_is_where_the_kubelet_is_connected_to() {
        const HEADER: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let host = Host::at(dir.path());
        assert_eq!(kubelets_peers(&host), BTreeSet::new());
        let line = |local: &str, remote: &str, state: &str, inode: u32| {
            format!(
                "   0: {local} {remote} {state} 00000000:00000000 00:00000000 00000000     0        0 {inode} 1 0 20 4 30 10 -1\n"
            )
        };
        // 192.0.2.9 to 192.0.2.1:6443, to itself, over loopback, one that is closing, and one that is another process's.
        let tcp = [
            HEADER.to_owned(),
            line("090200C0:9C40", "010200C0:192B", "01", 71),
            line("090200C0:9C41", "090200C0:192B", "01", 72),
            line("0100007F:9C42", "0100007F:192B", "01", 73),
            line("090200C0:9C43", "020200C0:192B", "06", 74),
            line("090200C0:9C44", "030200C0:192B", "01", 99),
        ];
        // As the kernel shows an IPv4 connection of an IPv6 socket: ::ffff:192.0.2.4.
        let tcp6 = [
            HEADER.to_owned(),
            line("0000000000000000FFFF0000090200C0:9C45", "0000000000000000FFFF0000040200C0:192B", "01", 75),
        ];
        write("proc/812/comm", "kubelet\n");
        write("proc/813/comm", "sshd\n");
        write("proc/812/net/tcp", &tcp.concat());
        write("proc/812/net/tcp6", &tcp6.concat());
        fs::create_dir_all(dir.path().join("proc/812/fd")).unwrap();
        for inode in 71..76 {
            symlink(format!("socket:[{inode}]"), dir.path().join(format!("proc/812/fd/{inode}"))).unwrap();
        }
        let peers: Vec<String> = kubelets_peers(&host).iter().map(ToString::to_string).collect();
        assert_eq!(peers, ["192.0.2.1", "192.0.2.4"]);
    }
}
