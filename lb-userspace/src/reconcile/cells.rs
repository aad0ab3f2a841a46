//! Which cell each port of the host belongs to.

use std::collections::BTreeMap;

/// Runs of ports that belong to one cell, by protocol number and first port.
///
/// A *cell* is a maximal run of ports over which the set of published ranges is constant, and is
/// called by its first port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cells(BTreeMap<(u8, u16), Run>);

/// Consecutive ports of one cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    pub protocol: u8,
    pub first: u16,
    pub last: u16,
    /// First port of the cell; 0: nobody's.
    pub cell: u16,
}

impl Cells {
    /// The runs, in order.
    pub fn runs(&self) -> impl Iterator<Item = &Run> {
        self.0.values()
    }

    /// The cell that the port belongs to; 0: none.
    pub fn cell(&self, protocol: u8, port: u16) -> u16 {
        let mut before = self.0.range(..=(protocol, port));
        let run = before.next_back().map(|(_, run)| run);
        let run = run.filter(|run| run.protocol == protocol && run.last >= port);
        run.map_or(0, |run| run.cell)
    }

    /// Gives the ports of `run` to its cell, whosever they were.
    pub fn put(&mut self, run: Run) {
        for old in self.touching(&run) {
            self.0.remove(&(old.protocol, old.first));
            if old.first < run.first {
                let last = run.first - 1;
                self.0
                    .insert((old.protocol, old.first), Run { last, ..old });
            }
            if old.last > run.last {
                let first = run.last + 1;
                self.0.insert((old.protocol, first), Run { first, ..old });
            }
        }
        if run.cell != 0 {
            self.0.insert((run.protocol, run.first), run);
        }
    }

    /// The runs that have to be put to make `wanted` of these: those that are new, and then those that
    /// nobody has any longer.
    pub(super) fn difference(&self, wanted: &Self) -> Vec<Run> {
        let is_new = |run: &&Run| self.0.get(&(run.protocol, run.first)) != Some(*run);
        let mut steps: Vec<Run> = wanted.runs().filter(is_new).copied().collect();
        for old in self.runs() {
            steps.extend(wanted.gaps(old));
        }
        steps
    }

    /// The parts of `run` that have no cell here.
    fn gaps(&self, run: &Run) -> Vec<Run> {
        let mut gaps = Vec::new();
        let mut next = u32::from(run.first);
        let mut gap = |first: u32, end: u32| {
            if first < end {
                gaps.push(Run {
                    protocol: run.protocol,
                    first: first as u16,
                    last: (end - 1) as u16,
                    cell: 0,
                });
            }
        };
        for covering in self.touching(run) {
            gap(next, u32::from(covering.first));
            next = u32::from(covering.last) + 1;
        }
        gap(next, u32::from(run.last) + 1);
        gaps
    }

    /// The runs that share a port with `run`, in order.
    fn touching(&self, run: &Run) -> Vec<Run> {
        let (first, last) = ((run.protocol, run.first), (run.protocol, run.last));
        let before = self.0.range(..first).next_back().map(|(_, old)| old);
        let reaches = |old: &&Run| old.protocol == run.protocol && old.last >= run.first;
        let within = self.0.range(first..=last).map(|(_, old)| old);
        before
            .filter(reaches)
            .into_iter()
            .chain(within)
            .copied()
            .collect()
    }
}

impl FromIterator<Run> for Cells {
    fn from_iter<I: IntoIterator<Item = Run>>(runs: I) -> Self {
        let mut cells = Self::default();
        runs.into_iter().for_each(|run| cells.put(run));
        cells
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn run(first: u16, last: u16, cell: u16) -> Run {
        Run {
            protocol: 6,
            first,
            last,
            cell,
        }
    }

    #[test]
    fn a_run_takes_its_ports_from_others_and_leaves_them_the_rest() {
        let mut cells = Cells::from_iter([run(10, 19, 10)]);

        cells.put(run(13, 15, 13));

        let runs: Vec<_> = cells.runs().copied().collect();
        assert_eq!(runs, [run(10, 12, 10), run(13, 15, 13), run(16, 19, 10)]);
        assert_eq!(
            [9, 10, 14, 19, 20].map(|port| cells.cell(6, port)),
            [0, 10, 13, 10, 0]
        );
        assert_eq!(cells.cell(17, 14), 0);
    }

    #[test]
    fn the_last_port_is_a_port_like_any_other() {
        let mut cells = Cells::from_iter([run(65_530, 65_535, 65_530)]);

        cells.put(run(65_535, 65_535, 0));

        assert_eq!(
            [65_534, 65_535].map(|port| cells.cell(6, port)),
            [65_530, 0]
        );
    }

    fn some_cells() -> impl Strategy<Value = Cells> {
        let runs = vec((1..40u16, 0..10u16, 0..2u8), 0..8);
        runs.prop_map(|runs| {
            let run = |(first, more, protocol): (u16, u16, u8)| Run {
                protocol: 6 + protocol * 11,
                first,
                last: first + more,
                cell: first,
            };
            runs.into_iter().map(run).collect()
        })
    }

    proptest! {
        #[test]
        fn a_difference_makes_the_one_of_the_other_and_no_port_is_nobodys_in_between(
            old in some_cells(), new in some_cells()
        ) {
            let mut cells = old.clone();

            for step in old.difference(&new) {
                cells.put(step);
                for (protocol, port) in (0..60).flat_map(|port| [(6, port), (17, port)]) {
                    let both = old.cell(protocol, port) != 0 && new.cell(protocol, port) != 0;
                    prop_assert!(!both || cells.cell(protocol, port) != 0);
                }
            }

            for (protocol, port) in (0..60).flat_map(|port| [(6, port), (17, port)]) {
                prop_assert_eq!(cells.cell(protocol, port), new.cell(protocol, port));
            }
        }
    }
}
