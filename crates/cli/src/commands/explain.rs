//! `tutti explain`: why something is as it is.

use super::Session;
use crate::{
    exit::Failed,
    text::harmless,
    ui::{Tone, Ui},
};
use tutti_api::wire::{Explanation, ServiceSummary};
use tutti_model::{
    DeploymentId, ErrorCode, InstanceId, Kind, Problem,
    name::{ServiceText, VersionText},
    route::RouteMatch,
};

pub(super) async fn explain(session: &Session<'_>, object: &str) -> Result<(), Failed> {
    let (kind, name) = meant(object)?;
    let explanation = match session.client.explain(kind, &name).await {
        // In lower case throughout, a host and a package look alike.
        Err(problem) if problem.code == ErrorCode::NotFound && kind == Kind::Route && object == name => {
            match object.parse::<ServiceText>() {
                Ok(service) => match session.client.explain(Kind::Service, &service.to_string()).await {
                    Ok(explanation) => explanation,
                    Err(_) => other(session, object).await?.ok_or(problem)?,
                },
                Err(_) => other(session, object).await?.ok_or(problem)?,
            }
        }
        explained => explained?,
    };
    session.ui.result(&explanation, || picture(&explanation, session.ui))
}

/// What else a host may be: one that a service has without a route of its own, or a domain.
async fn other(session: &Session<'_>, object: &str) -> Result<Option<Explanation>, Problem> {
    let status = session.client.status().await?;
    let host = |summary: &&ServiceSummary| summary.hosts.iter().any(|host| host == object);
    if let Some(summary) = status.services.iter().find(host) {
        return session.client.explain(Kind::Service, &summary.service.to_string()).await.map(Some);
    }
    Ok(session.client.explain(Kind::Domain, object).await.ok())
}

/// What a person means by a name: `KIND/NAME`, or a name whose form says what it is.
fn meant(object: &str) -> Result<(Kind, String), Problem> {
    if let Some((kind, name)) = object.split_once('/') {
        // A kind is never a host: those have dots, or a port's colon is refused.
        if let Ok(kind) = kind.parse::<Kind>() {
            return Ok((kind, name.to_owned()));
        }
        if !kind.contains('.') && kind != "*" {
            return kind.parse::<Kind>().map(|kind| (kind, name.to_owned()));
        }
        return Ok((Kind::Route, object.parse::<RouteMatch>()?.to_string()));
    }
    if object.parse::<DeploymentId>().is_ok() {
        return Ok((Kind::Deployment, object.to_owned()));
    }
    if object.parse::<InstanceId>().is_ok() {
        return Ok((Kind::Instance, object.to_owned()));
    }
    if object.contains('@') {
        return Ok((Kind::Version, object.parse::<VersionText>()?.to_string()));
    }
    // A name of dots alone is a package with its service, or a host. Packages end in a message's style of name.
    let host = !object.contains(':')
        && object.contains('.')
        && !object.bytes().any(|byte| byte.is_ascii_uppercase());
    if host && object.parse::<RouteMatch>().is_ok() {
        return Ok((Kind::Route, object.to_owned()));
    }
    let service = object.parse::<ServiceText>()?;
    if service.domain.is_none() && !object.contains('.') {
        let problem = Problem::invalid(format!("\"{object}\" does not say what it is"));
        return Err(problem
            .hint(format!("write DOMAIN:{object} for a service, or KIND/{object}, such as node/{object}")));
    }
    Ok((Kind::Service, service.to_string()))
}

fn picture(explanation: &Explanation, ui: &Ui) -> String {
    let tone = if explanation.well { Tone::Good } else { Tone::Bad };
    let summary = format!("{}: {}", explanation.object, harmless(&explanation.summary));
    let summary = ui.wrap(&summary, 0);
    // The object is the beginning of the first line, or all of it.
    let rest = summary.strip_prefix(&explanation.object).unwrap_or_default();
    let mut out = format!("{}{rest}\n", ui.paint(tone, &explanation.object));
    let mut about = explanation.object.as_str();
    let mut depth = 2;
    for reason in &explanation.reasons {
        // Named when it changes, so that the chain reads from what was asked down to what is.
        if reason.about != about {
            out.push_str(&format!("  {}\n", ui.paint(Tone::Dim, &reason.about)));
            about = &reason.about;
            depth = 4;
        }
        let text = ui.wrap(&harmless(&reason.text), depth + 2);
        out.push_str(&format!("{:depth$}- {text}\n", ""));
        for line in &reason.lines {
            out.push_str(&format!("{:depth$}    {}\n", "", harmless(line)));
        }
    }
    for hint in &explanation.hints {
        let hint = ui.wrap(&harmless(hint), "hint: ".len());
        out.push_str(&format!("{} {hint}\n", ui.paint(Tone::Dim, "hint:")));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_is_meant() {
        for (object, kind, name) in [
            ("d-0123456789", Kind::Deployment, "d-0123456789"),
            ("i-0123456789", Kind::Instance, "i-0123456789"),
            ("example.com:web@1.0", Kind::Version, "example.com:web@1.0"),
            ("example.com:web", Kind::Service, "example.com:web"),
            ("com.example.HelloWorld", Kind::Service, "com.example.HelloWorld"),
            ("shop.example.com", Kind::Route, "shop.example.com"),
            ("shop.example.com/api/v1", Kind::Route, "shop.example.com/api/v1"),
            ("*/api", Kind::Route, "*/api"),
            ("service/example.com:web", Kind::Service, "example.com:web"),
            ("routes/shop.example.com/api", Kind::Route, "shop.example.com/api"),
            ("node/box", Kind::Node, "box"),
        ] {
            assert_eq!(meant(object).unwrap(), (kind, name.to_owned()), "{object}");
        }
        assert_eq!(meant("servise/x").unwrap_err().hint.unwrap(), "did you mean \"service\"?");
        assert!(meant("Nothing").is_err());
    }
}
