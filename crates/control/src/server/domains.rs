//! Domains.

use super::{
    call::{Answer, Call},
    names, reply,
    subject::Subject,
};
use tutti_api::wire::CreateDomain;
use tutti_model::{
    Problem,
    domain::{DomainSpec, Ownership},
    service::ServiceSpec,
};
use tutti_store::List;

/// Most domains of one platform.
const DOMAINS: usize = 10_000;

/// `POST /v1/domains`
pub(super) async fn create(call: Call) -> Answer {
    let request: CreateDomain = call.json()?;
    let objects = &call.app.objects;
    names::room_for::<DomainSpec>(objects, "", DOMAINS, "domains").await?;
    let mut domain = objects.make(request.name.as_str(), DomainSpec::default());
    if call.app.vouch {
        domain.status.ownership = Ownership::Vouched;
    }
    match objects.write().create(&domain).commit().await? {
        Some(revision) => {
            domain.revision = revision;
            Ok(reply::created(&domain))
        }
        None => Err(Problem::already_exists("domain", &request.name).into()),
    }
}

/// `GET /v1/domains/{name}`
pub(super) async fn get(call: Call) -> Answer {
    match &call.subject {
        Subject::Domain(domain) => Ok(reply::ok(domain)),
        _ => Err(Problem::internal("get_domain is not about a domain").into()),
    }
}

/// `DELETE /v1/domains/{name}`
pub(super) async fn delete(call: Call) -> Answer {
    let objects = &call.app.objects;
    for _ in 0..names::ATTEMPTS {
        let domain = names::existing_domain(&call.app, &call.caller, &call.name().parse()?).await?;
        // A new service touches its domain, so that none appears between this look and the deletion.
        let prefix = objects.key::<ServiceSpec>(&format!("{}:", domain.name));
        let list = List { limit: Some(1), ..List::prefix(prefix) };
        let services = objects.store().list(list).await.map_err(Problem::from)?;
        if let Some(service) = services.entries.first() {
            let service = crate::objects::decode::<ServiceSpec>(service)?;
            return Err(Problem::conflict(format!(
                "domain \"{}\" still has service {}",
                domain.name, service.name
            ))
            .object(domain.object())
            .hint(format!("delete its services first: tutti service delete {}", service.name))
            .into());
        }
        if objects.write().delete(&domain).commit().await?.is_some() {
            return Ok(reply::no_content());
        }
    }
    Err(names::busy("domain", call.name()).into())
}
