//! Whole shops at random: sales, cuts, clones, restored backups, dead and new tills, compaction, full disks, in any order of arrival. Then
//! all is linked again in a line or a star, and must become equal, with every row that was on a living till.

use super::*;

struct Run {
    shop: Shop,
    dead: BTreeSet<usize>,
    saved: BTreeMap<usize, Mem>,
    log: Vec<String>,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut shop = Shop::new(3);
        shop.random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        Self { shop, dead: BTreeSet::new(), saved: BTreeMap::new(), log: vec![] }
    }

    fn pick(&mut self, n: usize) -> usize {
        usize::try_from(self.shop.next_random()).unwrap() % n
    }

    fn living(&self) -> Vec<usize> {
        (0..self.shop.tills.len()).filter(|till| !self.dead.contains(till)).collect()
    }

    fn link(&mut self, a: usize, b: usize) {
        if a != b && !self.shop.links.values().any(|(at, _, to)| (*at, *to) == (a, b)) {
            self.shop.link(a, b);
        }
    }

    /// Some steps of stores and links, not all.
    fn steps(&mut self, most: usize) {
        for _ in 0..self.pick(most) + 1 {
            self.shop.step();
        }
    }

    fn kill(&mut self, till: usize) {
        self.shop.restart(till, None);
        self.dead.insert(till);
        self.shop.tills[till].mem.broken = true;
    }

    fn event(&mut self) {
        let living = self.living();
        let till = living[self.pick(living.len())];
        let other = living[self.pick(living.len())];
        let what = self.pick(100);
        self.log.push(format!("{what} {till} {other}"));
        match what {
            0..=34 => {
                let count = 1 + self.pick(6);
                self.shop.sell(till, count);
            }
            35..=54 => self.link(till, other),
            55..=62 => {
                let links: Vec<LinkId> = self.shop.links.keys().copied().collect();
                if !links.is_empty() {
                    let link = links[self.pick(links.len())];
                    self.shop.cut(link);
                }
            }
            63..=66 => drop(self.saved.insert(till, self.shop.tills[till].mem.clone())),
            67..=69 if self.saved.contains_key(&till) => self.shop.restart(till, self.saved.get(&till).cloned()),
            70..=71 if self.shop.tills.len() < 8 => {
                let mut copy = self.shop.tills[till].mem.clone();
                copy.stop();
                let key = usize::from(self.shop.tills[till].replica.till.0[0]);
                self.shop.add_with(copy, key, true);
            }
            72 if living.len() > 2 => self.kill(till),
            73 if self.shop.tills.len() < 8 => drop(self.shop.add_with_own(Origin(5_000 + self.shop.next_boot))),
            74..=78 => {
                let origins: Vec<Origin> = self.shop.tills[till].mem.vector().0.keys().copied().collect();
                for origin in origins {
                    let upto = self.pick(40) as u64;
                    self.shop.tills[till].mem.compact(origin, upto);
                }
            }
            79..=80 => self.shop.tills[till].mem.broken = true,
            81..=84 => self.shop.tills[till].mem.broken = false,
            85..=86 => self.shop.restart(till, None),
            87..=92 => {
                let ms = 1 + self.pick(20_000) as u64;
                self.shop.run(ms);
            }
            _ => {}
        }
        self.steps(40);
        self.check();
    }

    /// Tills that hold the same ops have the same rows, at any moment.
    fn check(&self) {
        let tills: Vec<&Till> = self.living().into_iter().map(|till| &self.shop.tills[till]).collect();
        for (i, a) in tills.iter().enumerate() {
            for b in &tills[i + 1..] {
                if a.mem.uncovered() + b.mem.uncovered() == 0 && a.mem.vector() == b.mem.vector() {
                    assert!(a.mem.bodies() == b.mem.bodies(), "equal heads, other rows");
                }
            }
        }
    }

    fn heal(&mut self) {
        let living = self.living();
        living.iter().for_each(|till| self.shop.tills[*till].mem.broken = false);
        for link in self.shop.links.keys().copied().collect::<Vec<_>>() {
            self.shop.cut(link);
        }
        let rows: BTreeSet<Vec<u8>> = living.iter().flat_map(|till| self.shop.tills[*till].mem.bodies()).collect();
        let is_star = self.pick(2) == 0;
        for pair in living.windows(2) {
            self.link(if is_star { living[0] } else { pair[0] }, pair[1]);
        }
        self.shop.run(8 * 60_000);
        let first = &self.shop.tills[living[0]];
        for till in &living {
            let till = &self.shop.tills[*till];
            assert_eq!(till.mem.vector(), first.mem.vector());
            assert_eq!(till.replica.vector(), till.mem.vector());
            assert_eq!(till.mem.closes, first.mem.closes);
            assert_eq!(till.replica.origin(), till.mem.own);
            assert_eq!(till.mem.uncovered(), 0);
            assert_eq!(till.mem.bodies().into_iter().collect::<BTreeSet<_>>(), rows, "every row of a living till");
        }
    }
}

impl Shop {
    fn add_with_own(&mut self, own: Origin) -> usize {
        let till = self.tills.len();
        self.add_with(Mem::new(till as u64, own), till, true)
    }
}

/// What a run came to: the messages that it took, and what the first living till holds.
fn play(seed: u64, events: usize) -> (u64, VersionVector) {
    let mut run = Run::new(seed);
    for _ in 0..events {
        run.event();
    }
    run.heal();
    (run.shop.messages, run.shop.tills[run.living()[0]].mem.vector())
}

#[test]
fn shops_at_random_become_equal() {
    let seeds = std::env::var("TILLMESH_SYNC_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(20);
    for seed in 0..seeds {
        let result = std::panic::catch_unwind(|| play(seed, 120));
        assert!(result.is_ok(), "seed {seed}");
    }
}

#[test]
fn a_seed_is_a_run() {
    assert_eq!(play(7, 120), play(7, 120));
}
