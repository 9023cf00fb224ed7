//! How many answers may stay open at once: watches and followed logs.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};
use tutti_model::{ErrorCode, Problem};

/// Most open streams of one control. Each costs a connection and a store watch of some tens of kilobytes.
pub(super) const STREAMS: usize = 1024;
/// Most open streams of one token, so that one tenant cannot take them all: every node, console page and command line
/// of a team of a hundred.
pub(super) const STREAMS_PER_TOKEN: usize = 256;

/// The open streams, by token.
#[derive(Debug, Clone, Default)]
pub(super) struct Streams(Arc<Mutex<HashMap<String, usize>>>);

/// A place among them; dropping it gives it back.
#[derive(Debug)]
pub(super) struct Place {
    streams: Streams,
    token: String,
}

impl Streams {
    /// Takes a place.
    ///
    /// # Errors
    /// `quota_exceeded` if there is none.
    pub(super) fn open(&self, token: &str) -> Result<Place, Problem> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if open.values().sum::<usize>() >= STREAMS {
            return Err(Problem::new(
                ErrorCode::QuotaExceeded,
                format!("{STREAMS} watches and followed logs are open"),
            )
            .hint("close some, or list instead of watching"));
        }
        let count = open.entry(token.to_owned()).or_default();
        if *count >= STREAMS_PER_TOKEN {
            return Err(Problem::new(
                ErrorCode::QuotaExceeded,
                format!("token \"{token}\" has {STREAMS_PER_TOKEN} watches and followed logs open"),
            )
            .hint("close some, or use another token"));
        }
        *count += 1;
        Ok(Place { streams: self.clone(), token: token.to_owned() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.streams.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.token) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.token);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_by_token_and_altogether_and_come_back() {
        let streams = Streams::default();
        let mut places: Vec<_> = (0..STREAMS_PER_TOKEN).map(|_| streams.open("a").unwrap()).collect();
        assert_eq!(streams.open("a").unwrap_err().code, ErrorCode::QuotaExceeded);
        for index in STREAMS_PER_TOKEN..STREAMS {
            places.push(streams.open(&format!("b{}", index % 8)).unwrap());
        }
        assert_eq!(streams.open("c").unwrap_err().code, ErrorCode::QuotaExceeded);
        drop(places);
        assert!(streams.0.lock().unwrap().is_empty());
        assert!(streams.open("a").is_ok());
    }
}
