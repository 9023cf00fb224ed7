//! Every operation of the API in one table: its name, method, path and the right it needs.
//!
//! Control routes by it, authorizes by it and documents by it; a test there fails for a handler that is not in the
//! table, and for an entry without a handler. Paths use `{name}` for one percent-encoded segment.

use http::Method;

/// Who may call an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    /// Anyone, without a token.
    Public,
    /// Anyone with a token; what is answered depends on it.
    Anyone,
    /// A viewer, deployer or owner of the object's domain, or an admin.
    View,
    /// A deployer or owner of the object's domain, or an admin.
    Deploy,
    /// An owner of the object's domain, or an admin.
    Own,
    /// An admin.
    Admin,
    /// A machine that wants to be a member: a join token, or whoever holds the control socket.
    Join,
    /// The node, ingress or DNS server itself: its certificate, or whoever holds the machine's control socket; never a token.
    Node,
}

/// One operation.
#[derive(Debug, Clone)]
pub struct Operation {
    /// Its name: `operationId` in OpenAPI and the label in metrics.
    pub id: &'static str,
    /// HTTP method.
    pub method: Method,
    /// Path template.
    pub path: &'static str,
    /// The right it needs.
    pub right: Right,
    /// What it does, in one line.
    pub summary: &'static str,
    /// The gRPC methods that do the same, as `/PACKAGE.SERVICE/METHOD`; they need the same right.
    pub grpc: &'static [&'static str],
}

impl Operation {
    const fn grpc(mut self, methods: &'static [&'static str]) -> Operation {
        self.grpc = methods;
        self
    }
}

const fn op(
    id: &'static str,
    method: Method,
    path: &'static str,
    right: Right,
    summary: &'static str,
) -> Operation {
    Operation { id, method, path, right, summary, grpc: &[] }
}

/// The table.
pub static OPERATIONS: &[Operation] = &[
    op("health", Method::GET, "/healthz", Right::Public, "Answers 200 once the API serves.")
        .grpc(&["/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"]),
    op("release", Method::GET, "/v1/release", Right::Public, "Which release answers."),
    op("openapi", Method::GET, "/v1/openapi.json", Right::Public, "This API as an OpenAPI document.").grpc(
        &[
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        ],
    ),
    op("metrics", Method::GET, "/metrics", Right::Admin, "Figures for Prometheus."),
    op("whoami", Method::GET, "/v1/whoami", Right::Anyone, "Whose token this is."),
    op("status", Method::GET, "/v1/status", Right::Anyone, "Is all well? What the caller may see of it."),
    op("explain", Method::GET, "/v1/explain/{kind}/{name}", Right::View, "Why an object is as it is."),
    op("logs", Method::GET, "/v1/logs", Right::View, "Lines of instances, as newline-delimited JSON."),
    op("list_domains", Method::GET, "/v1/domains", Right::Anyone, "Lists or watches domains."),
    op(
        "create_domain",
        Method::POST,
        "/v1/domains",
        Right::Anyone,
        "Makes a domain, or a claim that says which DNS record proves it.",
    ),
    op("get_domain", Method::GET, "/v1/domains/{name}", Right::View, "Gives one domain."),
    op("delete_domain", Method::DELETE, "/v1/domains/{name}", Right::Own, "Removes an empty domain."),
    op(
        "get_quota",
        Method::GET,
        "/v1/domains/{name}/quota",
        Right::View,
        "Gives the most that a domain may have, and what it has.",
    ),
    op(
        "change_quota",
        Method::PATCH,
        "/v1/domains/{name}/quota",
        Right::Admin,
        "Changes the most that a domain may have.",
    ),
    op(
        "verify_domain",
        Method::POST,
        "/v1/domains/{name}/verify",
        Right::Anyone,
        "Looks up the DNS record of the caller's claim, and makes the domain or alias.",
    ),
    op(
        "add_alias",
        Method::POST,
        "/v1/domains/{name}/aliases",
        Right::Own,
        "Adds another name of a domain, or a claim that says which DNS record proves it.",
    ),
    op(
        "remove_alias",
        Method::DELETE,
        "/v1/domains/{name}/aliases/{alias}",
        Right::Own,
        "Removes another name of a domain.",
    ),
    op(
        "invite_member",
        Method::POST,
        "/v1/domains/{name}/members",
        Right::Own,
        "Invites a user, who becomes a member by accepting.",
    ),
    op(
        "set_member",
        Method::PUT,
        "/v1/domains/{name}/members/{user}",
        Right::Own,
        "Gives a member another role.",
    ),
    op(
        "remove_member",
        Method::DELETE,
        "/v1/domains/{name}/members/{user}",
        Right::Own,
        "Takes a member out, or an invitation back.",
    ),
    op("leave_domain", Method::POST, "/v1/domains/{name}/leave", Right::View, "Takes the caller out."),
    op("list_claims", Method::GET, "/v1/claims", Right::Anyone, "Lists or watches the caller's claims."),
    op(
        "delete_claim",
        Method::DELETE,
        "/v1/claims/{name}",
        Right::Anyone,
        "Removes the caller's claim of the domain of this name.",
    ),
    op(
        "list_invitations",
        Method::GET,
        "/v1/invitations",
        Right::Anyone,
        "Lists what the caller is invited to.",
    ),
    op(
        "accept_invitation",
        Method::POST,
        "/v1/invitations/{name}/accept",
        Right::Anyone,
        "Makes the caller a member of the domain of this name.",
    ),
    op(
        "decline_invitation",
        Method::DELETE,
        "/v1/invitations/{name}",
        Right::Anyone,
        "Declines the caller's invitation to the domain of this name.",
    ),
    op("list_users", Method::GET, "/v1/users", Right::Admin, "Lists or watches users."),
    op(
        "create_user",
        Method::POST,
        "/v1/users",
        Right::Admin,
        "Makes a user, and shows the secret of the first token, once.",
    ),
    op("get_user", Method::GET, "/v1/users/{name}", Right::Admin, "Gives one user."),
    op(
        "delete_user",
        Method::DELETE,
        "/v1/users/{name}",
        Right::Admin,
        "Removes a user with all tokens and memberships.",
    ),
    op("list_services", Method::GET, "/v1/services", Right::Anyone, "Lists or watches services."),
    op("create_service", Method::POST, "/v1/services", Right::Deploy, "Makes a service."),
    op("get_service", Method::GET, "/v1/services/{name}", Right::View, "Gives one service."),
    op(
        "delete_service",
        Method::DELETE,
        "/v1/services/{name}",
        Right::Own,
        "Removes a service, its versions and routes.",
    ),
    op(
        "service_summary",
        Method::GET,
        "/v1/services/{name}/summary",
        Right::View,
        "Gives what serves a service now.",
    ),
    op(
        "scale_service",
        Method::PUT,
        "/v1/services/{name}/scale",
        Right::Deploy,
        "Sets the number of workers.",
    ),
    op(
        "rollback_service",
        Method::POST,
        "/v1/services/{name}/rollback",
        Right::Deploy,
        "Returns to the previous weights, or aborts the running deployment.",
    )
    .grpc(&["/tutti.v1.Domains/Rollback"]),
    op("list_versions", Method::GET, "/v1/versions", Right::Anyone, "Lists or watches versions."),
    op(
        "create_version",
        Method::POST,
        "/v1/versions",
        Right::Deploy,
        "Makes a version of a pushed artifact.",
    ),
    op("get_version", Method::GET, "/v1/versions/{name}", Right::View, "Gives one version."),
    op(
        "delete_version",
        Method::DELETE,
        "/v1/versions/{name}",
        Right::Deploy,
        "Removes a version that has no share.",
    ),
    op(
        "preload_version",
        Method::POST,
        "/v1/versions/{name}/preload",
        Right::Admin,
        "Asks nodes to hold a version ready to start.",
    )
    .grpc(&["/tutti.v1.Control/Preload"]),
    op("list_deployments", Method::GET, "/v1/deployments", Right::Anyone, "Lists or watches deployments."),
    op("create_deployment", Method::POST, "/v1/deployments", Right::Deploy, "Starts a rollout.")
        .grpc(&["/tutti.v1.Domains/Deploy"]),
    op("get_deployment", Method::GET, "/v1/deployments/{name}", Right::View, "Gives one deployment.")
        .grpc(&["/tutti.v1.Domains/GetDeployment", "/tutti.v1.Domains/WatchDeployment"]),
    op(
        "pause_deployment",
        Method::POST,
        "/v1/deployments/{name}/pause",
        Right::Deploy,
        "Holds it at the weights of now.",
    ),
    op("resume_deployment", Method::POST, "/v1/deployments/{name}/resume", Right::Deploy, "Lets it go on."),
    op(
        "promote_deployment",
        Method::POST,
        "/v1/deployments/{name}/promote",
        Right::Deploy,
        "Moves it to the next or last step at once.",
    ),
    op(
        "abort_deployment",
        Method::POST,
        "/v1/deployments/{name}/abort",
        Right::Deploy,
        "Returns to the weights from before it.",
    )
    .grpc(&["/tutti.v1.Domains/Abort"]),
    op("list_instances", Method::GET, "/v1/instances", Right::Anyone, "Lists or watches instances."),
    op("get_instance", Method::GET, "/v1/instances/{name}", Right::View, "Gives one instance."),
    op("list_routes", Method::GET, "/v1/routes", Right::Anyone, "Lists or watches routes."),
    op("create_route", Method::POST, "/v1/routes", Right::Deploy, "Makes a route to a service."),
    op("get_route", Method::GET, "/v1/routes/{name}", Right::View, "Gives one route."),
    op("delete_route", Method::DELETE, "/v1/routes/{name}", Right::Deploy, "Removes a route."),
    op(
        "list_secrets",
        Method::GET,
        "/v1/secrets",
        Right::Anyone,
        "Lists or watches secrets, without their values.",
    ),
    op("get_secret", Method::GET, "/v1/secrets/{name}", Right::View, "Gives one secret, without its value."),
    op(
        "set_secret",
        Method::PUT,
        "/v1/secrets/{name}",
        Right::Deploy,
        "Sets a secret's value, which is never shown again.",
    ),
    op(
        "delete_secret",
        Method::DELETE,
        "/v1/secrets/{name}",
        Right::Deploy,
        "Removes a secret that no deployed version names.",
    ),
    op("list_nodes", Method::GET, "/v1/nodes", Right::Admin, "Lists or watches nodes."),
    op("get_node", Method::GET, "/v1/nodes/{name}", Right::Admin, "Gives one node."),
    op(
        "cordon_node",
        Method::PUT,
        "/v1/nodes/{name}/cordon",
        Right::Admin,
        "Says whether it takes new instances.",
    ),
    op("change_node", Method::PATCH, "/v1/nodes/{name}", Right::Admin, "Changes its labels and taints."),
    op("list_pools", Method::GET, "/v1/pools", Right::Admin, "Lists or watches node pools."),
    op("get_pool", Method::GET, "/v1/pools/{name}", Right::Admin, "Gives one node pool with its machines."),
    op(
        "set_pool",
        Method::PUT,
        "/v1/pools/{name}",
        Right::Admin,
        "Makes a node pool, or replaces what is asked of it.",
    ),
    op(
        "delete_pool",
        Method::DELETE,
        "/v1/pools/{name}",
        Right::Admin,
        "Removes a node pool when its machines have drained and are removed.",
    ),
    op(
        "list_audit",
        Method::GET,
        "/v1/audit",
        Right::Anyone,
        "Lists who changed what, newest first: all, or that of the domains one owns.",
    ),
    op(
        "debug_reconcilers",
        Method::GET,
        "/v1/debug/reconcilers",
        Right::Admin,
        "How the loops of the answering control fare.",
    ),
    op(
        "debug_log",
        Method::GET,
        "/v1/debug/log",
        Right::Admin,
        "The last lines that the answering control logged.",
    ),
    op(
        "list_events",
        Method::GET,
        "/v1/events",
        Right::Anyone,
        "Lists what happened, newest first, or watches it: all, or that of the domains one has a role in.",
    ),
    op(
        "list_machines",
        Method::GET,
        "/v1/machines",
        Right::Admin,
        "Lists nodes and members, with what each runs, when it was last heard and what it measured.",
    ),
    op(
        "get_machine",
        Method::GET,
        "/v1/machines/{name}",
        Right::Admin,
        "Gives one machine, and what its instances use.",
    ),
    op("list_zones", Method::GET, "/v1/zones", Right::Admin, "Lists or watches zones."),
    op("list_tables", Method::GET, "/v1/tables", Right::Admin, "Lists or watches routing tables."),
    op(
        "list_tokens",
        Method::GET,
        "/v1/tokens",
        Right::Anyone,
        "Lists tokens, without their secrets: all, or one's own and those of one's domains.",
    ),
    op(
        "create_token",
        Method::POST,
        "/v1/tokens",
        Right::Anyone,
        "Makes a token that may no more than the caller, and shows its secret, once.",
    ),
    op("delete_token", Method::DELETE, "/v1/tokens/{name}", Right::Anyone, "Revokes a token."),
    op(
        "create_join_token",
        Method::POST,
        "/v1/join-tokens",
        Right::Admin,
        "Makes a token that admits one machine to the cluster, once.",
    ),
    op("join", Method::POST, "/v1/join", Right::Join, "Makes a machine a member of the cluster."),
    op("list_members", Method::GET, "/v1/members", Right::Admin, "Lists or watches members."),
    op(
        "delete_member",
        Method::DELETE,
        "/v1/members/{name}",
        Right::Admin,
        "Removes a machine from the cluster, reachable or not.",
    ),
    op(
        "watch_zone_members",
        Method::GET,
        "/v1/zone/members",
        Right::Node,
        "Watches the members of a zone: whom to admit.",
    ),
    op(
        "tell_figures",
        Method::PUT,
        "/v1/zone/figures",
        Right::Node,
        "Tells a control what nodes and ingresses told another.",
    ),
    op(
        "read_cluster_key",
        Method::GET,
        "/v1/zone/key",
        Right::Node,
        "Hands the key of the cluster to a control that has it not.",
    ),
    op(
        "renew_certificate",
        Method::POST,
        "/v1/zone/members/{name}/certificate",
        Right::Node,
        "Gives a member a new certificate for its key.",
    ),
    op(
        "watch_zone_tables",
        Method::GET,
        "/v1/zone/tables",
        Right::Node,
        "Streams the routing tables and their changes.",
    ),
    op(
        "watch_zone_nodes",
        Method::GET,
        "/v1/zone/nodes",
        Right::Node,
        "Streams the nodes and their changes.",
    ),
    op(
        "watch_zone_hosts",
        Method::GET,
        "/v1/zone/hosts",
        Right::Node,
        "Streams the hosts that services answer to, as tables without what serves them.",
    ),
    op(
        "watch_zone_ingresses",
        Method::GET,
        "/v1/zone/ingresses",
        Right::Node,
        "Streams the living ingresses, with where they are reached.",
    ),
    op("report_dns", Method::PUT, "/v1/zone/dns/{name}", Right::Node, "Says that a DNS server lives."),
    op(
        "watch_zone_node",
        Method::GET,
        "/v1/zone/nodes/{name}",
        Right::Node,
        "Streams one node's own object.",
    ),
    op(
        "watch_node_instances",
        Method::GET,
        "/v1/zone/nodes/{name}/instances",
        Right::Node,
        "Streams the instances that a node is to run.",
    ),
    op("register_node", Method::PUT, "/v1/zone/nodes/{name}/status", Right::Node, "Says what a node is."),
    op(
        "heartbeat_node",
        Method::PUT,
        "/v1/zone/nodes/{name}/heartbeat",
        Right::Node,
        "Says that a node lives.",
    ),
    op(
        "report_instances",
        Method::POST,
        "/v1/zone/nodes/{name}/reports",
        Right::Node,
        "Says what instances of a node are now.",
    ),
    op(
        "report_ingress",
        Method::PUT,
        "/v1/zone/ingresses/{name}",
        Right::Node,
        "Says that an ingress lives, what it has applied and what it measured.",
    ),
    op(
        "leave_ingress",
        Method::DELETE,
        "/v1/zone/ingresses/{name}",
        Right::Node,
        "Says that an ingress ends in order.",
    ),
    op(
        "read_instance_secrets",
        Method::GET,
        "/v1/zone/nodes/{name}/instances/{instance}/secrets",
        Right::Node,
        "Gives a node the values of the secrets that one of its instances is to have.",
    ),
    op(
        "read_blob",
        Method::GET,
        "/v1/zone/blobs/{digest}",
        Right::Node,
        "Gives an artifact's manifest or layer by its digest.",
    ),
    op(
        "registry",
        Method::GET,
        "/v2/",
        Right::Anyone,
        "The OCI distribution API; the right is that of the repository's domain.",
    ),
];

/// The operation of this id.
#[must_use]
pub fn operation(id: &str) -> Option<&'static Operation> {
    OPERATIONS.iter().find(|operation| operation.id == id)
}

/// Whether an `Idempotency-Key` is heeded. The answer to a new token or user holds a secret, which is shown once; and
/// what a node says changes nothing when it is said again.
#[must_use]
pub fn is_replayed(operation: &Operation) -> bool {
    operation.method == Method::POST
        && !matches!(operation.id, "create_token" | "create_user" | "create_join_token" | "join")
        && operation.right != Right::Node
}

/// The path of an operation with its names filled in, percent-encoded.
#[must_use]
pub fn path(template: &str, names: &[&str]) -> String {
    let mut names = names.iter();
    let segments = template.split('/').map(|segment| {
        if segment.starts_with('{') {
            let name = names.next().copied().unwrap_or("");
            percent_encoding::utf8_percent_encode(name, SEGMENT).to_string()
        } else {
            segment.to_owned()
        }
    });
    segments.collect::<Vec<_>>().join("/")
}

/// What must be encoded in one path segment (RFC 3986, 3.3): everything but unreserved characters, `:` and `@`.
const SEGMENT: &percent_encoding::AsciiSet = &percent_encoding::NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b':')
    .remove(b'@')
    .remove(b'*');

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn ids_and_places_are_unique() {
        let ids: BTreeSet<_> = OPERATIONS.iter().map(|operation| operation.id).collect();
        let places: BTreeSet<_> =
            OPERATIONS.iter().map(|operation| (operation.method.to_string(), operation.path)).collect();
        assert_eq!((ids.len(), places.len()), (OPERATIONS.len(), OPERATIONS.len()));
        let methods: Vec<_> = OPERATIONS.iter().flat_map(|operation| operation.grpc).collect();
        assert_eq!(methods.iter().collect::<BTreeSet<_>>().len(), methods.len());
    }

    #[test]
    fn names_stay_in_their_segment() {
        let template = "/v1/routes/{name}";
        assert_eq!(path(template, &["shop.example.com/api"]), "/v1/routes/shop.example.com%2Fapi");
        assert_eq!(
            path("/v1/explain/{kind}/{name}", &["service", "example.com:web"]),
            "/v1/explain/service/example.com:web"
        );
    }
}
