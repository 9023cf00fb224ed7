//! Versioned resources on the wire, the route table, the typed client and OpenAPI
