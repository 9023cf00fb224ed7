//! Makes a zone's part of a service from the global objects.

use std::collections::BTreeSet;
use tutti_model::{
    DomainName, Resource, ServiceRef, VersionName,
    assignment::AssignmentSpec,
    deployment::DeploymentSpec,
    limits,
    route::{RouteMatch, RouteSpec},
    service::ServiceSpec,
    version::VersionSpec,
};

/// What is known when a service is handed down.
#[derive(Debug, Clone, Copy)]
pub struct HanddownView<'a> {
    /// The service.
    pub service: &'a Resource<ServiceSpec>,
    /// Every service of its domain, itself included.
    pub siblings: &'a [&'a Resource<ServiceSpec>],
    /// All its versions.
    pub versions: &'a [&'a Resource<VersionSpec>],
    /// The other names of its domain.
    pub aliases: &'a [DomainName],
    /// What routes of others take below those names: they are asked for by name, and win.
    pub taken: &'a BTreeSet<String>,
    /// The routes that lead to it.
    pub routes: &'a [&'a Resource<RouteSpec>],
    /// Its unfinished deployment.
    pub deployment: Option<&'a Resource<DeploymentSpec>>,
    /// The platform's own names, below which services get hosts by themselves (in dev `localhost`).
    pub host_suffixes: &'a [String],
    /// What the zone has now.
    pub current: Option<&'a AssignmentSpec>,
}

/// The workers that serve a service's whole traffic when nothing is asked of it: as many as were set, else the most that
/// any of its versions has as its `min`; one that may sleep still has its place.
pub(crate) fn workers_at_rest<'a>(
    service: &ServiceSpec,
    versions: impl IntoIterator<Item = &'a VersionSpec>,
) -> u32 {
    let floor = versions.into_iter().map(|version| version.manifest.min).max().unwrap_or(1);
    service.workers.unwrap_or(floor).max(1)
}

/// The zone's part, if it is to change. While a version with a share is not among those known, what the zone has
/// stays: whoever reads the snapshot is only behind.
#[must_use]
pub fn hand_down(view: HanddownView<'_>) -> Option<AssignmentSpec> {
    let (spec, status) = (&view.service.spec, &view.service.status);
    let removed = view.service.deleted_at.is_some();
    let known =
        |name: &VersionName| view.versions.iter().any(|version| version.spec.version.version == *name);
    if !removed && !status.split.iter().all(|(name, _)| known(name)) {
        return None;
    }
    let from = view.deployment.map(|deployment| &deployment.status.from);
    let involved = |version: &&&Resource<VersionSpec>| {
        let name = &version.spec.version.version;
        let before = from.is_some_and(|from| from.share(name).millionths() > 0);
        before || status.split.share(name).millionths() > 0
    };
    let versions: Vec<VersionSpec> =
        view.versions.iter().filter(involved).map(|version| version.spec.clone()).collect();
    let newest = view.versions.iter().max_by_key(|version| (version.created_at, &version.name));
    let preload = newest.filter(|version| !involved(version)).map(|version| version.spec.clone());
    let workers = workers_at_rest(spec, &versions);
    let mut next = AssignmentSpec {
        service: spec.service.clone(),
        handed_down: 0,
        round: status.round,
        matches: matches(&view),
        split: status.split.clone(),
        hold: status.hold,
        versions,
        preload,
        upstreams: spec.upstreams.clone(),
        workers,
        scales: spec.workers.is_none() && spec.upstreams.is_empty(),
        deployment: status.deployment.clone(),
        from: from.cloned().unwrap_or_default(),
        removed,
    };
    next.handed_down = view.current.map_or(0, |current| current.handed_down);
    if view.current == Some(&next) {
        return None;
    }
    next.handed_down += 1;
    Some(next)
}

/// The requests a service takes: its own hosts, its gRPC path under its domain, and its routes; all of it under the
/// domain's other names too.
fn matches(view: &HanddownView<'_>) -> Vec<RouteMatch> {
    let service = &view.service.spec.service;
    let names = || std::iter::once(&service.domain).chain(view.aliases);
    let mut matches: Vec<RouteMatch> = Vec::new();
    if owns_label(view) {
        for name in names() {
            let hosts = view.host_suffixes.iter().map(|suffix| host_below(service, name, suffix));
            matches.extend(hosts.map(|host| RouteMatch { host, path: "/".into() }));
        }
    }
    if service.service.is_qualified() {
        let path = format!("/{}", service.service);
        for name in names() {
            let hosts = view.host_suffixes.iter().map(|suffix| format!("{name}.{suffix}"));
            let hosts = hosts.chain([name.to_string()]);
            matches.extend(hosts.map(|host| RouteMatch { host, path: path.clone() }));
        }
        if !view.host_suffixes.is_empty() && names().any(|name| service.service.is_of(name)) {
            // The package says the domain, so a caller who has no name for this platform (127.0.0.1:8080) is served.
            matches.push(RouteMatch { host: "*".into(), path });
        }
    }
    let routes = || view.routes.iter().map(|route| &route.spec.r#match);
    matches.extend(routes().cloned());
    let under_aliases = routes().flat_map(|route| under_aliases(route, &service.domain, view.aliases));
    matches.extend(under_aliases.filter(|route| !view.taken.contains(&route.to_string())));
    matches.sort();
    matches.dedup();
    matches
}

/// What a route to a host of a domain is under its other names: `shop.example.com/api` is `shop.example.org/api`.
pub fn under_aliases<'a>(
    route: &'a RouteMatch,
    domain: &'a DomainName,
    aliases: &'a [DomainName],
) -> impl Iterator<Item = RouteMatch> + 'a {
    let rest = route.host.strip_suffix(domain.as_str());
    let rest = rest.filter(|rest| rest.is_empty() || rest.ends_with('.'));
    aliases.iter().filter_map(move |alias| {
        let host = format!("{}{alias}", rest?);
        // One that is too long for a host is no host.
        (host.len() <= limits::DOMAIN_NAME_BYTES).then(|| RouteMatch { host, path: route.path.clone() })
    })
}

/// The host that a service has by itself below one of the platform's names.
#[must_use]
pub fn automatic_host(service: &ServiceRef, suffix: &str) -> String {
    host_below(service, &service.domain, suffix)
}

fn host_below(service: &ServiceRef, domain: &DomainName, suffix: &str) -> String {
    format!("{}.{domain}.{suffix}", service.service.host_label())
}

/// Two services of a domain may have one label (`web` and `com.example.Web`): the older one has the host.
fn owns_label(view: &HanddownView<'_>) -> bool {
    let label = view.service.spec.service.service.host_label();
    let rivals = view.siblings.iter().filter(|sibling| sibling.spec.service.service.host_label() == label);
    let first = rivals.min_by_key(|sibling| (sibling.created_at, &sibling.name));
    first.is_none_or(|first| first.name == view.service.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tutti_model::{Split, Timestamp, Uid};

    fn service(name: &str, created: u64) -> Resource<ServiceSpec> {
        let spec = ServiceSpec { service: name.parse().unwrap(), upstreams: Vec::new(), workers: None };
        Resource::new(name, Uid::from_bits(u128::from(created)), Timestamp(created), spec)
    }

    fn version(name: &str, created: u64) -> Resource<VersionSpec> {
        let spec = crate::zone::fixtures::version(name);
        Resource::new(spec.version.to_string(), Uid::from_bits(u128::from(created)), Timestamp(created), spec)
    }

    fn down(
        service: &Resource<ServiceSpec>,
        versions: &[&Resource<VersionSpec>],
        current: Option<&AssignmentSpec>,
    ) -> Option<AssignmentSpec> {
        hand_down(HanddownView {
            service,
            siblings: &[service],
            aliases: &[],
            taken: &BTreeSet::new(),
            versions,
            routes: &[],
            deployment: None,
            host_suffixes: &["localhost".to_owned()],
            current,
        })
    }

    #[test]
    fn changes_are_numbered_and_sameness_is_silent() {
        let mut service = service("example.com:web", 1);
        let one = version("1.0", 2);
        let first = down(&service, &[&one], None).unwrap();
        assert_eq!((first.handed_down, first.versions.len()), (1, 0));
        assert_eq!(first.preload.as_ref(), Some(&one.spec), "pushed, not deployed");
        assert_eq!(down(&service, &[&one], Some(&first)), None);
        service.status.split = Split::all("1.0".parse().unwrap());
        service.status.round = 1;
        let second = down(&service, &[&one], Some(&first)).unwrap();
        assert_eq!((second.handed_down, second.versions.len(), second.preload), (2, 1, None));
    }

    #[test]
    fn nothing_is_handed_down_without_the_versions_that_serve() {
        let mut service = service("example.com:web", 1);
        service.status.split = Split::all("1.0".parse().unwrap());
        assert_eq!(down(&service, &[], None), None, "the version is not known yet");
        service.deleted_at = Some(Timestamp(9));
        assert!(down(&service, &[], None).unwrap().removed, "what goes needs no version");
    }

    #[test]
    fn hosts_follow_from_names() {
        let assignment = down(&service("example.com:com.example.HelloWorld", 1), &[], None).unwrap();
        let texts: Vec<String> = assignment.matches.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "*/com.example.HelloWorld",
                "example.com/com.example.HelloWorld",
                "example.com.localhost/com.example.HelloWorld",
                "helloworld.example.com.localhost",
            ]
        );
    }

    #[test]
    fn of_two_with_one_label_the_older_has_the_host() {
        let (old, new) = (service("example.com:web", 1), service("example.com:com.example.Web", 2));
        let (siblings, none) = ([&old, &new], BTreeSet::new());
        let view = |service| HanddownView {
            service,
            siblings: &siblings,
            aliases: &[],
            taken: &none,
            versions: &[],
            routes: &[],
            deployment: None,
            host_suffixes: &[],
            current: None,
        };
        assert!(owns_label(&view(&old)) && !owns_label(&view(&new)));
    }

    #[test]
    fn everything_is_under_the_other_names_too_but_what_is_routed_there() {
        let web = service("example.com:com.example.Web", 1);
        let route = |host: &str| {
            let spec = RouteSpec { r#match: host.parse().unwrap(), service: web.spec.service.clone() };
            Resource::new(host, Uid::from_bits(7), Timestamp(1), spec)
        };
        let routes = [route("example.com"), route("shop.example.com/api"), route("elsewhere.net")];
        let routes: Vec<_> = routes.iter().collect();
        let assignment = hand_down(HanddownView {
            service: &web,
            siblings: &[&web],
            aliases: &["example.org".parse().unwrap()],
            taken: &BTreeSet::from(["shop.example.org/api".to_owned()]),
            versions: &[],
            routes: &routes,
            deployment: None,
            host_suffixes: &["localhost".to_owned()],
            current: None,
        });
        let matches = assignment.unwrap().matches;
        let below: Vec<String> =
            matches.iter().map(ToString::to_string).filter(|text| text.contains("example.org")).collect();
        assert_eq!(
            below,
            [
                "example.org",
                "example.org/com.example.Web",
                "example.org.localhost/com.example.Web",
                "web.example.org.localhost",
            ]
        );
    }
}
