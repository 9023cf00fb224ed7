//! `tutti pool`: machines that come when nothing fits, and go when nothing needs them.

use super::{Session, now};
use crate::{
    args::{PoolArgs, PoolCommand},
    exit::Failed,
    table::{Cell, Table, toned},
    text::{count, since},
    ui::{Tone, Ui},
};
use tutti_api::{
    client::Filter,
    pools::{SetPool, every_isolate},
};
use tutti_model::{
    ErrorCode, Kind, Problem, Resource, Timestamp,
    pool::{MachineState, POOL_IDLE, PoolMachine, PoolName, PoolSpec},
};

pub(super) async fn pool(session: &Session<'_>, command: PoolCommand) -> Result<(), Failed> {
    match command {
        PoolCommand::Set(args) => set(session, &args).await,
        PoolCommand::List => {
            let pools: Vec<Resource<PoolSpec>> = session.client.list(&Filter::default()).await?;
            session.ui.result(&pools, || list(&pools).show(session.ui))
        }
        PoolCommand::Show { pool } => {
            let pool = session.client.get::<PoolSpec>(pool.as_str()).await?;
            session.ui.result(&pool, || {
                let machines = machines(&pool, now()).show(session.ui);
                format!("{}{machines}{}", heading(&pool), failures(&pool, session.ui))
            })
        }
        PoolCommand::Remove { pool } => remove(session, &pool).await,
    }
}

async fn set(session: &Session<'_>, args: &PoolArgs) -> Result<(), Failed> {
    let known = match session.client.get::<PoolSpec>(args.pool.as_str()).await {
        Ok(known) => Some(known.spec),
        Err(problem) if problem.code == ErrorCode::NotFound => None,
        Err(problem) => return Err(problem.into()),
    };
    let asked = asked(args, known.as_ref())?;
    let pool = session.client.set_pool(&args.pool, &asked).await?;
    session.ui.result(&pool, || {
        let spec = &pool.spec;
        format!(
            "pool {0} has {1} to {2} machines; its commands are in the tutti.toml of each control, under [pool.{0}]\n",
            pool.name, spec.min, spec.max
        )
    })
}

/// What there is, with what the flags change.
fn asked(args: &PoolArgs, known: Option<&PoolSpec>) -> Result<SetPool, Problem> {
    let missing = |flag: &str| {
        Problem::invalid(format!("pool {} is new, and has no {flag}", args.pool)).hint(format!(
            "say what one machine has and how many there may be: --cpu 2 --memory 4Gi --max 3; give --{flag}"
        ))
    };
    let offers = known.map(|known| known.offers);
    Ok(SetPool {
        min: args.min.or_else(|| Some(known?.min)).unwrap_or(0),
        max: args.max.or_else(|| Some(known?.max)).ok_or_else(|| missing("max"))?,
        cpu: args.cpu.or_else(|| Some(offers?.cpu)).ok_or_else(|| missing("cpu"))?,
        memory: args.memory.or_else(|| Some(offers?.memory)).ok_or_else(|| missing("memory"))?,
        bandwidth: args.bandwidth.or_else(|| Some(offers?.bandwidth)).unwrap_or_default(),
        disk: args.disk.or_else(|| Some(offers?.disk)).unwrap_or_default(),
        isolates: match known {
            Some(known) if args.isolates.is_empty() => known.isolates.clone(),
            _ if args.isolates.is_empty() => every_isolate(),
            _ => args.isolates.clone(),
        },
        labels: match known {
            Some(known) if args.labels.is_empty() => known.labels.clone(),
            _ => args.labels.iter().cloned().collect(),
        },
        taints: match known {
            Some(known) if args.taints.is_empty() => known.taints.clone(),
            _ => args.taints.clone(),
        },
        idle: args.idle.or_else(|| Some(known?.idle)).unwrap_or(POOL_IDLE),
    })
}

async fn remove(session: &Session<'_>, pool: &PoolName) -> Result<(), Failed> {
    session.client.delete(Kind::Pool, pool.as_str()).await?;
    session.done(&format!("pool {pool} is removed as soon as its machines are: see tutti pool list"))
}

fn text(value: impl ToString) -> Cell {
    value.to_string().into()
}

fn list(pools: &[Resource<PoolSpec>]) -> Table {
    let mut table = Table::new(&["POOL", "MIN", "MAX", "MACHINES", "CPU", "MEMORY", "IDLE"], "no pools");
    for pool in pools {
        let (spec, machines) = (&pool.spec, &pool.status.machines);
        let wrong = machines.iter().filter(|machine| machine.failure.is_some()).count();
        let shown = match (pool.deleted_at, wrong) {
            (Some(_), _) => toned(format!("{}, removed", machines.len()), Tone::Busy),
            (None, 0) => text(machines.len()),
            (None, wrong) => toned(format!("{}, {wrong} failing", machines.len()), Tone::Bad),
        };
        table.row([
            text(&pool.name),
            text(spec.min),
            text(spec.max),
            shown,
            text(spec.offers.cpu),
            text(spec.offers.memory),
            text(spec.idle),
        ]);
    }
    table
}

fn heading(pool: &Resource<PoolSpec>) -> String {
    let spec = &pool.spec;
    let isolates: Vec<&str> = spec.isolates.iter().map(|isolate| isolate.as_str()).collect();
    let labels: Vec<String> = spec
        .labels
        .iter()
        .map(
            |(key, value)| if value.as_str().is_empty() { key.to_string() } else { format!("{key}={value}") },
        )
        .collect();
    let taints: Vec<String> = spec.taints.iter().map(ToString::to_string).collect();
    let mut lines = vec![
        format!("pool {}: {} to {} machines", pool.name, spec.min, spec.max),
        format!(
            "  each has  {} cpu, {} memory; runs {}",
            spec.offers.cpu,
            spec.offers.memory,
            isolates.join(", ")
        ),
        format!("  idle for  {} before one is removed", spec.idle),
    ];
    if !labels.is_empty() {
        lines.push(format!("  labels    {}", labels.join(", ")));
    }
    if !taints.is_empty() {
        lines.push(format!("  taints    {}", taints.join(", ")));
    }
    if pool.deleted_at.is_some() {
        lines.push("  it is being removed".to_owned());
    }
    lines.iter().map(|line| format!("{line}\n")).collect()
}

fn machines(pool: &Resource<PoolSpec>, now: Timestamp) -> Table {
    let mut table = Table::new(&["MACHINE", "STATE", "SINCE", "WHY"], "no machines");
    for machine in &pool.status.machines {
        table.row([
            text(&machine.name),
            toned(machine.state.as_str(), tone(machine)),
            text(since(machine.since, now)),
            text(why(machine)),
        ]);
    }
    table
}

/// What went wrong last with each machine, whole: a table would cut it short.
fn failures(pool: &Resource<PoolSpec>, ui: &Ui) -> String {
    let machines = pool.status.machines.iter();
    let failed = machines.filter_map(|machine| Some((machine, machine.failure.as_ref()?)));
    let lines = failed.map(|(machine, failure)| {
        let text = ui.wrap(&format!("{}: {}", machine.name, failure.reason), 2);
        format!("{} {text}\n", ui.paint(Tone::Bad, "!"))
    });
    lines.collect()
}

const fn tone(machine: &PoolMachine) -> Tone {
    match (&machine.failure, machine.state) {
        (Some(_), _) => Tone::Bad,
        (None, MachineState::Joined) => Tone::Good,
        (None, _) => Tone::Busy,
    }
}

fn why(machine: &PoolMachine) -> String {
    match &machine.failure {
        Some(failure) => {
            format!("failed {}, see below", count(failure.attempts, "time"))
        }
        None => machine.why.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    fn args(text: &str) -> PoolArgs {
        let words = ["tutti", "pool", "set", "burst"].into_iter().chain(text.split_whitespace());
        match crate::args::Cli::try_parse_from(words).unwrap().command {
            crate::ClientCommand::Pool(PoolCommand::Set(args)) => *args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_not_named_stays_and_a_new_pool_needs_its_size() {
        let refused = asked(&args("--max 3 --cpu 2"), None).unwrap_err();
        assert_eq!(refused.detail, "pool burst is new, and has no memory");
        let new = asked(&args("--max 3 --cpu 2 --memory 4Gi --label rack=r1 --isolates wasm"), None).unwrap();
        assert_eq!((new.min, new.idle, new.labels.len()), (0, POOL_IDLE, 1));
        let known = PoolSpec {
            pool: "burst".parse().unwrap(),
            min: new.min,
            max: new.max,
            offers: tutti_model::node::Resources { cpu: new.cpu, memory: new.memory, ..Default::default() },
            isolates: new.isolates.clone(),
            labels: new.labels.clone(),
            taints: new.taints.clone(),
            idle: new.idle,
        };
        let changed = asked(&args("--min 1 --idle 5m"), Some(&known)).unwrap();
        assert_eq!(changed, SetPool { min: 1, idle: "5m".parse().unwrap(), ..new });
    }
}
