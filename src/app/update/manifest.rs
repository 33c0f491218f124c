//! What an update says of itself.

use serde_json::Value;

use super::card::SLOT_KERNEL;
use super::file::UpdateError;

/// The only form there is.
const FORMAT: u64 = 1;
const PRODUCT: &str = "tillmesh";
/// The processor that the image is for.
const MACHINE: &str = "aarch64";
/// The parts, in the order in which they are in the file, and the most bytes that each may have.
const PARTS: [(&str, u64); 3] = [("kernel.uimg", 24 << 20), ("initrd.uimg", 7 << 20), ("root.squashfs", SLOT_KERNEL)];
/// The longest name of a version.
const VERSION_LEN_MAX: usize = 64;

/// One part of an update.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Part {
    /// What it is.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// SHA-256, in hex.
    pub sha256: String,
}

/// What an update says of itself, signed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Manifest {
    /// Three numbers with dots between.
    pub version: String,
    /// Of the sources that it was made from.
    pub commit: String,
    /// Of the database's form; an agent refuses a database of a later one.
    pub database: u32,
    /// Kernel, initrd, root.
    pub parts: Vec<Part>,
}

impl Manifest {
    /// Reads and checks it.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, UpdateError> {
        let wrong = |what: String| Err(UpdateError::Manifest(what));
        let Ok(told) = serde_json::from_slice::<Value>(bytes) else {
            return wrong("its manifest is no JSON".to_owned());
        };
        let text = |of: &Value, name: &str| of[name].as_str().unwrap_or_default().to_owned();
        if told["format"] != FORMAT {
            return wrong(format!("form {} is not known here: install a version between first", told["format"]));
        }
        let (product, machine) = (text(&told, "product"), text(&told, "machine"));
        if product != PRODUCT || machine != MACHINE {
            return wrong(format!("it is of {product} for {machine}, not of {PRODUCT} for {MACHINE}"));
        }
        let version = text(&told, "version");
        if version.len() > VERSION_LEN_MAX || numbers(&version).is_none() {
            return wrong(format!("version {version:?} is not three numbers"));
        }
        let listed = told["parts"].as_array().into_iter().flatten();
        let part = |part: &Value| Part {
            name: text(part, "name"),
            size: part["size"].as_u64().unwrap_or_default(),
            sha256: text(part, "sha256"),
        };
        let parts: Vec<Part> = listed.map(part).collect();
        let named = parts.iter().map(|part| part.name.as_str()).eq(PARTS.map(|(name, _)| name));
        let sized = parts.iter().zip(PARTS).all(|(part, (_, max))| (1..=max).contains(&part.size));
        let database = told["database"].as_u64().and_then(|database| database.try_into().ok());
        let Some(database) = database.filter(|_| named && sized) else {
            return wrong(
                "its parts are not a kernel, an initrd and a root of a slot's size, or its database has no form"
                    .to_owned(),
            );
        };
        Ok(Self { version, commit: text(&told, "commit"), database, parts })
    }

    /// Bytes of all parts.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.size).sum()
    }

    /// Whether it is of an earlier version than another, or of one whose database was of an earlier form.
    pub(super) fn is_older_than(&self, version: &str, database: u32) -> bool {
        numbers(&self.version) < numbers(version) || self.database < database
    }
}

/// The numbers of a version, to be compared.
fn numbers(version: &str) -> Option<[u32; 3]> {
    let numbers: Result<Vec<u32>, _> = version.split('.').map(str::parse).collect();
    numbers.ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn manifest() -> Value {
        let parts = PARTS.map(|(name, _)| json!({"name": name, "size": 512, "sha256": "00".repeat(32)}));
        json!({"format": 1, "product": "tillmesh", "machine": "aarch64", "version": "0.2.0", "commit": "c", "database": 3, "parts": parts})
    }

    #[test]
    fn what_is_not_for_this_box_is_refused() {
        let parsed = Manifest::parse(manifest().to_string().as_bytes()).unwrap();
        assert_eq!(parsed.bytes(), 3 * 512);
        for (field, value, word) in [
            ("format", json!(2), "form 2"),
            ("product", json!("other"), "other"),
            ("machine", json!("armv7"), "armv7"),
            ("version", json!("1.0"), "1.0"),
            ("version", json!("1.0.x"), "1.0.x"),
            ("parts", json!([]), "parts"),
        ] {
            let mut wrong = manifest();
            wrong[field] = value;
            let error = Manifest::parse(wrong.to_string().as_bytes()).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
        for size in [0, u64::MAX] {
            let mut wrong = manifest();
            wrong["parts"][2]["size"] = json!(size);
            assert!(Manifest::parse(wrong.to_string().as_bytes()).is_err(), "{size}");
        }
    }

    #[test]
    fn versions_are_numbers_and_the_database_counts() {
        let update = Manifest::parse(manifest().to_string().as_bytes()).unwrap();
        for (version, database, older) in
            [("0.2.0", 3, false), ("0.10.0", 3, true), ("0.1.9", 3, false), ("0.1.9", 4, true), ("0.2.1", 3, true)]
        {
            assert_eq!(update.is_older_than(version, database), older, "{version} {database}");
        }
    }
}
