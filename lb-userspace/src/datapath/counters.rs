//! What the programs have counted, over all CPUs.

use lb_common::{BackendCounters, EndpointId, FrontendCounters, Reason, RuleCounters};

use super::error::DatapathError;
use super::maps::Maps;

impl Maps {
    /// How often each Reason was counted.
    pub fn count_reasons(&self) -> Result<Vec<(Reason, u64)>, DatapathError> {
        let count = |reason: &Reason| Ok((*reason, self.reasons.get(*reason as u32)?.iter().sum()));
        Reason::ALL.iter().map(count).collect()
    }

    /// How many packets have been veer's business: as long as this number stands, no Connection has been
    /// opened.
    pub fn count_touched(&self) -> Result<u64, DatapathError> {
        let counts = self.count_reasons()?;
        let touched = counts.iter().filter(|(reason, _)| !reason.is_untouched());
        Ok(touched.map(|(_, count)| count).sum())
    }

    /// What the Frontend with this id has seen; nothing if there is no such id.
    pub fn count_frontend(&self, id: u32) -> Result<FrontendCounters, DatapathError> {
        let mut sum = FrontendCounters::default();
        for cpu in self.frontend_counters.get(id)? {
            sum.connections += cpu.connections;
            sum.refused += cpu.refused;
        }
        Ok(sum)
    }

    /// What the rule with this number has judged; 0: Frontends' own lists.
    pub fn count_rule(&self, rule: u32) -> Result<RuleCounters, DatapathError> {
        let mut sum = RuleCounters::default();
        for cpu in self.rule_counters.get(rule)? {
            sum.connections += cpu.connections;
            sum.last = sum.last.max(cpu.last);
            sum.identity = cpu.identity;
        }
        Ok(sum)
    }

    /// What the Endpoint with this id has seen as a Backend; nothing if there is no such id.
    pub fn count_backend(&self, id: EndpointId) -> Result<BackendCounters, DatapathError> {
        let mut sum = BackendCounters::default();
        for cpu in self.backend_counters.get(id)? {
            sum.connections += cpu.connections;
            sum.packets += cpu.packets;
            sum.bytes += cpu.bytes;
        }
        Ok(sum)
    }
}
