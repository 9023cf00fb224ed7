//! Golden explanations.
