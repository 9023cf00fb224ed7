//! What files an instance may touch and on which port it may listen, by Landlock: a second wall where it has a root of
//! its own, and the only one where it has not.

use super::{
    Notes, Places,
    root::{DEVICES, SYSTEM},
};
use landlock::{
    ABI, Access as _, AccessFs, AccessNet, CompatLevel, Compatible as _, LandlockStatus, NetPort,
    PathBeneath, PathFd, Ruleset, RulesetAttr as _, RulesetCreatedAttr as _, RulesetError, Scope,
    path_beneath_rules,
};
use std::path::{Path, PathBuf};

/// The newest rules that are written and tested here; an older kernel enforces what it knows of them.
const RULES: ABI = ABI::V7;

/// Restricts the calling process, which has given up new privileges before.
pub(super) fn restrict(places: &Places, port: u16, notes: &mut Notes) {
    match enforce(places, port) {
        Ok(LandlockStatus::Available { effective_abi, .. }) => {
            if effective_abi < ABI::V4 {
                notes.0.push("it may listen on any port: this kernel's Landlock knows no ports".into());
            }
            if effective_abi < ABI::V6 {
                notes.0.push(
                    "it may reach abstract sockets of the host: this kernel's Landlock knows no scopes"
                        .into(),
                );
            }
        }
        Ok(LandlockStatus::NotEnabled | LandlockStatus::NotImplemented) => {
            notes.0.push("its files and ports are not restricted by Landlock: this kernel has none".into());
        }
        Err(error) => notes.0.push(format!("its files and ports are not restricted by Landlock: {error}")),
    }
}

fn enforce(places: &Places, port: u16) -> Result<LandlockStatus, RulesetError> {
    let all = AccessFs::from_all(RULES);
    let read = AccessFs::from_read(RULES);
    let device = AccessFs::ReadFile | AccessFs::WriteFile;
    // What may be run is not what may be written, but for its own folder, which holds what it makes itself.
    let system = SYSTEM.iter().map(|name| Path::new("/").join(name)).filter(|path| path != Path::new("/etc"));
    let seen = [PathBuf::from("/etc"), PathBuf::from("/proc"), PathBuf::from("/run/systemd/resolve")];
    let shared = [PathBuf::from("/dev/shm")];
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(all)?
        .handle_access(AccessNet::BindTcp)?
        .scope(Scope::from_all(RULES))?
        .create()?
        .add_rules(path_beneath_rules(system.chain([places.app.clone()]), read))?
        .add_rules(path_beneath_rules(seen, AccessFs::ReadFile | AccessFs::ReadDir))?
        .add_rules(path_beneath_rules([places.data.clone(), places.tmp.clone()], all))?
        .add_rules(path_beneath_rules(DEVICES.iter().map(|name| Path::new("/dev").join(name)), device))?
        .add_rule(NetPort::new(port, AccessNet::BindTcp))?;
    if places.own_root {
        ruleset = ruleset.add_rules(path_beneath_rules(shared, all))?;
        // Names at the top are listed by some programs at their start; there is nothing secret among them.
        if let Ok(top) = PathFd::new("/") {
            ruleset = ruleset.add_rule(PathBeneath::new(top, AccessFs::ReadDir))?;
        }
    }
    Ok(ruleset.restrict_self()?.landlock)
}
