//! Control groups of one instance, on hosts with version 1, version 2, or both: limits, usage, and the end of all that
//! is in them.
//!
//! Each controller is used where it is mounted. Where version 2 is mounted, a group is made there in any case, since it
//! can be killed whole. Groups are `tutti/INSTANCE` below the mount, or below the agent's own group where that is all
//! it may write to.

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeSet,
    fs, io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// Most processes and threads of an instance: plenty for a server with a thread a request at the default concurrency,
/// and a fork bomb is over in a moment.
pub(crate) const TASKS: u32 = 1024;

/// How long a group may take to become empty after its processes were killed; the kernel needs milliseconds.
const EMPTY_WITHIN: Duration = Duration::from_secs(5);

/// One group of an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Group {
    /// Its folder.
    pub(crate) path: PathBuf,
    /// Whether it is of version 2.
    pub(crate) unified: bool,
    /// The controllers that it has: `memory`, `cpu`, `cpuacct`, `pids`.
    pub(crate) controllers: Vec<String>,
}

/// What is limited.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Bytes.
    pub(crate) memory: u64,
    /// Thousandths of a cpu.
    pub(crate) milli_cpu: u32,
}

const CONTROLLERS: [&str; 4] = ["memory", "cpu", "cpuacct", "pids"];

/// A mounted hierarchy.
struct Hierarchy {
    mount: PathBuf,
    unified: bool,
    controllers: Vec<String>,
    /// The agent's own group in it.
    own: PathBuf,
}

/// Makes the groups of an instance and sets their limits. Gives what was made, and a sentence for each part that the
/// host refused.
pub(crate) fn create(instance: &str, limits: Limits) -> (Vec<Group>, Vec<String>) {
    let mut groups = Vec::new();
    let mut weaker = Vec::new();
    let mut refused: Vec<(String, String)> = Vec::new();
    for hierarchy in hierarchies() {
        match make(&hierarchy, instance) {
            Ok(group) => groups.push(group),
            Err(error) => {
                refused.extend(hierarchy.controllers.into_iter().map(|name| (name, error.to_string())))
            }
        }
    }
    let limited =
        [("memory", "its memory"), ("cpu", "its share of cpu"), ("pids", "its number of processes")];
    for (controller, what) in limited {
        let result = match groups.iter().find(|group| group.has(controller)) {
            Some(group) => group.limit(controller, limits).map_err(|error| error.to_string()),
            None => Err(match refused.iter().find(|(name, _)| name == controller) {
                Some((_, why)) => format!("no {controller} control group: {why}"),
                None => format!("this host offers no {controller} control group"),
            }),
        };
        if let Err(why) = result {
            weaker.push(format!("{what} is not limited: {why}"));
        }
    }
    (groups, weaker)
}

fn hierarchies() -> Vec<Hierarchy> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    parse(&mounts, &own, |mount| fs::read_to_string(mount.join("cgroup.controllers")).unwrap_or_default())
}

/// Reads the kernel's tables. Each controller is taken from the first hierarchy that has it.
fn parse(mounts: &str, own: &str, unified_controllers: impl Fn(&Path) -> String) -> Vec<Hierarchy> {
    let mut taken: Vec<String> = Vec::new();
    let mut found: Vec<Hierarchy> = Vec::new();
    for line in mounts.lines() {
        let mut fields = line.split(' ');
        let (Some(_), Some(mount), Some(kind), Some(options)) =
            (fields.next(), fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let mount = PathBuf::from(mount);
        let unified = kind == "cgroup2";
        if !unified && kind != "cgroup" {
            continue;
        }
        let offered = if unified { unified_controllers(&mount) } else { options.replace(',', " ") };
        let controllers: Vec<String> = offered
            .split_whitespace()
            .filter(|name| CONTROLLERS.contains(name) && !taken.iter().any(|other| other == name))
            .map(str::to_owned)
            .collect();
        if (controllers.is_empty() && !unified) || (unified && found.iter().any(|other| other.unified)) {
            continue;
        }
        taken.extend(controllers.iter().cloned());
        let own = own_group(own, unified, &controllers);
        found.push(Hierarchy { mount, unified, controllers, own });
    }
    found
}

/// This process's group in a hierarchy, relative to its mount.
fn own_group(own: &str, unified: bool, controllers: &[String]) -> PathBuf {
    let path = own.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (names, path) = rest.split_once(':')?;
        let ours = if unified {
            names.is_empty()
        } else {
            names.split(',').any(|name| controllers.iter().any(|other| other == name))
        };
        ours.then_some(path)
    });
    PathBuf::from(path.unwrap_or("/").trim_start_matches('/'))
}

fn make(hierarchy: &Hierarchy, instance: &str) -> io::Result<Group> {
    let top = hierarchy.mount.join("tutti");
    let path = match make_below(hierarchy, &top, instance) {
        Ok(path) => path,
        Err(error) if hierarchy.own.as_os_str().is_empty() => return Err(error),
        Err(_) => make_below(hierarchy, &hierarchy.mount.join(&hierarchy.own).join("tutti"), instance)?,
    };
    let mut controllers = hierarchy.controllers.clone();
    if hierarchy.unified {
        let enabled = fs::read_to_string(path.join("cgroup.controllers")).unwrap_or_default();
        controllers.retain(|name| enabled.split_whitespace().any(|other| other == name));
        // Usage of cpu is always counted in version 2.
        controllers.push("cpuacct".into());
    }
    Ok(Group { path, unified: hierarchy.unified, controllers })
}

fn make_below(hierarchy: &Hierarchy, parent: &Path, instance: &str) -> io::Result<PathBuf> {
    let path = parent.join(instance);
    // Whoever removes the last instance's group also removes the parent, perhaps between our two steps: try again.
    for _ in 0..10 {
        make_folder(parent)?;
        if hierarchy.unified {
            enable(parent.parent().unwrap_or(parent), &hierarchy.controllers);
            enable(parent, &hierarchy.controllers);
        } else if hierarchy.controllers.iter().any(|name| name == "cpu") {
            // Without this, all instances together would count as one process of the host.
            let cpus = std::thread::available_parallelism().map_or(1, usize::from);
            let _ = fs::write(parent.join("cpu.shares"), (1024 * cpus).to_string());
        }
        match make_folder(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => return other.map(|()| path),
        }
    }
    Err(io::Error::other(format!("{} does not stay", parent.display())))
}

fn make_folder(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

fn enable(folder: &Path, controllers: &[String]) {
    for name in controllers {
        // Refused where processes live in this very group; what is then missing shows in `cgroup.controllers` below.
        let _ = fs::write(folder.join("cgroup.subtree_control"), format!("+{name}"));
    }
}

/// The groups that an instance left, where nobody noted which they are.
pub(crate) fn left(instance: &str) -> Vec<Group> {
    let mut groups = Vec::new();
    for hierarchy in hierarchies() {
        for parent in [hierarchy.mount.clone(), hierarchy.mount.join(&hierarchy.own)] {
            let path = parent.join("tutti").join(instance);
            if path.is_dir() && groups.iter().all(|group: &Group| group.path != path) {
                groups.push(Group {
                    path,
                    unified: hierarchy.unified,
                    controllers: hierarchy.controllers.clone(),
                });
            }
        }
    }
    groups
}

impl Group {
    pub(crate) fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|name| name == controller)
    }

    fn processes(&self) -> BTreeSet<i32> {
        let listed = fs::read_to_string(self.path.join("cgroup.procs")).unwrap_or_default();
        listed.lines().filter_map(|line| line.parse().ok()).collect()
    }

    fn limit(&self, controller: &str, limits: Limits) -> io::Result<()> {
        let set = |file: &str, value: String| {
            fs::write(self.path.join(file), value)
                .map_err(|error| io::Error::new(error.kind(), format!("{file}: {error}")))
        };
        match (controller, self.unified) {
            ("memory", true) => {
                set("memory.max", limits.memory.to_string())?;
                // Not every kernel has these two.
                let _ = set("memory.swap.max", "0".into());
                let _ = set("memory.oom.group", "1".into());
                Ok(())
            }
            ("memory", false) => {
                set("memory.limit_in_bytes", limits.memory.to_string())?;
                let _ = set("memory.memsw.limit_in_bytes", limits.memory.to_string());
                Ok(())
            }
            // A share, not a ceiling: an instance may use what nobody else wants, and under load gets what it was
            // promised. A ceiling at the default of a tenth of a cpu would make each start ten times slower.
            ("cpu", true) => set("cpu.weight", (limits.milli_cpu / 10).clamp(1, 10_000).to_string()),
            ("cpu", false) => {
                set("cpu.shares", (u64::from(limits.milli_cpu) * 1024 / 1000).max(2).to_string())
            }
            _ => set("pids.max", TASKS.to_string()),
        }
    }
}

/// Puts the calling process into the groups.
pub(crate) fn enter(groups: &[Group]) -> io::Result<()> {
    for group in groups {
        fs::write(group.path.join("cgroup.procs"), "0").map_err(|error| {
            io::Error::new(error.kind(), format!("entering {}: {error}", group.path.display()))
        })?;
    }
    Ok(())
}

/// Kills all that is in the groups and removes them. Whatever is not there any more is fine.
pub(crate) fn end(groups: &[Group]) -> io::Result<()> {
    kill(groups);
    let deadline = Instant::now() + EMPTY_WITHIN;
    let mut result = Ok(());
    for group in groups {
        loop {
            match fs::remove_dir(&group.path) {
                Ok(()) => break,
                Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                Err(error) if Instant::now() >= deadline => {
                    result = Err(io::Error::new(
                        error.kind(),
                        format!("removing {}: {error}", group.path.display()),
                    ));
                    break;
                }
                Err(_) => {
                    kill(std::slice::from_ref(group));
                    // A killed process leaves its group when it is reaped, of which nothing tells us.
                    std::thread::sleep(Duration::from_millis(2));
                }
            }
        }
        if let Some(parent) = group.path.parent() {
            // Fails while others are in it.
            let _ = fs::remove_dir(parent);
        }
    }
    result
}

/// Kills all that is in the groups. They may not be gone yet when this returns.
pub(crate) fn kill(groups: &[Group]) {
    for group in groups {
        if group.unified && fs::write(group.path.join("cgroup.kill"), "1").is_ok() {
            continue;
        }
        if group.has("pids") {
            // No more forks: else a fork bomb might outrun the loop below.
            let _ = fs::write(group.path.join("pids.max"), "0");
        }
        // A number may be given to a stranger between our look and our kill. So each process is held first and killed
        // only if its number still is in the group: what is held then is what is in it.
        let held: Vec<(i32, OwnedFd)> = group
            .processes()
            .into_iter()
            .filter_map(|number| {
                Some((number, pidfd_open(Pid::from_raw(number)?, PidfdFlags::empty()).ok()?))
            })
            .collect();
        let still = group.processes();
        for (_, process) in held.into_iter().filter(|(number, _)| still.contains(number)) {
            let _ = pidfd_send_signal(process, Signal::KILL);
        }
    }
}

/// How many processes were killed because the memory limit was reached.
pub(crate) fn out_of_memory_kills(groups: &[Group]) -> u64 {
    let Some(group) = groups.iter().find(|group| group.has("memory")) else { return 0 };
    let file = if group.unified { "memory.events" } else { "memory.oom_control" };
    keyed(&group.path.join(file), "oom_kill").unwrap_or(0)
}

/// Bytes of memory in use, without what the kernel would drop first; `None` if nobody counts.
pub(crate) fn memory(groups: &[Group]) -> Option<u64> {
    let group = groups.iter().find(|group| group.has("memory"))?;
    let (usage, key) = if group.unified {
        ("memory.current", "inactive_file")
    } else {
        ("memory.usage_in_bytes", "total_inactive_file")
    };
    let usage = number(&group.path.join(usage))?;
    Some(usage.saturating_sub(keyed(&group.path.join("memory.stat"), key).unwrap_or(0)))
}

/// Cpu time used, in microseconds; `None` if nobody counts.
pub(crate) fn cpu_micros(groups: &[Group]) -> Option<u64> {
    let exact = groups.iter().find(|group| group.has("cpuacct") && !group.unified);
    if let Some(group) = exact {
        return number(&group.path.join("cpuacct.usage")).map(|nanos| nanos / 1000);
    }
    let group = groups.iter().find(|group| group.unified)?;
    keyed(&group.path.join("cpu.stat"), "usage_usec")
}

fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// The number after `key` in a file of lines `KEY NUMBER`.
fn keyed(path: &Path, key: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(found: &[Hierarchy]) -> Vec<String> {
        found
            .iter()
            .map(|one| {
                format!(
                    "{} {} [{}] {}",
                    one.mount.display(),
                    one.unified,
                    one.controllers.join(","),
                    one.own.display()
                )
            })
            .collect()
    }

    #[test]
    fn version_2_alone() {
        let found =
            parse("cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid 0 0\n", "0::/user.slice/a.scope\n", |_| {
                "cpuset cpu io memory hugetlb pids".into()
            });
        assert_eq!(shown(&found), ["/sys/fs/cgroup true [cpu,memory,pids] user.slice/a.scope"]);
    }

    #[test]
    fn version_1_with_controllers_mounted_together() {
        let mounts = "tmpfs /sys/fs/cgroup tmpfs ro 0 0\n\
            cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,cpu,cpuacct 0 0\n\
            cgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0\n\
            cgroup /sys/fs/cgroup/systemd cgroup rw,name=systemd 0 0\n";
        let found = parse(mounts, "3:memory:/a/b\n2:cpu,cpuacct:/\n1:name=systemd:/x\n", |_| String::new());
        assert_eq!(
            shown(&found),
            ["/sys/fs/cgroup/cpu,cpuacct false [cpu,cpuacct] ", "/sys/fs/cgroup/memory false [memory] a/b"]
        );
    }

    #[test]
    fn hybrid_takes_each_controller_once() {
        let mounts = "cgroup /c/memory cgroup rw,memory 0 0\ncgroup2 /c/unified cgroup2 rw 0 0\n";
        let found = parse(mounts, "1:memory:/\n0::/\n", |_| "hugetlb memory pids".into());
        assert_eq!(shown(&found), ["/c/memory false [memory] ", "/c/unified true [pids] "]);
    }
}
