//! How a Group is presented and balanced: from configuration and container labels.

use std::collections::BTreeMap;

use lb_common::Algorithm;
use serde::{Deserialize, Serialize};

use super::PublishLabel;

/// What an alias resolves to.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum EndpointMode {
    /// The Group's VIP.
    #[default]
    Vip,
    /// All Members in random order, as Docker does.
    Dnsrr,
}

/// How one Group is presented and balanced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Policy {
    pub endpoint_mode: EndpointMode,
    #[serde(with = "algorithm_name")]
    pub algorithm: Algorithm,
    /// Seconds that a client keeps its Backend for new Connections; 0: no affinity.
    pub affinity: u32,
}

/// Algorithms by name, as in configuration and labels.
mod algorithm_name {
    use lb_common::Algorithm;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(value: &Algorithm, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(value.name())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Algorithm, D::Error> {
        let name = String::deserialize(from)?;
        Algorithm::from_name(&name).ok_or_else(|| D::Error::custom("not an algorithm"))
    }
}

/// A label whose value cannot be used. The container is served without it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("label {label}={value:?}: {problem}; write {remedy}")]
pub struct PolicyError {
    pub label: String,
    pub value: String,
    pub problem: &'static str,
    pub remedy: &'static str,
}

/// The labels that veer reads.
pub mod label {
    pub const ENDPOINT_MODE: &str = "veer.endpoint-mode";
    pub const ALGORITHM: &str = "veer.algorithm";
    pub const WEIGHT: &str = "veer.weight";
    pub const AFFINITY: &str = "veer.affinity";
    pub const PORT: &str = "veer.port";
    pub const PUBLISH: &str = "veer.publish";
}

/// What one container's labels ask for; `None` where they are silent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LabelPolicy {
    pub endpoint_mode: Option<EndpointMode>,
    pub algorithm: Option<Algorithm>,
    /// 0 to 1000; a Member of weight 0 gets no new Connections.
    pub weight: Option<u16>,
    /// Seconds.
    pub affinity: Option<u32>,
    /// Where the container listens for what is published for its Groups.
    pub port: Option<u16>,
}

impl LabelPolicy {
    /// Reads the `veer.*` labels. What cannot be used is left out and told in the list.
    pub fn from_labels(labels: &BTreeMap<String, String>) -> (Self, Vec<PolicyError>) {
        let mut policy = Self::default();
        let mut errors = Vec::new();
        for (name, value) in labels.iter().filter(|(name, _)| name.starts_with("veer.")) {
            if let Err((problem, remedy)) = policy.read(name, value) {
                errors.push(PolicyError {
                    label: name.clone(),
                    value: value.clone(),
                    problem,
                    remedy,
                });
            }
        }
        (policy, errors)
    }

    fn read(&mut self, name: &str, value: &str) -> Result<(), (&'static str, &'static str)> {
        match name {
            label::ENDPOINT_MODE => {
                let mode = match value {
                    "vip" => EndpointMode::Vip,
                    "dnsrr" => EndpointMode::Dnsrr,
                    _ => return Err(("not an endpoint mode", "vip or dnsrr")),
                };
                self.endpoint_mode = Some(mode);
            }
            label::ALGORITHM => {
                let algorithm = Algorithm::from_name(value).ok_or((
                    "not an algorithm",
                    "round-robin, random, weighted-round-robin, least-connections or maglev",
                ))?;
                self.algorithm = Some(algorithm);
            }
            label::WEIGHT => {
                let weight = value.parse().ok().filter(|weight| *weight <= 1_000);
                self.weight = Some(weight.ok_or(("not a weight", "a number from 0 to 1000"))?);
            }
            label::AFFINITY => self.affinity = Some(seconds(value)?),
            label::PORT => {
                let port = value.parse().ok().filter(|port| *port != 0);
                self.port = Some(port.ok_or(("not a port", "a number from 1 to 65535"))?);
            }
            label::PUBLISH => {
                PublishLabel::parse_all(value).ok_or((
                    "not a list of ports",
                    "[address:]port[-last][:target][/protocol][@alias], separated by commas",
                ))?;
            }
            _ => {
                return Err((
                    "not a label that veer knows",
                    "one that `veer config --labels` lists",
                ));
            }
        }
        Ok(())
    }
}

/// Seconds from a number with an optional unit `s`, `m` or `h`; at most a day.
fn seconds(value: &str) -> Result<u32, (&'static str, &'static str)> {
    let error = (
        "not a duration",
        "seconds such as 30s, 10m or 3h, at most 24h",
    );
    let (number, unit) = match value.strip_suffix(['s', 'm', 'h']) {
        Some(number) if value.ends_with('m') => (number, 60),
        Some(number) if value.ends_with('h') => (number, 3_600),
        Some(number) => (number, 1),
        None => (value, 1),
    };
    let seconds = number
        .parse::<u32>()
        .ok()
        .and_then(|number| number.checked_mul(unit));
    seconds.filter(|seconds| *seconds <= 86_400).ok_or(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(k, v)| (k.to_string(), v.to_string()))
            .collect()
    }

    #[test]
    fn labels_say_how_a_group_is_balanced() {
        let labels = labels(&[
            (label::ENDPOINT_MODE, "dnsrr"),
            (label::ALGORITHM, "maglev"),
            (label::WEIGHT, "3"),
            (label::AFFINITY, "10m"),
            ("com.example.other", "x"),
        ]);

        let (policy, errors) = LabelPolicy::from_labels(&labels);

        assert_eq!(errors, []);
        assert_eq!(policy.endpoint_mode, Some(EndpointMode::Dnsrr));
        assert_eq!(policy.algorithm, Some(Algorithm::Maglev));
        assert_eq!((policy.weight, policy.affinity), (Some(3), Some(600)));
    }

    #[test]
    fn a_bad_label_is_told_and_the_others_are_kept() {
        let labels = labels(&[
            (label::WEIGHT, "many"),
            (label::ALGORITHM, "random"),
            ("veer.algoritm", "x"),
        ]);

        let (policy, errors) = LabelPolicy::from_labels(&labels);

        assert_eq!(policy.algorithm, Some(Algorithm::Random));
        assert_eq!(policy.weight, None);
        let told: Vec<_> = errors.iter().map(|error| error.label.as_str()).collect();
        assert_eq!(told, ["veer.algoritm", "veer.weight"]);
    }
}
