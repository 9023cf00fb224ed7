//! The API over a real store.
