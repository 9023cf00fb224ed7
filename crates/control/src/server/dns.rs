//! What a DNS server sees and says: the hosts that services answer to, where the living ingresses are reached, and that
//! it lives itself. It learns nothing of what serves a host.

use super::{
    call::{Answer, Call, read_json},
    reply, zone,
};
use futures_util::StreamExt as _;
use tutti_api::{Change, WatchEvent, WatchStream, zone::DnsReport};
use tutti_model::{
    Problem, Resource,
    ingress::IngressSpec,
    table::{Backend, TableSpec},
};

/// `GET /v1/zone/hosts`
pub(super) async fn watch_hosts(call: Call) -> Answer {
    let after = zone::after(&call)?;
    let tables: WatchStream<TableSpec> = call.app.objects.watch(after);
    let hosts = tables.map(|event| event.map(hosts_alone)).boxed();
    zone::watch(&call, hosts, after)
}

/// The same without what serves the hosts.
fn hosts_alone(event: WatchEvent<TableSpec>) -> WatchEvent<TableSpec> {
    let bare = |mut table: Box<Resource<TableSpec>>| {
        table.spec.backend = Backend::None { reason: String::new() };
        table
    };
    match event {
        WatchEvent::InitItem(table) => WatchEvent::InitItem(bare(table)),
        WatchEvent::Changes { revision, changes } => {
            let changes = changes.into_iter().map(|change| match change {
                Change::Put(table) => Change::Put(bare(table)),
                gone @ Change::Delete { .. } => gone,
            });
            WatchEvent::Changes { revision, changes: changes.collect() }
        }
        whole @ (WatchEvent::Init | WatchEvent::InitDone { .. }) => whole,
    }
}

/// `GET /v1/zone/ingresses`
pub(super) async fn watch_ingresses(call: Call) -> Answer {
    let after = zone::after(&call)?;
    let ingresses: WatchStream<IngressSpec> = call.app.objects.watch(after);
    zone::watch(&call, ingresses, after)
}

/// `PUT /v1/zone/dns/{name}`
pub(super) async fn report(call: Call) -> Answer {
    let report: DnsReport = read_json(&call.body)?;
    let name = call.name();
    if report.server.as_str() != name {
        let text = format!("DNS server {name} cannot report for {}", report.server);
        return Err(Problem::invalid(text).into());
    }
    call.app.observed.dns_said(call.app.objects.clock().now(), &report);
    Ok(reply::no_content())
}
