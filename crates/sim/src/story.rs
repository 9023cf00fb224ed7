//! A story: a world in which much happens, and then peace.

use crate::{Check, Fault, Planted, World, world::Temper};

/// Events in a story.
const STEPS: usize = 200;
/// How many rates of faults there are, from none.
const RATES: u64 = 5;

/// The seeds of stories with this temper, in order: every temper is told at every rate of faults.
pub fn seeds(temper: Temper) -> impl Iterator<Item = u64> {
    (0..).filter(move |seed| temper_of(*seed) == temper)
}

fn temper_of(seed: u64) -> Temper {
    let at = usize::try_from(seed / RATES).unwrap_or(0) % Temper::ALL.len();
    Temper::ALL.get(at).copied().unwrap_or_default()
}

/// What went wrong in a story.
#[derive(Debug)]
pub struct Broken {
    /// What was found.
    pub faults: Vec<Fault>,
    /// What had happened.
    pub story: Vec<String>,
}

/// Tells the story of a seed, in a world with a bug if one is planted, up to the first thing that is wrong; gives what
/// happened.
///
/// # Errors
/// What was found.
pub async fn tell(seed: u64, planted: Option<Planted>) -> Result<Vec<String>, Broken> {
    let mut world = match World::with(seed, temper_of(seed), planted).await {
        Ok(world) => world,
        Err(problem) => return Err(Broken { faults: vec![stuck(problem.to_string())], story: Vec::new() }),
    };
    world.set_faults(seed % RATES * 10);
    for _ in 0..STEPS {
        world.step().await;
        if !world.faults_found().is_empty() {
            return Err(broken(world, None));
        }
    }
    let rest = world.comes_to_rest().await;
    let is_safe = world.faults_found().is_empty();
    match rest {
        Ok(()) if is_safe => Ok(world.story),
        Ok(()) => Err(broken(world, None)),
        Err(state) => Err(broken(world, Some(stuck(state)))),
    }
}

/// What the checker found comes first: what does not rest may only be what follows from it.
fn broken(world: World, stuck: Option<Fault>) -> Broken {
    let faults = world.faults_found().iter().cloned().chain(stuck).collect();
    Broken { faults, story: world.story }
}

fn stuck(text: String) -> Fault {
    Fault { check: Check::Rest, revision: 0, text }
}
