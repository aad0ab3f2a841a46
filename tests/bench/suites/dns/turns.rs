//! Who is measured at the same time.

use super::Measure;
use super::resolvers::Resolver;

/// What is also measured while the kernel answers, in turns with it; Docker also while the daemon does.
///
/// # Why
/// Of what is measured in another minute, at another speed of the processor, ratios of a fifth are too uncertain.
const COMPANIONS: [&str; 3] = [DOCKER, "dnsmasq", "a datagram to oneself"];

/// Docker's own resolver.
pub(super) const DOCKER: &str = "Docker";

/// One that is measured in a turn, and what its figures are called.
pub(super) struct Part<'a> {
    pub(super) name: String,
    pub(super) resolver: &'a Resolver,
    is_companion: bool,
}

/// Who is there at the same time. veer is alone but for its companions: its programs run at everybody's sockets.
pub(super) fn turns(resolvers: &[Resolver]) -> Vec<Vec<Part<'_>>> {
    let (alone, together): (Vec<_>, Vec<_>) = resolvers.iter().partition(|one| one.disturbs());
    let companions = |veer: &Resolver| {
        let all = together.iter().filter(|one| COMPANIONS.contains(&one.name));
        let all = all.filter(|one| veer.is_in_kernel() || one.name == DOCKER);
        let all = all.map(|one| Part::companion(one, veer));
        all.collect::<Vec<_>>()
    };
    let alone = alone.iter().map(|veer| {
        let mut turn = companions(veer);
        turn.push(Part::whole(veer));
        turn
    });
    let mut turns: Vec<_> = alone.collect();
    turns.push(together.iter().map(|one| Part::whole(one)).collect());
    turns
}

/// What the figures of `companion` are called that were measured in turns with those of `veer`.
pub(super) fn beside(companion: &str, veer: &str) -> String {
    format!("{companion}, beside {veer}")
}

impl<'a> Part<'a> {
    fn whole(resolver: &'a Resolver) -> Self {
        Self {
            name: resolver.name.to_owned(),
            resolver,
            is_companion: false,
        }
    }

    /// What is also measured while `veer` answers.
    fn companion(resolver: &'a Resolver, veer: &Resolver) -> Self {
        Self {
            name: beside(resolver.name, veer.name),
            resolver,
            is_companion: true,
        }
    }

    /// Whether `measure` is taken of it.
    pub(super) fn takes(&self, measure: Measure) -> bool {
        let is_wanted = match measure {
            Measure::Latency(_) | Measure::Cost => true,
            Measure::Library(..) => !self.is_companion || self.resolver.name == DOCKER,
            Measure::Two | Measure::Dnsperf => !self.is_companion,
        };
        is_wanted && self.resolver.takes(measure)
    }
}
