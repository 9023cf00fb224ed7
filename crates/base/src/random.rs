//! Randomness as a dependency: from the operating system in the product, from a seed in simulations.

use rand::{Rng as _, SeedableRng, rngs::ChaCha20Rng};
use std::sync::{Arc, Mutex, PoisonError};
use tutti_model::{DeploymentId, InstanceId, Uid};

/// A shared source of randomness. Cloning shares it.
#[derive(Clone)]
pub struct Random(Arc<Mutex<ChaCha20Rng>>);

impl std::fmt::Debug for Random {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Random")
    }
}

impl Random {
    /// Seeded by the operating system; fit for secrets.
    #[must_use]
    pub fn from_os() -> Self {
        Random(Arc::new(Mutex::new(rand::make_rng())))
    }

    /// The same values for the same seed.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Random(Arc::new(Mutex::new(ChaCha20Rng::seed_from_u64(seed))))
    }

    /// 64 random bits.
    #[must_use]
    pub fn bits(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).next_u64()
    }

    /// Random bytes.
    pub fn fill(&self, bytes: &mut [u8]) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).fill_bytes(bytes);
    }

    /// A number below `bound`; 0 if that is 0.
    #[must_use]
    pub fn below(&self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.bits() % bound }
    }

    /// A new uid.
    #[must_use]
    pub fn uid(&self) -> Uid {
        Uid::from_bits(u128::from(self.bits()) << 64 | u128::from(self.bits()))
    }

    /// A new instance id.
    #[must_use]
    pub fn instance_id(&self) -> InstanceId {
        InstanceId::from_bits(self.bits())
    }

    /// A new deployment id.
    #[must_use]
    pub fn deployment_id(&self) -> DeploymentId {
        DeploymentId::from_bits(self.bits())
    }
}
