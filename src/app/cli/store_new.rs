//! `tillmesh store new`: a store is minted once, and every till of it carries the same object.

use anyhow::Context as _;
use serde_json::Value;

use crate::config::StoreSection;

/// What the store is called, counts in and is dated by.
#[derive(Debug)]
pub struct StoreNewOptions {
    /// 1 to 64 characters.
    pub name: String,
    /// ISO 4217.
    pub currency: String,
    /// IANA.
    pub time_zone: String,
    /// The object alone.
    pub json: bool,
}

/// Mints a store and prints its `store` object. It is written nowhere: whoever asked for it has the only copy.
///
/// # Errors
/// [`Problems`](crate::config::Problems) with all that is wrong with the options.
pub fn store_new(options: &StoreNewOptions) -> anyhow::Result<()> {
    let store = mint(&options.name, &options.currency, &options.time_zone)?;
    let mut text = serde_json::to_string_pretty(&Value::Object(store.to_json()))?;
    text.push('\n');
    if !options.json {
        text.push_str(
            "\nPut this object under \"store\" into pos-config.json of every till of the store, and start them again.\n\
             A till joins later in the same way. It holds the store key: whoever has it can join the store.\n",
        );
    }
    super::print(&text)?;
    Ok(())
}

/// A new store from the system's randomness.
pub(super) fn mint(name: &str, currency: &str, time_zone: &str) -> anyhow::Result<StoreSection> {
    let mut entropy = [0; 48];
    getrandom::fill(&mut entropy).context("the system gives no randomness to make a store key of")?;
    Ok(StoreSection::mint(name, currency, time_zone, &entropy)?)
}
