//! What must hold: of tills that hold the same ops at any time, and of all tills once everything is healed.

use std::collections::BTreeMap;

use tillmesh::model::close::Closes;
use tillmesh::model::id::Origin;
use tillmesh::model::level::LEVEL;
use tillmesh::model::op::Seq;
use tillmesh::model::vector::VersionVector;
use tillmesh::store::{ConflictId, ConflictView, Reader};

use crate::dump::{Look, difference};
use crate::suite::{FAULTS_MIN, faults_of};
use crate::world::World;

/// Healed tills must be equal within so much virtual time: beside the ops themselves that takes heartbeats that run out (9 s), dials,
/// stalls of sources (3 s), and the retries of a store.
const HEALED_WITHIN_MS: u64 = 120_000;

/// So often it is looked whether they are.
const LOOK_EVERY_MS: u64 = 250;

impl World {
    /// The run: trade and trouble, then peace, then judgement.
    pub(crate) fn run(&mut self) -> Result<(), String> {
        while self.report.operations < self.plan.operations || faults_of(&self.report.faults) < FAULTS_MIN {
            self.step()?;
        }
        self.heal();
        let healed = self.now;
        self.settle_down()?;
        self.report.healed_ms = self.now - healed;
        // Tills of two versions are equal but for what some hold; updated, all are.
        let present = self.present();
        present.iter().try_for_each(|n| self.same_state(present[0], *n))?;
        if self.update_all() {
            self.settle_down()?;
        }
        self.say(|| "all hold the same".to_owned());
        self.judge()
    }

    /// Goes on until all tills hold the same.
    fn settle_down(&mut self) -> Result<(), String> {
        let deadline = self.now + HEALED_WITHIN_MS;
        let mut look_at = self.now;
        while !(self.now >= look_at && self.is_settled()) {
            if self.now >= look_at {
                look_at += LOOK_EVERY_MS;
            }
            if self.now > deadline {
                return Err(format!(
                    "not equal {} s after everything was healed: {}",
                    HEALED_WITHIN_MS / 1000,
                    self.unequal()
                ));
            }
            self.step()?;
        }
        Ok(())
    }

    /// Whether all tills run, have nothing left to store, and hold the same ops.
    fn is_settled(&self) -> bool {
        let mut first: Option<(VersionVector, Option<Closes>)> = None;
        self.present().into_iter().all(|n| {
            let Some(agent) = self.tills[n].agent.as_ref().filter(|agent| agent.is_idle()) else { return false };
            let vector = agent.replica.vector();
            let covered = agent.reader.uncovered().is_ok_and(|rows| rows == 0);
            // A commit may be on the card and not be told yet.
            let is_told = agent.reader.vector().is_ok_and(|durable| durable == vector);
            let here = (vector, agent.reader.closes().ok());
            covered && is_told && *first.get_or_insert_with(|| here.clone()) == here
        })
    }

    fn unequal(&self) -> String {
        let mut text = String::new();
        for n in self.present() {
            let state = match &self.tills[n].agent {
                None => "does not run".to_owned(),
                Some(agent) => {
                    let heads: Vec<String> =
                        agent.replica.vector().0.iter().map(|(o, h)| format!("{o}:{}/{:?}", h.seq, h.hash)).collect();
                    format!(
                        "links {}, waiting {}, uncovered {:?}, {:?}, {}",
                        agent.replica.peers().count(),
                        agent.waiting(),
                        agent.reader.uncovered(),
                        agent.reader.closes(),
                        heads.join(" ")
                    )
                }
            };
            text.push_str(&format!("\n  till {n}: {state}"));
        }
        text
    }

    fn look(&self, till: usize) -> Result<Look, String> {
        Look::open(&self.tills[till].options().path)
    }

    /// Tills that hold the same ops at this moment have the same state.
    pub(crate) fn check_equals(&mut self) -> Result<(), String> {
        let mut seen: Vec<(usize, VersionVector)> = Vec::new();
        for n in self.present() {
            let till = &self.tills[n];
            let Some(agent) = till.agent.as_ref().filter(|_| till.failing.is_none()) else { continue };
            let (Ok(vector), Ok(closes)) = (agent.reader.vector(), agent.reader.closes()) else { continue };
            if let Some((origin, head)) =
                till.heads.0.iter().find(|(o, h)| vector.seq(**o) < h.seq && closes.end(**o).is_none())
            {
                return Err(format!(
                    "till {n}: the log of {origin} was at {} and is at {}",
                    head.seq,
                    vector.seq(*origin)
                ));
            }
            // What a snapshot has brought so far is more than the heads say.
            let covered = agent.reader.uncovered().is_ok_and(|rows| rows == 0);
            self.tills[n].heads = vector.clone();
            if !covered {
                continue;
            }
            match seen.iter().find(|(_, other)| *other == vector) {
                Some((other, _)) => self.same_state(*other, n)?,
                None => seen.push((n, vector)),
            }
        }
        Ok(())
    }

    /// What a till compacts, every till that it waits for holds. What others had compacted it may take over in a snapshot or a branch.
    pub(crate) fn check_floors(&mut self, till: usize, by_compaction: bool) -> Result<(), String> {
        if self.tills[till].failing.is_some() {
            self.tills[till].floors = None;
            return Ok(());
        }
        let floors: BTreeMap<Origin, Seq> = self.look(till)?.floors()?.into_iter().collect();
        let Some(before) = self.tills[till].floors.replace(floors.clone()) else { return Ok(()) };
        let Some(agent) = self.tills[till].agent.as_ref().filter(|_| by_compaction) else { return Ok(()) };
        let Ok(roster) = agent.reader.roster() else { return Ok(()) };
        let heard = self.look(till)?.heard_of(agent.running_ms(self.now))?;
        let id = |n: usize| self.tills[n].author.till;
        let waits = |n: &usize| {
            heard.contains(&id(*n)) && roster.iter().any(|entry| entry.till == id(*n) && entry.retired_ms.is_none())
        };
        let others = self.present().into_iter().filter(|n| *n != till && !self.tills[*n].late).filter(waits);
        for other in others.filter(|n| self.tills[*n].failing.is_none()) {
            let Some(waited) = &self.tills[other].agent else { continue };
            let Ok(closes) = waited.reader.closes() else { continue };
            let grown = floors.iter().filter(|(origin, floor)| before.get(origin).is_none_or(|was| was < *floor));
            for (origin, floor) in grown.filter(|(origin, _)| closes.end(**origin).is_none()) {
                let hash =
                    |reader: &Reader| reader.hashes(*origin, *floor, 1).ok().and_then(|found| found.first().copied());
                if hash(&agent.reader) != hash(&waited.reader) {
                    return Err(format!(
                        "till {till} has compacted {origin} up to {floor}, which till {other} does not hold"
                    ));
                }
            }
        }
        Ok(())
    }

    /// What a till says, every live till of its roster understands, as far as it has heard of them.
    pub(crate) fn check_understood(&self, till: usize) -> Result<(), String> {
        let Some(agent) = self.tills[till].agent.as_ref().filter(|_| self.tills[till].failing.is_none()) else {
            return Ok(());
        };
        let Ok(roster) = agent.reader.roster() else { return Ok(()) };
        let heard = self.look(till)?.heard_of(agent.running_ms(self.now))?;
        let is_behind = |n: &usize| {
            let id = self.tills[*n].author.till;
            // Of two boxes with one key the updated one may have spoken last.
            let boxes = self.tills.iter().filter(|other| other.author.till == id);
            heard.contains(&id)
                && roster.iter().any(|entry| entry.till == id && entry.retired_ms.is_none())
                && boxes.into_iter().all(|other| other.level < LEVEL)
        };
        match self.present().into_iter().find(is_behind) {
            Some(other) => Err(format!("till {till} says what till {other} does not understand")),
            None => Ok(()),
        }
    }

    fn same_state(&self, one: usize, other: usize) -> Result<(), String> {
        let (one_look, other_look) = (self.look(one)?, self.look(other)?);
        if one_look.notes()? != other_look.notes()? {
            return Err(format!("tills {one} and {other} hold the same ops, and other remarks"));
        }
        let (here, there) = (one_look.state()?, other_look.state()?);
        for (table, text) in &here {
            if there.get(table) != Some(text) {
                let other_text = there.get(table).map_or("", String::as_str);
                return Err(format!(
                    "tills {one} and {other} hold the same ops, and other {table}: {}",
                    difference(text, other_text)
                ));
            }
        }
        Ok(())
    }

    /// All tills hold the same ops now.
    fn judge(&mut self) -> Result<(), String> {
        let present = self.present();
        let mut shown: Option<String> = None;
        for n in &present {
            self.same_state(present[0], *n)?;
            let look = self.look(*n)?;
            look.is_sound().map_err(|error| format!("till {n}: {error}"))?;
            if look.held_notes()? > 0 {
                return Err(format!("till {n} holds remarks still, though it is updated"));
            }
            let conflicts = self.conflicts(*n)?;
            let first = shown.get_or_insert_with(|| conflicts.clone());
            if *first != conflicts {
                return Err(format!("till {n} lists other conflicts: {}", difference(first, &conflicts)));
            }
        }
        if self.report.seen.contains_key("divergence") {
            return Err("a till tells of a divergence where nothing was damaged".to_owned());
        }
        let look = self.look(present[0])?;
        look.state()?.values().for_each(|text| self.report.tally.bytes(text.as_bytes()));
        self.books.check(&look)
    }

    fn conflicts(&self, till: usize) -> Result<String, String> {
        let agent = self.tills[till].agent.as_ref().ok_or("it does not run")?;
        let conflicts = agent.reader.conflicts(1000).map_err(|error| error.to_string())?;
        let mut lines: Vec<String> = conflicts.iter().map(line).collect();
        lines.sort();
        Ok(lines.join("\n"))
    }
}

/// A conflict in a line. Its first side means something where that is the one that is shown or counts; the others stand in no order.
fn line(conflict: &ConflictView) -> String {
    let mut sides: Vec<String> = conflict.sides.iter().map(|side| format!("{side:?}")).collect();
    let first = usize::from(matches!(conflict.id, ConflictId::Field(..) | ConflictId::Contents(..)));
    if let Some(others) = sides.get_mut(first..) {
        others.sort();
    }
    format!("{:?} {:?} {sides:?}", conflict.id, conflict.settle)
}
