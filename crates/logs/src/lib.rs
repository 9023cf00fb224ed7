//! Log capture: segments on disk with timestamps, append, tail and follow
