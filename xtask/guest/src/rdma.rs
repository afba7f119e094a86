//! The RDMA stack of the guest, above an igb that stands for the NIC.

use std::collections::BTreeSet;

use anyhow::{Context as _, ensure};

use crate::command::run;
use crate::program::NicDriver;
use crate::{read, write};

/// The NIC family `mlx5`, as it is built in, but with igb for its NIC: the guest has no other that it could take away.
const MLX5: &str = include_str!("../../../crates/nic-driver/families/mlx5.toml");
const FAMILY: &str = "/tmp/lab-stack.toml";
/// What a reload of the family loads, and so what is loaded before and after.
pub(crate) const LISTED: [&str; 9] =
    ["igb", "igbvf", "mlx5_core", "mlx5_ib", "ib_umad", "ib_uverbs", "ib_ipoib", "rdma_cm", "rdma_ucm"];

/// Writes the family's description.
pub(crate) fn describe_family() -> anyhow::Result<()> {
    let mut text = MLX5.to_owned();
    for (of_mlx5, of_lab) in [
        ("name = \"mlx5\"", "name = \"lab-stack\""),
        ("vendor = \"0x15b3\"", "vendor = \"0x8086\""),
        ("pf_drivers = [\"mlx5_core\"]", "pf_drivers = [\"igb\"]"),
        ("vf_drivers = [\"mlx5_core\"]", "vf_drivers = [\"igbvf\"]"),
        ("identity = [", "identity = [\"igb\", \"igbvf\", "),
        ("required = [", "required = [\"igb\", \"igbvf\", "),
        ("\nload = [", "\nload = [\"igb\", \"igbvf\", "),
        ("async_probe = [", "async_probe = [\"igb\", "),
        ("blacklist = [", "blacklist = [\"igb\", \"igbvf\", "),
    ] {
        ensure!(text.contains(of_mlx5), "the family mlx5 has no {of_mlx5:?}");
        text = text.replacen(of_mlx5, of_lab, 1);
    }
    write(FAMILY, &text)?;
    // A swap loads those that the driver has, whether or not they were loaded before it.
    for module in auxiliary()? {
        run("modprobe", [module])?;
    }
    Ok(())
}

/// The auxiliary modules that the guest's mlx5 has.
pub(crate) fn auxiliary() -> anyhow::Result<Vec<&'static str>> {
    let release = read("/proc/sys/kernel/osrelease")?;
    let files = read(format!("/lib/modules/{release}/modules.dep"))?;
    let has = |module: &&str| files.contains(&format!("/{module}.ko"));
    Ok(["mlx5_vdpa", "mlx5_fwctl", "mlx5_dpll"].into_iter().filter(has).collect())
}

/// A call with that family.
pub(crate) fn nic_driver(arguments: &[&str]) -> NicDriver {
    NicDriver::bare(["--family", FAMILY].iter().chain(arguments))
}

/// The names of the loaded modules.
pub(crate) fn loaded() -> anyhow::Result<BTreeSet<String>> {
    let text = read("/proc/modules")?;
    Ok(text.lines().filter_map(|line| line.split(' ').next()).map(ToOwned::to_owned).collect())
}

/// An error that names what has come and what has gone.
pub(crate) fn expect_loaded(before: &BTreeSet<String>) -> anyhow::Result<()> {
    let now = loaded()?;
    let gone: Vec<_> = before.difference(&now).cloned().collect();
    let come: Vec<_> = now.difference(before).cloned().collect();
    ensure!(gone.is_empty() && come.is_empty(), "not loaded any more: {gone:?}; loaded now: {come:?}");
    Ok(())
}

/// Makes the RDMA device rxe0 on a netdev, and gives that an address.
pub(crate) fn make_rxe(netdev: &str, address: &str) -> anyhow::Result<()> {
    run("modprobe", ["rdma_rxe"])?;
    run("ip", ["link", "set", "dev", netdev, "up"])?;
    run("ip", ["address", "add", &format!("{address}/24"), "dev", netdev])?;
    run("rdma", ["link", "add", "rxe0", "type", "rxe", "netdev", netdev]).context("no RDMA device").map(drop)
}
