//! The command tree, contexts, tables and live progress
