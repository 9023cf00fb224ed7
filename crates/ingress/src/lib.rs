//! The L7 way in: listeners, routing by host, path and service, version by weight, statistics
