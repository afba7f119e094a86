//! Names of netdevs, where udev has a say in them.

use crate::command::{ip_batch, run};

/// Two netdevs get each other's names.
///
/// udev, told of a rename, keeps the name that it would have given itself as an alternative one, which in the midst of an
/// exchange takes the name away that the next step is to give. So it is told after the exchange.
pub(crate) fn swap_names(first: &str, second: &str) -> anyhow::Result<()> {
    let mut batch = String::new();
    for (from, to) in [(first, "between"), (second, first), ("between", second)] {
        batch.push_str(&format!("link set dev {from} name {to}\n"));
    }
    run("udevadm", ["control", "--stop-exec-queue"])?;
    let swapped = ip_batch(&batch);
    run("udevadm", ["control", "--start-exec-queue"])?;
    swapped
}
