//! API handlers, authentication and authorization, and the reconcilers
