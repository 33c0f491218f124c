//! How the tills of the store are, as they say themselves and pass on: so that one address shows the whole shop. Pure: time is an argument.
//!
//! Each till renews its word when something about it has changed, at most every [`EVERY_MS`], and every [`IDLE_MS`] where nothing has, and
//! tells it on all its links. It passes a word on only where the till at the other end does not say itself that it is linked with the one
//! whose word it is: in a full mesh each word goes over each link once, in a partial one it gets everywhere.

use std::collections::BTreeMap;

use crate::api::{TillSummary, TillView};
use crate::model::id::TillId;
use crate::sync::{LinkId, Message, STATUS_BYTES_MAX, STATUS_MAX, TillStatus};

/// A till renews its word, and says something on a link, at most this often, in milliseconds.
pub(super) const EVERY_MS: u64 = 5_000;
/// A till renews its word this long after the last one, though nothing has changed: it is alive.
const IDLE_MS: u64 = 60_000;
/// Words are told on the whole second, so that an idle till does not wake up for each of them.
const GRAIN_MS: u64 = 1_000;

/// The gravest alerts of a till, told even where links have to be left out for them.
const ALERTS_KEPT: usize = 16;

/// See the module's page.
#[derive(Debug)]
pub(super) struct Shop {
    till: TillId,
    /// Stamps are the time of the agent's running and this.
    base: u64,
    own: Option<Word>,
    /// When this till last said how it is, and when it last looked whether there is news.
    own_at: Option<u64>,
    looked_at: Option<u64>,
    of: BTreeMap<TillId, Word>,
    lines: BTreeMap<LinkId, Line>,
}

/// What a till said.
#[derive(Debug)]
struct Word {
    stamp: u64,
    body: Vec<u8>,
    /// None where it cannot be read here: it is passed on all the same.
    summary: Option<TillSummary>,
    /// When it came, in milliseconds since 1970.
    heard_ms: u64,
}

/// A link to a till that takes words.
#[derive(Debug)]
struct Line {
    till: TillId,
    /// The newest stamps that were said on it, either way.
    said: BTreeMap<TillId, u64>,
    last: Option<u64>,
    due: Option<u64>,
}

impl Shop {
    /// `base`: milliseconds of the hybrid clock when the agent started.
    pub(super) fn new(till: TillId, base: u64) -> Self {
        Self { till, base, own: None, own_at: None, looked_at: None, of: BTreeMap::new(), lines: BTreeMap::new() }
    }

    /// A link is up whose till takes words.
    pub(super) fn link_up(&mut self, now: u64, link: LinkId, till: TillId) {
        self.lines.insert(link, Line { till, said: BTreeMap::new(), last: None, due: Some(now) });
    }

    pub(super) fn link_down(&mut self, link: LinkId) {
        self.lines.remove(&link);
    }

    /// Whether this till's own word may be renewed now; where nothing has changed, whether it must be.
    pub(super) fn wants_own(&self, now: u64, changed: bool) -> bool {
        self.is_silent(now) || changed && self.looked_at.is_none_or(|at| now >= at + EVERY_MS)
    }

    fn is_silent(&self, now: u64) -> bool {
        self.own_at.is_none_or(|at| now >= at + IDLE_MS)
    }

    /// How this till is. Where that is what it said last, it is not said again before it is time.
    pub(super) fn set_own(&mut self, now: u64, wall_ms: u64, summary: TillSummary) {
        let (summary, body) = fit(summary);
        let is_same = self.own.as_ref().is_some_and(|own| own.body == body);
        self.looked_at = Some(now);
        if is_same && !self.is_silent(now) {
            return;
        }
        let stamp = self.own.as_ref().map_or(0, |own| own.stamp + 1).max(self.base + now);
        self.own = Some(Word { stamp, body, summary: Some(summary), heard_ms: wall_ms });
        self.own_at = Some(now);
        self.want_all(now, self.till, stamp);
    }

    /// A till told words, its own and others'.
    pub(super) fn hear(&mut self, now: u64, wall_ms: u64, link: LinkId, told: Vec<TillStatus>) {
        for TillStatus { till, stamp, body } in told {
            let Some(line) = self.lines.get_mut(&link) else { return };
            let said = line.said.entry(till).or_default();
            *said = stamp.max(*said);
            if till == self.till {
                self.speak_later_than(now, stamp);
                continue;
            }
            let known = self.of.get(&till).map(|word| word.stamp);
            if known.is_some_and(|known| known > stamp) {
                // It has gone back in time, or is behind: it shall hear what is known of it.
                line.said.insert(till, stamp);
                self.want_all(now, till, known.unwrap_or_default());
            } else if known != Some(stamp) && (known.is_some() || self.of.len() < STATUS_MAX - 1) {
                let summary = serde_json::from_slice(&body).ok();
                self.of.insert(till, Word { stamp, body, summary, heard_ms: wall_ms });
                self.want_all(now, till, stamp);
            }
        }
    }

    /// Somebody holds a later word of ours than we can have said: our clock was ahead once.
    fn speak_later_than(&mut self, now: u64, stamp: u64) {
        if let Some(own) = &mut self.own
            && stamp > own.stamp
        {
            own.stamp = stamp + 1;
            self.base = self.base.max(own.stamp.saturating_sub(now));
            let stamp = own.stamp;
            self.want_all(now, self.till, stamp);
        }
    }

    /// Forgets tills that are no longer of the store.
    pub(super) fn keep(&mut self, is_member: impl Fn(TillId) -> bool) {
        self.of.retain(|till, _| is_member(*till));
    }

    /// Lets all lines that lack a word say it when they may.
    fn want_all(&mut self, now: u64, till: TillId, stamp: u64) {
        for line in self.lines.values_mut().filter(|line| line.said.get(&till).is_none_or(|said| *said < stamp)) {
            let soon = line.last.map_or(now, |last| (last + EVERY_MS).max(now)).div_ceil(GRAIN_MS) * GRAIN_MS;
            line.due = Some(line.due.map_or(soon, |due| due.min(soon)));
        }
    }

    pub(super) fn due(&self) -> Option<u64> {
        self.lines.values().filter_map(|line| line.due).min()
    }

    /// What is to be said now.
    pub(super) fn take(&mut self, now: u64) -> Vec<(LinkId, Message)> {
        let due: Vec<LinkId> = self
            .lines
            .iter()
            .filter(|(_, line)| line.due.is_some_and(|due| due <= now))
            .map(|(link, _)| *link)
            .collect();
        due.into_iter().filter_map(|link| Some((link, Message::Status(self.news(now, link)?)))).collect()
    }

    /// What a link's till lacks, as far as is known.
    fn news(&mut self, now: u64, link: LinkId) -> Option<Vec<TillStatus>> {
        let line = self.lines.get_mut(&link)?;
        line.due = None;
        let theirs = self.of.get(&line.till).and_then(|word| word.summary.as_ref());
        let own = self.own.iter().map(|word| (self.till, word));
        let news: Vec<TillStatus> = own
            .chain(self.of.iter().map(|(till, word)| (*till, word)))
            .filter(|(till, word)| line.said.get(till).is_none_or(|said| *said < word.stamp))
            // What it hears from the till itself it need not hear from us.
            .filter(|(till, _)| *till == self.till || theirs.is_none_or(|theirs| !theirs.is_linked_with(*till)))
            .filter(|(till, _)| *till != line.till || line.said.contains_key(till))
            .map(|(till, word)| TillStatus { till, stamp: word.stamp, body: word.body.clone() })
            .collect();
        if news.is_empty() {
            return None;
        }
        line.last = Some(now);
        line.said.extend(news.iter().map(|status| (status.till, status.stamp)));
        Some(news)
    }

    /// Other tills of the store, with what they said.
    pub(super) fn views(&self, members: impl Iterator<Item = TillId>) -> Vec<TillView> {
        let view = |till| {
            let word = self.of.get(&till);
            TillView { till, heard_ms: word.map(|word| word.heard_ms), summary: word.and_then(|w| w.summary.clone()) }
        };
        members.map(view).collect()
    }
}

/// A word, and its bytes: where they would be too many, the less grave alerts are left out, and then links, until they are not. A till in
/// the greatest trouble is the last that may fall silent.
fn fit(mut summary: TillSummary) -> (TillSummary, Vec<u8>) {
    loop {
        let body = serde_json::to_vec(&summary).expect("plain data serialises");
        if body.len() <= STATUS_BYTES_MAX {
            return (summary, body);
        }
        if summary.alerts.len() > ALERTS_KEPT {
            summary.alerts.truncate(ALERTS_KEPT.max(summary.alerts.len() * 3 / 4));
        } else if !summary.peers.is_empty() {
            summary.peers.truncate(summary.peers.len() * 3 / 4);
        } else {
            // What is left are texts that somebody made far too long.
            let (pos_id, pos_name, board) = (String::new(), String::new(), String::new());
            summary = TillSummary { pos_id, pos_name, board, alerts: Vec::new(), ..summary };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{TillAlert, TillCounts, TillLink};
    use crate::wire::message::encode;

    fn id(n: u8) -> TillId {
        TillId([n; 16])
    }

    fn summary(name: &str, linked: &[u8]) -> TillSummary {
        let peers = linked.iter().map(|n| serde_json::json!({"till": id(*n).to_string(), "online": true}));
        serde_json::from_value(serde_json::json!({"posName": name, "peers": peers.collect::<Vec<_>>()})).unwrap()
    }

    /// Tills in a row or a ring, each with its shop; links are numbered by the pair that they join.
    struct Tills {
        now: u64,
        shops: Vec<Shop>,
        links: Vec<(usize, usize)>,
        told: usize,
        bytes: usize,
    }

    impl Tills {
        fn new(count: u8, links: &[(usize, usize)]) -> Self {
            let shops = (0..count).map(|n| Shop::new(id(n), 1_000_000)).collect();
            let mut tills = Self { now: 0, shops, links: links.to_vec(), told: 0, bytes: 0 };
            for n in 0..count {
                tills.say(n, &format!("till {n}"));
            }
            for (at, (a, b)) in links.iter().enumerate() {
                for (one, other) in [(*a, *b), (*b, *a)] {
                    tills.shops[one].link_up(0, LinkId(at as u64), id(other as u8));
                }
            }
            tills
        }

        fn say(&mut self, n: u8, name: &str) {
            let at = |(a, b): &(usize, usize)| [(*a, *b), (*b, *a)];
            let linked: Vec<u8> =
                self.links.iter().flat_map(at).filter(|(one, _)| *one == n as usize).map(|(_, o)| o as u8).collect();
            self.shops[n as usize].set_own(self.now, self.now, summary(name, &linked));
        }

        /// Lets time pass up to here, all that is said being heard at once.
        fn run(&mut self, until: u64) {
            while let Some(due) = self.shops.iter().filter_map(Shop::due).min().filter(|due| *due <= until) {
                self.now = due.max(self.now);
                for n in 0..self.shops.len() {
                    for (link, message) in self.shops[n].take(self.now) {
                        self.bytes += encode(&message).len();
                        let (a, b) = self.links[link.0 as usize];
                        let Message::Status(told) = message else { panic!("something else is said") };
                        self.told += told.len();
                        self.shops[if a == n { b } else { a }].hear(self.now, self.now, link, told);
                    }
                }
            }
            self.now = until;
        }

        fn name(&self, at: usize, of: u8) -> Option<String> {
            let view = self.shops[at].views(std::iter::once(id(of))).remove(0);
            view.summary.map(|summary| summary.pos_name)
        }
    }

    #[test]
    fn in_a_row_each_till_hears_of_each() {
        let mut row = Tills::new(4, &[(0, 1), (1, 2), (2, 3)]);
        row.run(20_000);
        assert_eq!((row.name(0, 3).as_deref(), row.name(3, 0).as_deref()), (Some("till 3"), Some("till 0")));
        row.say(3, "news");
        row.run(40_000);
        assert_eq!(row.name(0, 3).as_deref(), Some("news"));
    }

    #[test]
    fn in_a_full_mesh_a_word_goes_over_each_link_once() {
        let mut mesh = Tills::new(4, &[(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]);
        mesh.run(20_000);
        mesh.told = 0;
        mesh.say(2, "news");
        mesh.run(60_000);
        assert_eq!((mesh.name(0, 2).as_deref(), mesh.name(3, 2).as_deref()), (Some("news"), Some("news")));
        assert_eq!(mesh.told, 3);
    }

    #[test]
    fn the_same_word_is_said_again_only_when_it_is_time() {
        let mut pair = Tills::new(2, &[(0, 1)]);
        pair.run(10_000);
        pair.told = 0;
        pair.say(0, "till 0");
        pair.run(20_000);
        assert_eq!(pair.told, 0);
        pair.run(IDLE_MS);
        pair.say(0, "till 0");
        pair.run(IDLE_MS + 10_000);
        assert_eq!(pair.told, 1);
    }

    #[test]
    fn what_an_idle_shop_says_is_little() {
        let pairs: Vec<(usize, usize)> = (0..8).flat_map(|a| (a + 1..8).map(move |b| (a, b))).collect();
        let mut mesh = Tills::new(8, &pairs);
        mesh.run(10_000);
        mesh.bytes = 0;
        let minutes = 60;
        for minute in 1..=minutes {
            for n in 0..8 {
                let links = (0..8).filter(|other| *other != n);
                let peers =
                    links.map(|other| TillLink { till: id(other).to_string(), online: true, behind: 0, ahead: 0 });
                let word = TillSummary {
                    pos_id: format!("POS-{n}-3f2a9c1e"),
                    pos_name: format!("Caisse {n}"),
                    version: "0.1.0".into(),
                    board: "Raspberry Pi 4 Model B".into(),
                    started_ms: Some(1_795_345_200_000),
                    boot_reason: "powerCut".into(),
                    clock: "trusted".into(),
                    led: "connected".into(),
                    counts: Some(TillCounts { tickets: 123_456, bytes: 123_456_789, ..TillCounts::default() }),
                    only_here: Some(0),
                    disk_bytes_free: Some(12_345_678_901),
                    peers: peers.collect(),
                    ..TillSummary::default()
                };
                mesh.shops[n as usize].set_own(mesh.now, mesh.now, word);
            }
            mesh.run(10_000 + minute * IDLE_MS);
        }
        let each_second = mesh.bytes as u64 / 8 / (minutes * 60);
        assert!((50..200).contains(&each_second), "a till of eight says {each_second} bytes a second");
    }

    #[test]
    fn a_till_in_the_greatest_trouble_does_not_fall_silent() {
        let till = |n: u8| id(n).to_string();
        let alerts = (0..48).map(|n| TillAlert {
            code: format!("peerUnreachable{n}"),
            severity: "warning".into(),
            since_ms: Some(1_795_345_200_000),
            subject: Some(till(n)),
            messages: None,
        });
        let peers = (0..48).map(|n| TillLink { till: till(n), online: false, behind: 123_456, ahead: 123_456 });
        let trouble = TillSummary { alerts: alerts.collect(), peers: peers.collect(), ..TillSummary::default() };
        let long = TillSummary { pos_name: "é".repeat(STATUS_BYTES_MAX), ..trouble.clone() };
        for (summary, links) in [(trouble, 48), (long, 0)] {
            let mut shop = Shop::new(id(0), 0);
            shop.link_up(0, LinkId(1), id(1));
            shop.set_own(0, 0, summary);
            let [(_, Message::Status(told))] = &shop.take(0)[..] else { panic!("nothing is said") };
            assert!(told[0].body.len() <= STATUS_BYTES_MAX);
            let heard: TillSummary = serde_json::from_slice(&told[0].body).unwrap();
            assert_eq!(heard.peers.len(), links);
            // The gravest are the first.
            assert!(links == 0 || heard.alerts.len() >= ALERTS_KEPT && heard.alerts[0].code == "peerUnreachable0");
        }
    }

    #[test]
    fn words_are_coalesced() {
        let mut pair = Tills::new(2, &[(0, 1)]);
        pair.run(10_000);
        pair.told = 0;
        for n in 0..100 {
            pair.say(0, &format!("news {n}"));
            pair.run(10_000 + 100 * (n + 1));
        }
        pair.run(30_000);
        assert!(pair.told <= 4, "{} words in ten seconds", pair.told);
        assert_eq!(pair.name(1, 0).as_deref(), Some("news 99"));
    }

    #[test]
    fn a_till_whose_clock_went_back_is_heard_again() {
        let mut pair = Tills::new(2, &[(0, 1)]);
        pair.run(10_000);
        pair.shops[0] = Shop::new(id(0), 5);
        pair.shops[0].link_up(10_000, LinkId(0), id(1));
        pair.shops[1].link_up(10_000, LinkId(0), id(0));
        pair.say(0, "reset");
        pair.run(40_000);
        assert_eq!(pair.name(1, 0).as_deref(), Some("reset"));
    }

    #[test]
    fn what_a_later_version_says_is_passed_on_as_it_came() {
        let mut row = Tills::new(3, &[(0, 1), (1, 2)]);
        row.run(10_000);
        let body = br#"{"posName": "later", "moods": ["good"], "peers": []}"#.to_vec();
        let garbage = b"\xff".to_vec();
        for (n, body) in [(7, &body), (8, &garbage)] {
            row.shops[1].hear(10_000, 0, LinkId(0), vec![TillStatus { till: id(n), stamp: 5, body: body.clone() }]);
        }
        row.run(20_000);
        assert_eq!(row.shops[2].of[&id(7)].body, body);
        assert_eq!(row.name(2, 7).as_deref(), Some("later"));
        assert_eq!((row.name(2, 8), row.shops[2].of[&id(8)].body.clone()), (None, garbage));
        row.shops[2].keep(|till| till != id(7));
        assert_eq!(row.name(2, 7), None);
    }

    #[test]
    fn tills_are_bounded() {
        let mut shop = Shop::new(id(0), 0);
        shop.link_up(0, LinkId(1), id(1));
        for n in 0..=255 {
            shop.hear(0, 0, LinkId(1), vec![TillStatus { till: id(n), stamp: 1, body: Vec::new() }]);
        }
        assert_eq!(shop.of.len(), STATUS_MAX - 1);
    }
}
