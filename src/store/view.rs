//! What lists of the store have in common.

/// The most items of one page; who asks for more gets so many.
pub const LIMIT_MAX: usize = 1000;

/// A place in a list: everything after it is new to who has read so far. Means nothing on another till.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Cursor(pub u64);

/// A part of a list.
#[derive(Clone, PartialEq, Debug)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// Where to go on; `None` at the end of the list. There may be a place to go on even where this part holds fewer items than asked
    /// for, or none: a call looks at a bounded number of rows.
    pub next: Option<Cursor>,
}
