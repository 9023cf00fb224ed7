//! The store contract, its SQLite and memory engines, fault injection, and the conformance suite
