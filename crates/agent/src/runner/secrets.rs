//! The secrets of an instance: asked of control before each start, and kept in the ledger, sealed under the node's own
//! key, for starts while control is away or cannot read them.

use super::{Interrupt, Runner};
use crate::restart::rounded;
use std::sync::Arc;
use tutti_base::SecretValues;
use tutti_model::{ErrorCode, InstanceId, Problem, instance::InstanceState};
use zeroize::Zeroizing;

/// What the values of an instance are sealed for.
fn identity(instance: &InstanceId) -> String {
    format!("instance {instance}")
}

impl Runner {
    /// What the instance is to have in its environment, however long that takes; or what ends it meanwhile.
    pub(super) async fn secrets(&mut self) -> Result<SecretValues, Interrupt> {
        if self.entry.spec.manifest.secrets.is_empty() {
            return Ok(SecretValues::default());
        }
        loop {
            let problem = match self.asked().await? {
                Ok(values) => {
                    self.pulls.succeed();
                    self.keep(&values).await;
                    return Ok(values);
                }
                Err(problem) => problem,
            };
            if let Some(values) = self.kept(&problem).await {
                tracing::warn!(
                    instance = %self.entry.spec.instance, %problem,
                    "started with the secrets that it had before"
                );
                return Ok(values);
            }
            let pause = self.pulls.fail();
            let reason = format!("has no secrets yet: {problem} (trying again in {})", rounded(pause));
            self.voice.say(InstanceState::Starting, Some(reason), Vec::new());
            // What else this node ran before need not wait for it.
            self.voice.settle();
            if let Some(interrupt) = self.pause(pause).await {
                return Err(interrupt);
            }
        }
    }

    /// What control says.
    async fn asked(&mut self) -> Result<Result<SecretValues, Problem>, Interrupt> {
        let (node, instance) = (Arc::clone(&self.node), self.entry.spec.instance.clone());
        let answer = node.zone.instance_secrets(&node.name, &instance);
        tokio::pin!(answer);
        loop {
            tokio::select! {
                biased;
                () = self.orders.changed() => if let Some(interrupt) = self.obey().await {
                    return Err(interrupt);
                },
                answer = &mut answer => return Ok(answer),
            }
        }
    }

    /// Writes them into the ledger, sealed. If that cannot be, the instance starts all the same: only a later start
    /// without control will not.
    async fn keep(&mut self, values: &SecretValues) {
        let sealed = match serde_json::to_vec(values).map(Zeroizing::new) {
            Ok(text) => {
                self.node.keyring.seal(&identity(&self.entry.spec.instance), &text).await.map_err(|problem| {
                    tracing::warn!(instance = %self.entry.spec.instance, %problem, "its secrets are not kept");
                })
            }
            Err(_) => Err(()),
        };
        self.entry.secrets = sealed.ok();
        self.record().await;
    }

    /// Those of the last start, where control cannot say what they are now. Where it says that there is no such secret
    /// or instance, they are not used again.
    async fn kept(&self, problem: &Problem) -> Option<SecretValues> {
        use ErrorCode as E;
        if !matches!(problem.code, E::Unavailable | E::Timeout | E::Internal | E::Conflict) {
            return None;
        }
        let (sealed, instance) = (self.entry.secrets.as_ref()?, &self.entry.spec.instance);
        let object = format!("what is kept of the secrets of instance {instance}");
        match self.node.keyring.open(&object, &identity(instance), sealed).await {
            // What is not whole is not shown: it could be a part of a value.
            Ok(text) => serde_json::from_slice(text.reveal()).ok(),
            Err(problem) => {
                tracing::warn!(%instance, %problem, "its secrets of before cannot be used");
                None
            }
        }
    }
}

#[cfg(test)]
mod tests;
