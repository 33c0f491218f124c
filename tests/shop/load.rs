//! Till applications that work while tills are killed and cables flap: each sells, edits and moves stock at its own till, and asks
//! again until it has an answer, as a real one must.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::{Value, json};

use crate::lan::{Name, Place};
use crate::lib::Http;
use crate::rng::Rng;
use crate::shop::{API, Shop, Write};
use crate::trade::{movement, product_path, sale};

/// The longest pause between two requests of one application: what a debug build of three tills keeps up with.
const PAUSE_MS_MAX: u64 = 60;
/// A till that is killed over and over answers at last.
const ANSWER_MAX: Duration = Duration::from_secs(60);
const RETRY_AFTER: Duration = Duration::from_millis(20);

/// Applications at work.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    applications: Vec<(Name, JoinHandle<Result<Day>>)>,
}

/// What one application was told.
#[derive(Default)]
struct Day {
    /// The products and tickets of acknowledged sales, and the units of each.
    sales: Vec<(String, i64, Value)>,
    /// Product to the units that came in and went out besides.
    moves: BTreeMap<String, i64>,
    edits: u64,
    /// Requests without an answer, each made again.
    unanswered: u64,
    /// Sales that were acknowledged and sent once more, to see whether they are still the same.
    repeated: u64,
}

struct Application {
    http: Http,
    rng: Rng,
    products: Vec<String>,
    day: Day,
}

impl Shop {
    /// An application at each of these tills begins to work with the products that there are.
    pub(crate) fn begin_load(&mut self, names: &[Name]) -> Result<Load> {
        let products: Vec<String> = self.books.stock.keys().cloned().collect();
        ensure!(!products.is_empty(), "a shop without products has nothing to sell");
        let stop = Arc::new(AtomicBool::new(false));
        let applications = names.iter().map(|name| {
            let (place, rng, stop) = (self.lan.place(*name), Rng::new(self.rng.next()), Arc::clone(&stop));
            let (http, products) = (Http::new(API, self.token(*name)), products.clone());
            let application = Application { http, rng, products, day: Day::default() };
            (*name, thread::spawn(move || application.work(&place, &stop)))
        });
        let applications = applications.collect();
        Ok(Load { stop, applications })
    }

    /// The applications stop once each has its last answer, and what they were told goes into the books. Returns how many requests
    /// were made again for want of an answer.
    pub(crate) fn end_load(&mut self, load: Load) -> Result<u64> {
        let mut all_unanswered = 0;
        load.stop.store(true, Ordering::Relaxed);
        for (name, application) in load.applications {
            let day = application.join().map_err(|_| anyhow!("the application of {name} panicked"))?;
            let day = day.with_context(|| format!("the application of {name}"))?;
            let Day { sales, moves, edits, unanswered, repeated } = day;
            self.say(&format!(
                "   {name}: {} sales and {edits} edits acknowledged, {unanswered} requests made again, {repeated} sales repeated",
                sales.len()
            ));
            ensure!(!sales.is_empty(), "nothing was sold at {name}");
            all_unanswered += unanswered;
            for (product, units, ticket) in sales {
                self.book_sale(&product, units, &ticket)?;
            }
            for (product, units) in moves {
                *self.books.stock.entry(product).or_default() += units * 1000;
            }
        }
        Ok(all_unanswered)
    }
}

impl Application {
    fn work(mut self, place: &Place, stop: &AtomicBool) -> Result<Day> {
        place.enter()?;
        while !stop.load(Ordering::Relaxed) {
            self.one_thing()?;
            thread::sleep(Duration::from_millis(self.rng.below(PAUSE_MS_MAX)));
        }
        Ok(self.day)
    }

    fn one_thing(&mut self) -> Result<()> {
        let product = self.rng.pick(&self.products).clone();
        let units = 1 + i64::try_from(self.rng.below(5))?;
        match self.rng.below(10) {
            0..=5 => {
                let write = sale(&mut self.rng, &product, units);
                let ticket = self.answered(&write)?;
                if self.rng.below(8) == 0 {
                    let again = self.answered(&write)?;
                    ensure!(again["number"] == ticket["number"], "acknowledged as {ticket}, and again as {again}");
                    self.day.repeated += 1;
                }
                self.day.sales.push((product, units, ticket));
            }
            6 | 7 => {
                let (kind, sign) = *self.rng.pick(&[("in", 1), ("out", -1)]);
                let write = movement(&mut self.rng, &product, kind, units);
                self.answered(&write)?;
                *self.day.moves.entry(product).or_default() += sign * units;
            }
            _ => {
                let body = json!({ "price": 100 * units, "minStock": self.rng.below(50) });
                self.answered(&Write { method: "PATCH", path: product_path(&product), body })?;
                self.day.edits += 1;
            }
        }
        Ok(())
    }

    /// Asks until it is answered: a till that is off, or ends, answers later.
    fn answered(&mut self, write: &Write) -> Result<Value> {
        let end = Instant::now() + ANSWER_MAX;
        loop {
            let reason = match self.http.call(write.method, &write.path, Some(&write.body)) {
                // The store has no place or no disk for it just now; anything else must not happen.
                Ok(answer) if answer.status != 503 => {
                    return answer.ok().with_context(|| format!("{} {}", write.method, write.path));
                }
                Ok(answer) => answer.body.to_string(),
                Err(error) => format!("{error:#}"),
            };
            if Instant::now() >= end {
                bail!("no answer to {} {} within {ANSWER_MAX:?}: {reason}", write.method, write.path);
            }
            self.day.unanswered += 1;
            thread::sleep(RETRY_AFTER);
        }
    }
}
