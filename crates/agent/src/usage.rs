//! What this machine as a whole uses, others' processes too, asked of its kernel. What instances use is their drivers' to
//! say.

use std::path::Path;
use tutti_api::zone::NodeFigures;
use tutti_model::{
    Millis, Timestamp,
    quantity::{ByteSize, MilliCpu},
};

/// The kernel's running totals at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    at: Timestamp,
    /// Ticks of all cpus that were busy, and all there were.
    busy: u64,
    all: u64,
    received: u64,
    sent: u64,
}

impl Totals {
    /// Those of now. What the kernel does not say is zero.
    pub(crate) fn read(at: Timestamp) -> Totals {
        let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let (busy, all) = ticks(&text("/proc/stat")).unwrap_or_default();
        let (received, sent) = traffic(&text("/proc/net/dev"));
        Totals { at, busy, all, received, sent }
    }

    /// What was used between two moments, and what memory and disk are in use now. `folder` is on the disk that counts.
    pub(crate) fn since(self, before: Totals, folder: &Path) -> NodeFigures {
        let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get) as u64;
        let memory = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| used_memory(&text));
        let disk = rustix::fs::statvfs(folder).ok();
        let disk = disk.map(|disk| disk.f_blocks.saturating_sub(disk.f_bfree).saturating_mul(disk.f_frsize));
        let span = self.at.since(before.at);
        NodeFigures {
            cpu: self.cpu_since(before, cpus),
            memory: memory.unwrap_or_default(),
            disk: ByteSize(disk.unwrap_or_default()),
            received: rate(self.received.saturating_sub(before.received), span),
            sent: rate(self.sent.saturating_sub(before.sent), span),
            instances: Vec::new(),
        }
    }

    fn cpu_since(self, before: Totals, cpus: u64) -> MilliCpu {
        let (busy, all) = (self.busy.saturating_sub(before.busy), self.all.saturating_sub(before.all));
        let milli = busy.saturating_mul(cpus * 1000).checked_div(all).unwrap_or(0);
        MilliCpu(u32::try_from(milli).unwrap_or(u32::MAX))
    }
}

/// Bytes a second.
fn rate(bytes: u64, span: Millis) -> u64 {
    bytes.saturating_mul(1000).checked_div(span.0).unwrap_or(0)
}

/// The ticks that all cpus were busy for, and all ticks, by `/proc/stat`. Its fourth and fifth are idle ones, and the
/// ninth and tenth, of guests, are counted in the first two already.
fn ticks(stat: &str) -> Option<(u64, u64)> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let ticks: Vec<u64> = line.split_ascii_whitespace().take(8).map_while(|tick| tick.parse().ok()).collect();
    let all: u64 = ticks.iter().sum();
    let idle: u64 = ticks.iter().skip(3).take(2).sum();
    (ticks.len() >= 4).then_some((all - idle, all))
}

/// The bytes that came and went over all interfaces but the loopback, by `/proc/net/dev`.
fn traffic(dev: &str) -> (u64, u64) {
    let interfaces = dev.lines().filter_map(|line| line.split_once(':'));
    let counted = interfaces.filter(|(name, _)| name.trim() != "lo").map(|(_, rest)| {
        let fields: Vec<u64> =
            rest.split_ascii_whitespace().map(|field| field.parse().unwrap_or(0)).collect();
        (fields.first().copied().unwrap_or(0), fields.get(8).copied().unwrap_or(0))
    });
    counted.fold((0, 0), |(received, sent), (r, s)| (received.saturating_add(r), sent.saturating_add(s)))
}

/// Memory that cannot be had without taking it from somebody, by `/proc/meminfo`.
fn used_memory(meminfo: &str) -> Option<ByteSize> {
    let kibibytes = |key: &str| -> Option<u64> {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(key))?;
        line.trim().strip_suffix("kB")?.trim().parse().ok()
    };
    let used = kibibytes("MemTotal:")?.saturating_sub(kibibytes("MemAvailable:")?);
    Some(ByteSize(used.checked_mul(1024)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_is_what_was_busy_of_all_that_passed() {
        assert_eq!(ticks("cpu  10 0 5 80 5 0 0 0 0 0\ncpu0 1 2 3\n"), Some((15, 100)));
        assert_eq!((ticks("cpu  1 2\n"), ticks("")), (None, None));
        let before = Totals { busy: 100, all: 1000, ..Totals::default() };
        let now = Totals { busy: 150, all: 1200, ..Totals::default() };
        assert_eq!(now.cpu_since(before, 2), MilliCpu(500));
        assert_eq!(now.cpu_since(now, 2), MilliCpu(0), "nothing has passed");
        assert_eq!(before.cpu_since(now, 2), MilliCpu(0), "a machine that started anew");
    }

    #[test]
    fn traffic_is_that_of_every_interface_but_the_loopback() {
        let dev = "Inter-|   Receive  | Transmit\n face |bytes packets\n\
                   lo: 500 1 0 0 0 0 0 0 500 1 0 0 0 0 0 0\n\
                   eth0: 100 1 0 0 0 0 0 0 40 1 0 0 0 0 0 0\n  eth1:7 1 0 0 0 0 0 0 2 1 0 0 0 0 0 0\n";
        assert_eq!(traffic(dev), (107, 42));
        assert_eq!(rate(2500, Millis(2500)), 1000);
        assert_eq!(rate(1, Millis(0)), 0);
    }

    #[test]
    fn memory_in_use_is_what_is_not_available() {
        let text = "MemTotal: 100 kB\nMemFree: 1 kB\nMemAvailable: 60 kB\n";
        assert_eq!(used_memory(text), Some(ByteSize(40 * 1024)));
        assert_eq!(used_memory("MemTotal: 100 kB\n"), None);
    }
}
