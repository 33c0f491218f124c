//! Deliberate bugs. The feature `mutants` compiles them in, and a test switches one on; the simulator must notice every one. Without the
//! feature each switch is the constant `false`.

macro_rules! mutants {
    ($($(#[doc = $doc:literal])* $name:ident,)*) => {
        /// A deliberate bug.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Mutant {
            $($(#[doc = $doc])* $name,)*
        }

        impl Mutant {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),*];
        }
    };
}
mutants! {
    /// The store commits without waiting for the disk.
    NoSync,
    /// A head is announced before it is durable.
    AckBeforeCommit,
    /// Ops beyond the next one are stored, leaving a gap.
    AcceptGap,
    /// Running hashes are not compared.
    SkipHashCheck,
    /// The greatest ack of a member moves the floor, rather than the smallest.
    FloorOfTheFastest,
    /// Held ops go with the ops that are compacted.
    CompactHeld,
    /// The ids of replaced writes are forgotten.
    ForgetReplaced,
    /// Snapshots leave the replaced ids out.
    SnapshotWithoutReplaced,
    /// Of several heads the one that came last is shown.
    LastHeadShown,
    /// A record that comes again moves stock again.
    CountTwice,
    /// Of two contents of one id the one that came first counts.
    FirstContentCounts,
    /// The ops beyond a close are dropped, not renamed.
    DropBeyondClose,
    /// A till goes on writing under an origin that it saw ahead of itself.
    KeepOrigin,
    /// A snapshot's head overwrites ours.
    SnapshotOverwrites,
    /// When a snapshot is finished, rows of another source count as covered.
    CoverAll,
    /// Rows of a snapshot that was never finished stay uncovered for ever.
    NeverAdopt,
    /// A till lapses by the wall clock.
    LapseByWallClock,
    /// What came with an update is said though a till of the roster does not understand it.
    SkipLevelCheck,
    /// What is held stays held after an update.
    NeverRetryHeld,
}

#[cfg(feature = "mutants")]
mod switch {
    use std::cell::Cell;

    use super::Mutant;

    thread_local! {
        static ACTIVE: Cell<Option<Mutant>> = const { Cell::new(None) };
    }

    impl Mutant {
        /// Whether this bug is to be made, on this thread.
        #[must_use]
        pub fn is_on(self) -> bool {
            ACTIVE.get() == Some(self)
        }

        /// Switches one on, and all others off, on this thread.
        pub fn switch(mutant: Option<Self>) {
            ACTIVE.set(mutant);
        }
    }
}

#[cfg(not(feature = "mutants"))]
impl Mutant {
    /// Whether this bug is to be made: never, in this build.
    #[must_use]
    #[inline]
    pub const fn is_on(self) -> bool {
        false
    }
}
