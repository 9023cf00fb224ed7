//! `tutti version preload`: nodes hold a version ready to start before anything of it is deployed.

use super::{Session, tables};
use crate::exit::Failed;
use tutti_api::wire::{Preload, Preloaded};
use tutti_model::{ErrorCode, Millis, Problem, name::VersionText, node::Readiness};

pub(super) async fn preload(
    session: &Session<'_>,
    version: &VersionText,
    asked: Preload,
) -> Result<(), Failed> {
    let said = session.client.preload(&version.to_string(), &asked).await?;
    session.ui.result(&said, || tables::preloaded(&said).show(session.ui))?;
    match asked.wait.and_then(|waited| failure(version, &said, waited)) {
        Some(problem) => Err(problem.into()),
        None => Ok(()),
    }
}

/// Why not every node that was asked, and waited for, holds the version ready.
fn failure(version: &VersionText, said: &Preloaded, waited: Millis) -> Option<Problem> {
    if said.ready {
        return None;
    }
    let (asked, cannot) = (said.nodes.len(), cannot(said));
    if cannot > 0 {
        let text = format!("{version} cannot run on {cannot} of {asked} nodes that were asked");
        return Some(Problem::invalid(text).hint("mend what they say, and push it as another version"));
    }
    let late =
        said.nodes.iter().filter(|node| !matches!(node.readiness, Some(Readiness::Ready { .. }))).count();
    let text = format!("{late} of {asked} nodes that were asked do not hold {version} ready after {waited}");
    Some(
        Problem::new(ErrorCode::Timeout, text)
            .hint(format!("they go on; see how far with: tutti version preload {version}")),
    )
}

fn cannot(said: &Preloaded) -> usize {
    let cannot =
        said.nodes.iter().filter(|node| matches!(node.readiness, Some(Readiness::Unrunnable { .. })));
    cannot.count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tutti_api::wire::NodePreload;

    fn said(nodes: &[Option<Readiness>]) -> Preloaded {
        let ready = nodes.iter().all(|node| matches!(node, Some(Readiness::Ready { .. })));
        let nodes = nodes.iter().zip(1..).map(|(readiness, number)| NodePreload {
            node: format!("n{number}").parse().unwrap(),
            readiness: readiness.clone(),
        });
        Preloaded { nodes: nodes.collect(), ready }
    }

    #[test]
    fn fails_when_a_node_cannot_or_is_late() {
        let version: VersionText = "web@1.0".parse().unwrap();
        let ready = Some(Readiness::Ready { took: Millis(71) });
        let delayed = Some(Readiness::Delayed { reason: "the disk is full".to_owned() });
        let unrunnable = Some(Readiness::Unrunnable { reason: "it is not a component".to_owned() });
        let failed = |nodes: &[Option<Readiness>]| {
            failure(&version, &said(nodes), Millis::seconds(20)).map(|problem| (problem.code, problem.detail))
        };
        assert_eq!(failed(&[ready.clone(), ready.clone()]), None);
        assert_eq!(
            failed(&[ready.clone(), delayed.clone(), None]).unwrap(),
            (
                ErrorCode::Timeout,
                "2 of 3 nodes that were asked do not hold web@1.0 ready after 20s".to_owned()
            )
        );
        let (code, text) = failed(&[ready.clone(), unrunnable.clone()]).unwrap();
        assert_eq!(code, ErrorCode::Invalid);
        assert_eq!(text, "web@1.0 cannot run on 1 of 2 nodes that were asked");
        let nodes = said(&[ready, delayed, unrunnable, None]);
        insta::assert_snapshot!(tables::preloaded(&nodes).render(80, false));
    }
}
