//! Clock, seeded randomness, backoff, supervised tasks and drain, telemetry, secrets that don't print
