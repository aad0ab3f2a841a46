//! How a Group is balanced: what four places say about it.

use lb_common::Algorithm;

use super::Served;
use super::groups::Draft;
use crate::config::{Config, GroupName};
use crate::model::{Container, LabelPolicy, Notice, Policy, label};

/// What the labels of a container ask for. What cannot be used goes to `notices`.
pub(super) fn labels(container: &Container, notices: &mut Vec<Notice>) -> LabelPolicy {
    let (labels, errors) = LabelPolicy::from_labels(&container.labels);
    notices.extend(errors.into_iter().map(|error| Notice {
        subject: format!("container {}", container.name),
        message: format!("{error}; the container is served without it"),
    }));
    labels
}

/// The policy of a Group. What is said for it in the configuration counts most, then the labels of
/// its Members, then its Network, then the defaults.
pub(super) fn policy(
    draft: &Draft<'_>,
    served: &[Served<'_>],
    config: &Config,
    notices: &mut Vec<Notice>,
) -> Policy {
    let name = GroupName {
        network: draft.network.name.clone(),
        alias: draft.alias.clone(),
    };
    let group = config.groups.get(&name).copied().unwrap_or_default();
    let network = config.network(&draft.network.name);
    let members = draft.members.iter().filter_map(|index| served.get(*index));
    let mut labels = Labels {
        draft,
        members: members.collect(),
        notices,
    };
    Policy {
        endpoint_mode: group
            .endpoint_mode
            .or_else(|| labels.agreed(label::ENDPOINT_MODE, |l| l.endpoint_mode))
            .or(network.endpoint_mode)
            .unwrap_or(config.endpoint_mode),
        algorithm: group
            .algorithm
            .or_else(|| labels.agreed(label::ALGORITHM, |l| l.algorithm))
            .or(network.algorithm)
            .unwrap_or(config.balancing.algorithm),
        affinity: group
            .affinity
            .or_else(|| labels.agreed(label::AFFINITY, |l| l.affinity))
            .or(network.affinity)
            .unwrap_or(config.balancing.affinity),
    }
}

/// Tells of weights that nothing comes of.
pub(super) fn note_idle_weights(
    draft: &Draft<'_>,
    served: &[Served<'_>],
    notices: &mut Vec<Notice>,
) {
    let algorithm = draft.policy.algorithm;
    match algorithm {
        Algorithm::WeightedRoundRobin | Algorithm::Maglev => return,
        Algorithm::RoundRobin | Algorithm::Random | Algorithm::LeastConnections => {}
    }
    let mut members = draft.members.iter().filter_map(|index| served.get(*index));
    let Some(member) = members.find(|member| member.weight() > 1) else {
        return;
    };
    notices.push(Notice {
        subject: format!("group {}", draft.name()),
        message: format!(
            "the weight of container {} has no effect with {algorithm}; set {} to \
             weighted-round-robin or maglev",
            member.container.name,
            label::ALGORITHM,
        ),
    });
}

/// The labels of a Group's Members, in the order of the Members.
struct Labels<'a> {
    draft: &'a Draft<'a>,
    members: Vec<&'a Served<'a>>,
    notices: &'a mut Vec<Notice>,
}

impl Labels<'_> {
    /// What the first Member that says something says. Who says otherwise goes to the notices.
    fn agreed<T: PartialEq + Copy>(
        &mut self,
        label: &str,
        read: impl Fn(&LabelPolicy) -> Option<T>,
    ) -> Option<T> {
        let members = self.members.iter();
        let mut said = members.filter_map(|served| Some((read(&served.labels)?, served)));
        let (value, first) = said.next()?;
        if let Some((_, other)) = said.find(|(other, _)| *other != value) {
            let (first, other) = (&first.container.name, &other.container.name);
            let group = self.draft.name();
            self.notices.push(Notice {
                subject: format!("group {group}"),
                message: format!(
                    "containers {first} and {other} have different {label} labels, that of \
                     {first} counts; make them equal, or set it in [group.\"{group}\"]"
                ),
            });
        }
        Some(value)
    }
}
