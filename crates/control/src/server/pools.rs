//! Node pools: what admins ask of them. The commands that make and remove machines are not among it: they run as control's
//! own user, and only who may write its settings says what they are.

use super::{
    call::{Answer, Call},
    names, reply,
};
use tutti_api::pools::SetPool;
use tutti_model::{
    Kind, Problem, limits,
    node::{NODE_LABEL, Resources},
    pool::{POOL_LABEL, POOL_MACHINES, POOLS, PoolName, PoolSpec},
};

/// `GET /v1/pools/{name}`
pub(super) async fn get(call: Call) -> Answer {
    Ok(reply::ok(&call.app.objects.get::<PoolSpec>(call.name()).await?))
}

/// `PUT /v1/pools/{name}`: makes it, or replaces what is asked of it.
pub(super) async fn set(call: Call) -> Answer {
    let pool: PoolName = call.name().parse()?;
    let spec = checked(pool.clone(), call.json()?)?;
    let objects = &call.app.objects;
    for _ in 0..names::ATTEMPTS {
        let Some(mut known) = objects.find::<PoolSpec>(pool.as_str()).await? else {
            names::room_for::<PoolSpec>(objects, "", POOLS, "pools").await?;
            let mut made = objects.make(pool.as_str(), spec.clone());
            if let Some(revision) = objects.write().create(&made).commit().await? {
                made.revision = revision;
                return Ok(reply::created(&made));
            }
            continue;
        };
        if known.deleted_at.is_some() {
            return Err(Problem::conflict(format!("pool {pool} is being removed"))
                .object(known.object())
                .hint("wait until its machines are gone, or choose another name")
                .into());
        }
        if known.spec == spec {
            return Ok(reply::ok(&known));
        }
        known.spec = spec.clone();
        known.generation += 1;
        if let Some(revision) = objects.write().update(&known).commit().await? {
            known.revision = revision;
            return Ok(reply::ok(&known));
        }
    }
    Err(names::busy("pool", pool.as_str()).into())
}

/// `DELETE /v1/pools/{name}`: with its last machine it is gone.
pub(super) async fn delete(call: Call) -> Answer {
    let objects = &call.app.objects;
    for _ in 0..names::ATTEMPTS {
        let mut pool = objects.get::<PoolSpec>(call.name()).await?;
        if pool.deleted_at.is_some() {
            return Ok(reply::no_content());
        }
        let write = match pool.status.machines.is_empty() {
            true => objects.write().delete(&pool),
            false => {
                pool.deleted_at = Some(objects.clock().now());
                pool.generation += 1;
                objects.write().update(&pool)
            }
        };
        if write.commit().await?.is_some() {
            return Ok(reply::no_content());
        }
    }
    Err(names::busy("pool", call.name()).into())
}

/// What is asked, if it can be.
fn checked(pool: PoolName, asked: SetPool) -> Result<PoolSpec, Problem> {
    let wrong = |why: String| {
        Err(Problem::invalid(format!("pool {pool} {why}")).object(format!("{} {pool}", Kind::Pool)))
    };
    if asked.min > asked.max {
        return wrong(format!("is to have at least {} machines and at most {}", asked.min, asked.max));
    }
    if asked.max > POOL_MACHINES {
        return wrong(format!(
            "is to have {} machines, and no pool has more than {POOL_MACHINES}",
            asked.max
        ));
    }
    if asked.cpu.0 == 0 || asked.memory.0 == 0 {
        return wrong("has machines without cpu or memory, which nothing fits".to_owned());
    }
    if asked.isolates.is_empty() {
        return wrong("has machines that can run nothing: name its isolates".to_owned());
    }
    if let Some(own) =
        [NODE_LABEL, POOL_LABEL].iter().find(|own| asked.labels.keys().any(|key| key.as_str() == **own))
    {
        return wrong(format!("gives its nodes the label {own}, which they have by themselves"));
    }
    // With the one that they have by themselves.
    let most = limits::NODE_LABELS - 1;
    if asked.labels.len() > most || asked.taints.len() > most {
        return wrong(format!("has more than {most} labels or taints"));
    }
    Ok(PoolSpec {
        pool: pool.clone(),
        min: asked.min,
        max: asked.max,
        offers: Resources {
            cpu: asked.cpu,
            memory: asked.memory,
            bandwidth: asked.bandwidth,
            disk: asked.disk,
        },
        isolates: asked.isolates,
        labels: asked.labels,
        taints: asked.taints,
        idle: asked.idle,
    })
}
