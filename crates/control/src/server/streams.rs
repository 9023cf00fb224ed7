//! How many answers may stay open at once (watches and followed logs), and how many requests be under way: of all
//! accounts, and of one, so that no tenant can take every place.

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

/// Most open streams of nodes and ingresses. A node has two and a layer or two on their way, an ingress and a DNS server two: a zone of
/// three hundred machines, with room for those that come back before their old connections are known to be lost.
pub(super) const NODE_STREAMS: usize = 2048;

/// Most requests of one token under way: half of all that are done at once, whatever time their bodies take to come.
pub(super) const REQUESTS_PER_TOKEN: usize = super::dispatch::REQUESTS / 2;

/// The places that are taken, by account.
#[derive(Debug, Clone)]
pub(super) struct Streams {
    open: Arc<Mutex<HashMap<String, usize>>>,
    most: usize,
    most_of_one: usize,
    what: &'static str,
    hint: &'static str,
}

/// A place among them; dropping it gives it back.
#[derive(Debug)]
pub(super) struct Place {
    streams: Streams,
    account: String,
}

impl Streams {
    /// Places for watches and followed logs.
    pub(super) fn open_answers() -> Self {
        let what = "watches and followed logs open";
        let hint = "close some, or list instead of watching";
        Streams { open: Arc::default(), most: STREAMS, most_of_one: STREAMS_PER_TOKEN, what, hint }
    }

    /// Places for the watches and blobs of nodes and ingresses.
    pub(super) fn of_nodes() -> Self {
        let what = "watches and blobs of nodes open";
        let hint = "they come back by themselves";
        Streams { open: Arc::default(), most: NODE_STREAMS, most_of_one: NODE_STREAMS, what, hint }
    }

    /// Places for requests; how many there are of all tokens is bounded where they take turns.
    pub(super) fn requests() -> Self {
        let what = "requests under way";
        let hint = "wait for some";
        Streams { open: Arc::default(), most: usize::MAX, most_of_one: REQUESTS_PER_TOKEN, what, hint }
    }

    /// How many places are taken.
    pub(super) fn taken(&self) -> usize {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).values().sum()
    }

    /// Takes a place for an account, which is a user with all tokens, or a token.
    ///
    /// # Errors
    /// `quota_exceeded` if there is none.
    pub(super) fn open(&self, account: &str) -> Result<Place, Problem> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let full = |who: String, most: usize| {
            Problem::new(ErrorCode::QuotaExceeded, format!("{who} {most} {}", self.what)).hint(self.hint)
        };
        if open.values().sum::<usize>() >= self.most {
            return Err(full("there are".to_owned(), self.most));
        }
        let count = open.entry(account.to_owned()).or_default();
        if *count >= self.most_of_one {
            return Err(full("you have".to_owned(), self.most_of_one));
        }
        *count += 1;
        Ok(Place { streams: self.clone(), account: account.to_owned() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.streams.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.account) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.account);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_take_no_more_places_than_there_are() {
        let streams = Streams::of_nodes();
        let places: Vec<_> = (0..NODE_STREAMS).map(|_| streams.open("(this machine)").unwrap()).collect();
        assert_eq!(streams.open("(this machine)").unwrap_err().code, ErrorCode::QuotaExceeded);
        drop(places);
        assert!(streams.open("(this machine)").is_ok());
    }

    #[test]
    fn places_are_bounded_by_token_and_altogether_and_come_back() {
        let streams = Streams::open_answers();
        let mut places: Vec<_> = (0..STREAMS_PER_TOKEN).map(|_| streams.open("a").unwrap()).collect();
        assert_eq!(streams.open("a").unwrap_err().code, ErrorCode::QuotaExceeded);
        for index in STREAMS_PER_TOKEN..STREAMS {
            places.push(streams.open(&format!("b{}", index % 8)).unwrap());
        }
        assert_eq!(streams.open("c").unwrap_err().code, ErrorCode::QuotaExceeded);
        drop(places);
        assert!(streams.open.lock().unwrap().is_empty());
        assert!(streams.open("a").is_ok());
    }
}
