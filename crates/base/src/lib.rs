//! What every role needs under its feet: a clock and randomness that tests can take over, backoff, supervised tasks
//! with an ordered end, telemetry, secrets that don't print, and the one HTTP body type.

pub mod backoff;
pub mod body;
pub mod clock;
pub mod crashpoint;
pub mod metrics;
pub mod random;
pub mod secret;
pub mod sha256;
pub mod socket;
pub mod tasks;
pub mod telemetry;

pub use backoff::Backoff;
pub use body::Body;
pub use clock::{Clock, SystemClock, Uptime};
pub use random::Random;
pub use secret::{Secret, SecretText, SecretValues};
pub use tasks::Tasks;
