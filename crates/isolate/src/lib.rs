//! The driver contract, the mock driver and the driver conformance suite
