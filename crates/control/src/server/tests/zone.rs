//! The zone's interface, the same over a real socket as in the process.

use super::*;
