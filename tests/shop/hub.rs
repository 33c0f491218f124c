//! A switch in user space whose air is as bad as it is told to be: frames are lost, late, overtaken, doubled, swallowed. Each port is a
//! TAP device in a till's network. What it did to frames is counted, so that a scenario can tell that its faults took place.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::fmt;
use std::fs::File;
use std::io::{Read, Write};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::rng::Rng;

/// Ethernet's payload of 1,500 bytes, its header, and room for a tag.
const FRAME_BYTES_MAX: usize = 1_600;

/// A port, as the caller numbers them.
pub(crate) type Port = u8;

/// What the air does to each frame. Percentages are chances.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Air {
    pub(crate) loss_percent: u64,
    /// One way, with `jitter_ms` more or less; frames stay in order.
    pub(crate) delay_ms: u64,
    pub(crate) jitter_ms: u64,
    /// Of frames that are not delayed, and so overtake those before them.
    pub(crate) overtake_percent: u64,
    pub(crate) double_percent: u64,
}

impl fmt::Display for Air {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} % lost, {} ms +- {} late, {} % overtake, {} % doubled",
            self.loss_percent, self.delay_ms, self.jitter_ms, self.overtake_percent, self.double_percent
        )
    }
}

/// What became of frames, counted at each port that they were for.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Counts {
    pub(crate) delivered: u64,
    pub(crate) lost: u64,
    pub(crate) late: u64,
    /// Delivered after one that was sent later.
    pub(crate) overtaken: u64,
    pub(crate) doubled: u64,
    /// Between parts that do not hear each other.
    pub(crate) swallowed: u64,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { delivered, lost, late, overtaken, doubled, swallowed } = self;
        write!(
            f,
            "frames: {delivered} delivered, {lost} lost, {late} late, {overtaken} overtaken, {doubled} doubled, {swallowed} swallowed"
        )
    }
}

/// A running hub. Dropped, it ends; its TAP devices go with the networks that they are in.
pub(crate) struct Hub {
    rules: Arc<Mutex<Rules>>,
    events: Sender<Event>,
    thread: Option<JoinHandle<()>>,
}

enum Event {
    Plug(Port, File),
    Unplug(Port),
    Frame(Port, Vec<u8>),
    End,
}

/// What the rig sets and reads while frames fly.
#[derive(Default)]
struct Rules {
    air: Air,
    /// Part 0 is where ports are that no one has put elsewhere.
    parts: HashMap<Port, usize>,
    counts: Counts,
}

impl Rules {
    fn are_apart(&self, one: Port, other: Port) -> bool {
        let part = |port| self.parts.get(&port).copied().unwrap_or_default();
        part(one) != part(other)
    }
}

impl Hub {
    pub(crate) fn new(seed: u64) -> Result<Self> {
        let rules = Arc::new(Mutex::new(Rules::default()));
        let (events, heard) = channel();
        let switch = Switch::new(Arc::clone(&rules), seed);
        let thread = spawn("hub", move || switch.run(&heard))?;
        Ok(Self { rules, events, thread: Some(thread) })
    }

    /// Plugs a TAP device in, in place of one that was in this port.
    pub(crate) fn plug(&self, port: Port, mut device: File) -> Result<()> {
        self.events.send(Event::Plug(port, device.try_clone()?)).ok().context("the hub has ended")?;
        let events = self.events.clone();
        spawn("hub-port", move || {
            let mut buffer = [0; FRAME_BYTES_MAX];
            // Fails when the device's network is gone.
            while let Ok(bytes) = device.read(&mut buffer)
                && events.send(Event::Frame(port, buffer[..bytes].to_vec())).is_ok()
            {}
        })?;
        Ok(())
    }

    /// Sends nothing to the port's device any more.
    pub(crate) fn unplug(&self, port: Port) -> Result<()> {
        self.events.send(Event::Unplug(port)).ok().context("the hub has ended")
    }

    pub(crate) fn set_air(&self, air: Air) {
        lock(&self.rules).air = air;
    }

    /// From now on frames between ports of different parts are swallowed; also those that are on their way.
    pub(crate) fn split(&self, parts: HashMap<Port, usize>) {
        lock(&self.rules).parts = parts;
    }

    pub(crate) fn counts(&self) -> Counts {
        lock(&self.rules).counts
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        // Where it has ended already, that is what we want.
        let _ = self.events.send(Event::End);
        if let Some(thread) = self.thread.take() {
            // A panic of the hub has been printed, and shows as a network that carries nothing.
            let _ = thread.join();
        }
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    thread::Builder::new().name(name.to_owned()).spawn(work).context("no thread for the hub")
}

fn lock(rules: &Mutex<Rules>) -> MutexGuard<'_, Rules> {
    rules.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A frame on its way: to be delivered at a time, and among equals in the order of sending.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Flight {
    due: Instant,
    number: u64,
    from: Port,
    to: Port,
    frame: Vec<u8>,
}

/// The thread's own half.
struct Switch {
    rules: Arc<Mutex<Rules>>,
    rng: Rng,
    ports: HashMap<Port, File>,
    /// Where an Ethernet address was last heard.
    learnt: HashMap<[u8; 6], Port>,
    flights: BinaryHeap<Reverse<Flight>>,
    sent: u64,
    /// By direction: when the last frame that keeps its place is due, and the number of the latest that was delivered.
    last_due: HashMap<(Port, Port), Instant>,
    last_number: HashMap<(Port, Port), u64>,
}

impl Switch {
    fn new(rules: Arc<Mutex<Rules>>, seed: u64) -> Self {
        Self {
            rules,
            rng: Rng::new(seed),
            ports: HashMap::new(),
            learnt: HashMap::new(),
            flights: BinaryHeap::new(),
            sent: 0,
            last_due: HashMap::new(),
            last_number: HashMap::new(),
        }
    }

    fn run(mut self, events: &Receiver<Event>) {
        loop {
            let wait = self.flights.peek().map(|Reverse(flight)| flight.due.saturating_duration_since(Instant::now()));
            match events.recv_timeout(wait.unwrap_or(Duration::MAX)) {
                Ok(Event::Plug(port, device)) => drop(self.ports.insert(port, device)),
                Ok(Event::Unplug(port)) => drop(self.ports.remove(&port)),
                Ok(Event::Frame(from, frame)) => self.arrive(from, &frame),
                Ok(Event::End) | Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {}
            }
            self.deliver(Instant::now());
        }
    }

    /// Sends a frame to the port of its address, or to all others.
    fn arrive(&mut self, from: Port, frame: &[u8]) {
        let (Some(to), Some(sender)) = (address(frame, 0), address(frame, 6)) else { return };
        self.learnt.insert(sender, from);
        let known = self.learnt.get(&to).copied();
        let others: Vec<Port> =
            self.ports.keys().copied().filter(|port| *port != from && known.is_none_or(|to| to == *port)).collect();
        for to in others {
            self.launch(from, to, frame);
        }
    }

    fn launch(&mut self, from: Port, to: Port, frame: &[u8]) {
        let rules = Arc::clone(&self.rules);
        let mut rules = lock(&rules);
        let air = rules.air;
        if rules.are_apart(from, to) {
            rules.counts.swallowed += 1;
            return;
        }
        if self.chance(air.loss_percent) {
            rules.counts.lost += 1;
            return;
        }
        let copies = if self.chance(air.double_percent) { 2 } else { 1 };
        rules.counts.doubled += copies - 1;
        for _ in 0..copies {
            let due = self.due(from, to, air);
            rules.counts.late += u64::from(air.delay_ms > 0 && due > Instant::now());
            self.sent += 1;
            self.flights.push(Reverse(Flight { due, number: self.sent, from, to, frame: frame.to_vec() }));
        }
    }

    fn due(&mut self, from: Port, to: Port, air: Air) -> Instant {
        let now = Instant::now();
        if self.chance(air.overtake_percent) {
            return now;
        }
        let late_ms = (air.delay_ms + self.rng.below(2 * air.jitter_ms + 1)).saturating_sub(air.jitter_ms);
        let last = self.last_due.entry((from, to)).or_insert(now);
        *last = (*last).max(now + Duration::from_millis(late_ms));
        *last
    }

    fn deliver(&mut self, now: Instant) {
        while self.flights.peek().is_some_and(|Reverse(flight)| flight.due <= now)
            && let Some(Reverse(Flight { number, from, to, frame, .. })) = self.flights.pop()
        {
            let mut rules = lock(&self.rules);
            if rules.are_apart(from, to) {
                rules.counts.swallowed += 1;
                continue;
            }
            let last = self.last_number.entry((from, to)).or_default();
            rules.counts.overtaken += u64::from(number < *last);
            *last = number.max(*last);
            // A box that has just gone, or whose queue is full, does not hear it: an Ethernet promises nothing.
            let heard = self.ports.get_mut(&to).is_some_and(|device| device.write_all(&frame).is_ok());
            rules.counts.delivered += u64::from(heard);
        }
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.rng.below(100) < percent
    }
}

/// One of the two Ethernet addresses that a frame begins with.
fn address(frame: &[u8], at: usize) -> Option<[u8; 6]> {
    frame.get(at..at + 6)?.try_into().ok()
}
