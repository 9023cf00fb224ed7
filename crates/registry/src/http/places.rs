//! Places for uploads: so many at once, and so many of them for one domain.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};
use tutti_model::DomainName;

/// The places that are taken, by domain.
#[derive(Debug, Clone)]
pub(super) struct Places {
    taken: Arc<Mutex<BTreeMap<DomainName, usize>>>,
    most: usize,
    most_of_domain: usize,
}

/// A place; dropping it gives it back.
#[derive(Debug)]
pub(super) struct Place {
    places: Places,
    domain: DomainName,
}

impl Places {
    pub(super) fn new(most: usize, most_of_domain: usize) -> Self {
        Places { taken: Arc::default(), most, most_of_domain }
    }

    /// Takes a place for a domain.
    ///
    /// # Errors
    /// How many may be taken, which is how many are.
    pub(super) fn take(&self, domain: &DomainName) -> Result<Place, usize> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.values().sum::<usize>() >= self.most {
            return Err(self.most);
        }
        let of_domain = taken.entry(domain.clone()).or_default();
        if *of_domain >= self.most_of_domain {
            return Err(self.most_of_domain);
        }
        *of_domain += 1;
        Ok(Place { places: self.clone(), domain: domain.clone() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(of_domain) = taken.get_mut(&self.domain) {
            *of_domain = of_domain.saturating_sub(1);
            if *of_domain == 0 {
                taken.remove(&self.domain);
            }
        }
    }
}
