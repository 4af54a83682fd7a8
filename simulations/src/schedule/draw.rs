//! What only some of the random runs have: jobs, secrets and configs, networks. Each is drawn from a stream of its own,
//! so that the rest of a run is the same with and without it.

use super::{CALM_MS, Schedule, Step, UP_MS, What};
use crate::chance::{Chance, Stream};
use crate::operators::{Act, Draft};
use crate::time::Span;

/// The number of the first job among the services.
const FIRST_JOB: u32 = 100;

/// Ports that services are reached at: so few that some want the same.
const FIRST_PORT: u16 = 8_000;
const PORTS: u64 = 5;
/// How many blocks of a small network one host may come to use at most, with all that operators create here.
const BLOCKS_OF_A_HOST: u32 = 5;

impl Schedule {
    /// In every third run there are jobs beside the services, each executed once or a few times.
    pub(super) fn draw_jobs(&mut self, most_slots: u64) {
        if !self.seed.is_multiple_of(3) {
            return;
        }
        let mut chance = Chance::new(self.seed, Stream::Jobs);
        for service in FIRST_JOB..FIRST_JOB + chance.between(1, 3) as u32 {
            let mut at_ms = chance.between(UP_MS + 1_000, self.heal_ms);
            let mut act = Act::Create { service, draft: Draft::draw_job(most_slots, &mut chance) };
            while at_ms < self.heal_ms {
                let on = chance.below(u64::from(self.hosts)) as u32;
                self.steps.push(Step { at_ms, what: What::Operator { on, act } });
                at_ms += chance.tailed(Span::secs(5), Span::secs(120)).as_ms();
                act = match chance.below(8) {
                    0 => Act::Remove { service },
                    1..=2 => Act::Scale { service, replicas: chance.between(1, most_slots) },
                    _ => Act::Update { service, tag: chance.below(1000) },
                };
            }
        }
    }

    /// In every fourth run there are secrets and configs, and half of the services get some as files.
    pub(super) fn draw_assets(&mut self) {
        if self.seed % 4 != 1 {
            return;
        }
        let mut chance = Chance::new(self.seed, Stream::Assets);
        let mut steps = Vec::new();
        let mut assets: Vec<(u32, u64)> = Vec::new();
        for asset in 1..=chance.between(2, 4) as u32 {
            // Some are there before most services are, others come later.
            let most = if asset <= 2 { UP_MS + CALM_MS / 2 } else { self.heal_ms };
            let mut at_ms = chance.between(UP_MS + 500, most);
            assets.push((asset, at_ms));
            let secret = chance.per_mille(400);
            let mut act = Act::CreateAsset { asset, secret, content: 0 };
            while at_ms < self.heal_ms {
                let on = chance.below(u64::from(self.hosts)) as u32;
                steps.push(Step { at_ms, what: What::Operator { on, act } });
                at_ms += chance.tailed(Span::secs(3), Span::secs(90)).as_ms();
                act = match chance.below(12) {
                    0 => Act::RemoveAsset { asset },
                    _ => Act::ReplaceConfig { asset, content: chance.below(1_000) },
                };
            }
        }
        for step in &mut self.steps {
            let What::Operator { act: Act::Create { draft, .. }, .. } = &mut step.what else {
                continue;
            };
            let there = assets.iter().filter(|(_, at_ms)| *at_ms < step.at_ms);
            draft.files =
                there.filter(|_| chance.per_mille(500)).map(|(asset, _)| *asset).collect();
        }
        self.steps.extend(steps);
        self.steps.sort_by_key(|step| step.at_ms);
    }

    /// In two of five runs there are networks; most services are on some of them, and some publish a port.
    pub(super) fn draw_networks(&mut self) {
        if self.seed % 5 >= 2 {
            return;
        }
        let mut chance = Chance::new(self.seed, Stream::Networks);
        let mut steps = Vec::new();
        let mut networks: Vec<(u32, u64)> = Vec::new();
        for network in 1..=chance.between(1, 3) as u32 {
            let most = if network == 1 { UP_MS + CALM_MS / 2 } else { self.heal_ms };
            let mut at_ms = chance.between(UP_MS + 500, most);
            networks.push((network, at_ms));
            // Two that were created on two sides of a cut may want the same range.
            let subnet = chance.per_mille(600).then(|| {
                let third = chance.below(2) * 8;
                format!("10.77.{third}.0/{}", self.prefix())
            });
            let mut act = Act::CreateNetwork { network, subnet: subnet.clone() };
            while at_ms < self.heal_ms {
                let on = chance.below(u64::from(self.hosts)) as u32;
                steps.push(Step { at_ms, what: What::Operator { on, act } });
                at_ms += chance.tailed(Span::secs(5), Span::secs(200)).as_ms();
                // Created once more where it is thought to be missing: refused, but on two sides of a cut.
                act = if chance.per_mille(400) {
                    Act::RemoveNetwork { network }
                } else {
                    Act::CreateNetwork { network, subnet: subnet.clone() }
                };
            }
        }
        self.draw_attachments(&networks, &mut chance, &mut steps);
        self.steps.extend(steps);
        self.steps.sort_by_key(|step| step.at_ms);
    }

    fn draw_attachments(
        &mut self,
        networks: &[(u32, u64)],
        chance: &mut Chance,
        steps: &mut Vec<Step>,
    ) {
        let (hosts, heal_ms) = (self.hosts, self.heal_ms);
        for step in &mut self.steps {
            let What::Operator { act: Act::Create { draft, service }, .. } = &mut step.what else {
                continue;
            };
            let some_at = |at_ms: u64, chance: &mut Chance| -> Vec<u32> {
                let there = networks.iter().filter(|(_, from_ms)| *from_ms < at_ms);
                there.filter(|_| chance.per_mille(600)).map(|(network, _)| *network).collect()
            };
            let port = |chance: &mut Chance| {
                chance.per_mille(300).then(|| FIRST_PORT + chance.below(PORTS) as u16)
            };
            draft.networks = some_at(step.at_ms, chance);
            if draft.job.is_some() {
                continue;
            }
            draft.port = port(chance);
            if chance.per_mille(300) {
                let at_ms = step.at_ms + chance.tailed(Span::secs(5), Span::secs(120)).as_ms();
                let (service, on) = (*service, chance.below(u64::from(hosts)) as u32);
                let act =
                    Act::Attach { service, networks: some_at(at_ms, chance), port: port(chance) };
                if at_ms < heal_ms {
                    steps.push(Step { at_ms, what: What::Operator { on, act } });
                }
            }
        }
    }

    /// The size of the smallest range that has blocks for all hosts, however often each of them was alone.
    fn prefix(&self) -> u32 {
        let blocks = (self.hosts + self.spare) * BLOCKS_OF_A_HOST;
        // Blocks of 16 addresses, one in sixty-four and at least one for virtual ones.
        (21..=24).rev().find(|prefix| (1 << (28 - prefix)) * 63 / 64 >= blocks).unwrap_or(21)
    }
}
