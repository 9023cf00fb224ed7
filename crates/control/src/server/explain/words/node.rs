//! The words on a node: what it has, what its machine uses, and what it can run.

use super::{Head, Words, amount, count};
use tutti_api::zone::NodeFigures;
use tutti_model::{Millis, Resource, node::NodeSpec};
use tutti_plan::placement::MEASURE_HOLDS;

impl Words<'_> {
    pub(super) fn node(
        &mut self,
        node: &Resource<NodeSpec>,
        instances: usize,
        measured: Option<&(Millis, NodeFigures)>,
    ) -> Head {
        let object = node.object();
        let (spec, status) = (&node.spec, &node.status);
        self.say(
            &object,
            format!(
                "has {}, and {} of memory and {} cpu in all",
                count(instances, "instance"),
                amount(status.capacity.memory),
                status.capacity.cpu
            ),
        );
        self.measured_says(&object, measured);
        for fingerprint in &status.isolates {
            let can = if fingerprint.usable { "can be used here" } else { "cannot be used here" };
            let notes = if fingerprint.notes.is_empty() {
                String::new()
            } else {
                format!(": {}", fingerprint.notes.join("; "))
            };
            self.say(format!("isolate {}", fingerprint.isolate), format!("{can}{notes}"));
        }
        if node.silent_since().is_some() {
            self.hint(format!("start its agent again, or see why control does not reach {}", node.name));
            return (
                object,
                false,
                "its agent is silent: what it last said may be out of date, and what it ran starts on others with room"
                    .to_owned(),
            );
        }
        if !status.ready {
            self.hint(format!("see whether tutti runs on {}, and what it logs", node.name));
            return (object, false, "its agent is still taking up what it ran before".to_owned());
        }
        if spec.draining {
            self.hint(format!("let it take instances again with: tutti node uncordon {}", node.name));
            return (object, true, "it drains: what runs there is to run elsewhere".to_owned());
        }
        if spec.cordoned {
            self.hint(format!("let it take instances again with: tutti node uncordon {}", node.name));
            return (
                object,
                true,
                "it is ready, and takes no new instances because it is cordoned".to_owned(),
            );
        }
        (object, true, "it is ready and takes instances".to_owned())
    }

    /// What its agent measured last, which placement goes by while it is new.
    fn measured_says(&mut self, object: &str, measured: Option<&(Millis, NodeFigures)>) {
        let Some((age, figures)) = measured else {
            self.say(object, "has not said yet what its machine uses, so placement goes by promises alone");
            return;
        };
        let counts = if *age <= MEASURE_HOLDS { "" } else { ": too long for placement to go by it" };
        self.say(
            object,
            format!(
                "its machine uses {} of memory, {} of disk and {} cpu, measured {} s ago{counts}",
                amount(figures.memory),
                amount(figures.disk),
                figures.cpu,
                age.0 / 1000
            ),
        );
    }
}
