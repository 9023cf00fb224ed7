//! Every bound that is part of the contract, in one place, with the reason for its number.

/// Longest domain name, in bytes (RFC 1035, 2.3.4, without the trailing dot).
pub const DOMAIN_NAME_BYTES: usize = 253;
/// Longest service name, in bytes: with its domain it must still fit a store key.
pub const SERVICE_NAME_BYTES: usize = 255;
/// Longest version name, in bytes: it is also an OCI tag and a DNS label.
pub const VERSION_NAME_BYTES: usize = 63;
/// Longest user name, in bytes (RFC 5321, 4.5.3.1.3, without the angle brackets).
pub const USER_NAME_BYTES: usize = 254;
/// Most owners of a domain, invitations included: more than answer for anything together.
pub const OWNERS: usize = 32;
/// Most members of a domain, invitations included. They are one object with it; at this number it takes 90 KiB.
pub const MEMBERS: usize = 256;
/// Most other names of a domain; each may stand in the tables of all its services.
pub const ALIASES: usize = 32;
/// Longest store key, in bytes.
pub const STORE_KEY_BYTES: usize = 1024;
/// Longest stored value, in bytes.
pub const STORE_VALUE_BYTES: usize = 256 * 1024;
/// Most operations in one transaction. etcd's default is 128.
pub const STORE_TXN_OPERATIONS: usize = 64;
/// Most bytes of keys and values in one transaction. etcd's default for a request is 1.5 MiB; what is left is more than
/// the largest comparisons take.
pub const STORE_TXN_BYTES: usize = 1024 * 1024;
/// Longest manifest, in bytes.
pub const MANIFEST_BYTES: usize = 64 * 1024;
/// Most environment variables of a service.
pub const ENV_VARIABLES: usize = 256;
/// Longest environment value, in bytes.
pub const ENV_VALUE_BYTES: usize = 32 * 1024;
/// Longest value of a secret, in bytes: a certificate's chain or a key file fits, and as one environment variable it stays
/// below the 128 KiB that the kernel allows.
pub const SECRET_VALUE_BYTES: usize = 64 * 1024;
/// Most secrets of a domain.
pub const SECRETS_PER_DOMAIN: usize = 256;
/// Most secrets of a version: its deployment compares each in one transaction of the store.
pub const SECRETS_PER_VERSION: usize = 16;
/// Most that the secrets of a version may take together where they are stored, in bytes: they are written in one
/// transaction with its deployment, and their values must fit an environment, which the kernel bounds by 2 MiB.
pub const SECRETS_BYTES: usize = 512 * 1024;
/// Most hosts that a component may send requests to.
pub const OUTGOING: usize = 64;
/// Longest gRPC message that a component may be sent, or send, in bytes: its values take about forty times as much
/// memory on their way.
pub const MESSAGE_BYTES: u64 = 16 * 1024 * 1024;
/// Most constraints, and most tolerations, of a service: each is compared with every node.
pub const PLACEMENT_TERMS: usize = 16;
/// Most labels, and most taints, that an operator gives a node; and most labels that its agent says by itself.
pub const NODE_LABELS: usize = 64;
/// Most addresses of an upstream service.
pub const UPSTREAMS: usize = 64;
/// Most steps in one deployment.
pub const DEPLOYMENT_STEPS: usize = 64;
/// Most versions of one service that share its traffic at once.
pub const SPLIT_VERSIONS: usize = 32;
/// Most instances of one version in one zone.
pub const INSTANCES_PER_VERSION: u32 = 1000;
/// Largest artifact blob, in bytes.
pub const BLOB_BYTES: u64 = 4 * 1024 * 1024 * 1024;
/// Largest OCI manifest, in bytes (the distribution specification's own recommendation).
pub const OCI_MANIFEST_BYTES: usize = 4 * 1024 * 1024;
/// Largest JSON body that the API reads, in bytes.
pub const API_BODY_BYTES: usize = 1024 * 1024;
/// Objects on one page of a list.
pub const PAGE_SIZE: usize = 500;
/// Request body kept by an ingress until the node proxy has admitted the request, so that a refused one can go
/// elsewhere, in bytes.
pub const REPLAY_BODY_BYTES: usize = 64 * 1024;
/// Longest log line kept whole, in bytes; the rest of a longer one follows as further lines.
pub const LOG_LINE_BYTES: usize = 16 * 1024;
/// Lines of an instance's log that travel with a failure.
pub const FAILURE_LOG_LINES: usize = 20;
/// Requests that may wait for a free place at one version on one node.
pub const QUEUE_REQUESTS: usize = 1024;
/// Answers that a step needs before it can be judged.
pub const JUDGE_ANSWERS: u64 = 50;
/// Most of an object's spec that one side of an audit record shows, in bytes: all but the largest manifests fit.
pub const AUDIT_SPEC_BYTES: usize = 4 * 1024;
/// Most objects of one transaction that an audit record tells of. With this many of the largest it takes 64 KiB and
/// their names, beside what the transaction itself writes.
pub const AUDIT_CHANGES: usize = 8;
/// Largest audit record, in bytes: a transaction keeps so much room for it.
pub const AUDIT_RECORD_BYTES: usize = 96 * 1024;
/// Audit records that are kept, the newest: months of a small team's changes, and at a typical kilobyte each 10 MB.
pub const AUDIT_RECORDS: usize = 10_000;
/// Most audit records that one pass of the leader removes, the oldest first.
pub const AUDIT_TRIM: usize = 600;
/// Events that are kept, the newest: at the typical 400 bytes each 4 MB.
pub const EVENTS: usize = 10_000;
/// Most events that one pass of the leader removes, the oldest first: twenty for each second between two passes.
pub const EVENT_TRIM: usize = 6_000;
/// Longest text of an event, in bytes; the rest is cut.
pub const EVENT_TEXT_BYTES: usize = 1024;
/// Largest event, in bytes: its text, each byte of which may take six in JSON, the longest names, and the envelope.
pub const EVENT_BYTES: usize = 12 * 1024;
/// Ends of one instance that have an event each; of further ones only those have that double their number.
pub const EVENT_ENDS: u32 = 4;
/// Most addresses that an ingress says it is reached at.
pub const INGRESS_ADDRESSES: usize = 8;
/// Most addresses that one name leads to: in an answer over TCP they all have room, and no client tries more.
pub const NAME_ADDRESSES: usize = 256;
