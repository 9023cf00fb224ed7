//! What this machine has and is, asked of its kernel: its capacity and its labels. What its isolates can do is their
//! drivers' to say.

use std::path::Path;
use tutti_model::{
    node::Resources,
    quantity::{Bandwidth, ByteSize, MilliCpu},
    scheduling::Labels,
};

/// What this machine has: all its memory, every cpu that this process may use, and the speed of the link that leads out.
/// Of the disk, what holds this folder.
#[must_use]
pub fn capacity(folder: &Path) -> Resources {
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    let cpu = MilliCpu(u32::try_from(cpus).unwrap_or(u32::MAX).saturating_mul(1000));
    let memory = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| total_memory(&text));
    if memory.is_none() {
        tracing::warn!("/proc/meminfo does not say how much memory there is");
    }
    Resources {
        cpu,
        memory: memory.unwrap_or_default(),
        bandwidth: bandwidth().unwrap_or_default(),
        disk: disk(folder),
    }
}

/// How large the file system is that holds a folder, or the nearest one above it that there is.
fn disk(folder: &Path) -> ByteSize {
    let found = folder.ancestors().find_map(|folder| rustix::fs::statvfs(folder).ok());
    ByteSize(found.map_or(0, |found| found.f_blocks.saturating_mul(found.f_frsize)))
}

/// What every machine says of itself: `arch` and `os`, as Rust calls them, such as `x86_64` and `linux`.
#[must_use]
pub(crate) fn labels() -> Labels {
    let known = [("arch", std::env::consts::ARCH), ("os", std::env::consts::OS)];
    known.iter().filter_map(|(key, value)| Some((key.parse().ok()?, value.parse().ok()?))).collect()
}

/// The speed of the interface of the default route, where the kernel says one. One without a fixed speed, as of most
/// virtual machines and Wi-Fi, says none.
fn bandwidth() -> Option<Bandwidth> {
    let routes = std::fs::read_to_string("/proc/net/route").ok()?;
    let interface = default_interface(&routes)?;
    // The name is the kernel's own, and cannot have a slash.
    let speed = std::fs::read_to_string(format!("/sys/class/net/{interface}/speed")).ok()?;
    link_speed(&speed)
}

/// The interface of the default route, by `/proc/net/route`: its destination and its mask are zero.
fn default_interface(routes: &str) -> Option<&str> {
    let fields = routes.lines().skip(1).map(|line| line.split_ascii_whitespace().collect::<Vec<_>>());
    let mut defaults = fields.filter(|fields| {
        let zero = |index: usize| fields.get(index).is_some_and(|field| *field == "00000000");
        zero(1) && zero(7)
    });
    defaults.next()?.first().copied()
}

/// A link's speed in megabits a second; -1 or 0 where there is none.
fn link_speed(text: &str) -> Option<Bandwidth> {
    text.trim().parse().ok().filter(|speed| *speed > 0).map(Bandwidth::mbit)
}

fn total_memory(meminfo: &str) -> Option<ByteSize> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(ByteSize(kibibytes.checked_mul(1024)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bandwidth_is_that_of_the_link_that_leads_out() {
        let routes = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
                      docker0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n\
                      eth0\t00000000\t0100000A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n";
        assert_eq!(default_interface(routes), Some("eth0"));
        assert_eq!(default_interface("Iface\tDestination\n"), None);
        assert_eq!(link_speed("10000\n"), Some(Bandwidth::mbit(10_000)));
        assert_eq!((link_speed("-1\n"), link_speed("")), (None, None));
    }

    #[test]
    fn memory_is_read_from_the_kernels_text() {
        assert_eq!(
            total_memory("MemTotal:        8167848 kB\nMemFree: 1 kB\n"),
            Some(ByteSize(8_167_848 * 1024))
        );
        assert_eq!(total_memory("MemFree: 1 kB\n"), None);
        let found = capacity(Path::new("/no/such/folder"));
        assert!(found.memory >= ByteSize::mib(64) && found.cpu.0 >= 1000);
        assert!(found.disk >= ByteSize::mib(64), "of the root, which is the nearest there is");
    }
}
