//! The text of a config file as a JSON object that can be read and edited in place. Pure.
//!
//! An edit replaces the text of one value and leaves every other byte as it is: unknown fields, their order, numbers too
//! large for a float and the technician's own spacing all survive. That is why the document is kept as text, not as values.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserializer as _;
use serde::de::{self, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

/// Larger files are not taken for configs, so that a mistaken file costs no memory.
pub(super) const FILE_BYTES_MAX: usize = 256 * 1024;
/// Objects and arrays within one another.
const DEPTH_MAX: usize = 32;

/// The text of a JSON object. Always well formed, and every object in it can be taken apart.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Document(String);

/// What a document holds under a path.
#[derive(Debug, PartialEq)]
pub(super) enum Lookup<'a> {
    /// The text of the value.
    Found(&'a str),
    /// Nothing.
    Absent,
    /// Something on the way there is not an object.
    Blocked,
}

impl Document {
    /// Takes the bytes of a file. The error says in words why they are not a JSON object; it shows nothing of the content.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        if bytes.len() > FILE_BYTES_MAX {
            return Err(format!("it is larger than {} KiB", FILE_BYTES_MAX / 1024));
        }
        let text = std::str::from_utf8(bytes).map_err(|error| format!("it is not UTF-8 text: {error}"))?;
        // Windows editors put a byte order mark first.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        if text.trim_matches(['\0', ' ', '\t', '\r', '\n']).is_empty() {
            return Err("it is empty".to_owned());
        }
        Members::of(text).map_err(|error| match error.classify() {
            serde_json::error::Category::Data => "it is not a JSON object".to_owned(),
            _ => format!("it is not JSON: {error}"),
        })?;
        visit(text, "", 0, &mut |_, _| ())?;
        Ok(Self(text.to_owned()))
    }

    /// The document of an object, indented by two spaces, with a newline at the end.
    pub(super) fn of(object: &serde_json::Map<String, Value>) -> Self {
        let mut text = render(&Value::Object(object.clone()), 0);
        text.push('\n');
        Self(text)
    }

    pub(super) fn as_text(&self) -> &str {
        &self.0
    }

    /// What stands under a dotted path. Of members with one name the last counts, as everywhere else in JSON.
    pub(super) fn get(&self, path: &str) -> Lookup<'_> {
        let mut text = self.0.as_str();
        for name in path.split('.') {
            let Ok(members) = Members::of(text) else { return Lookup::Blocked };
            match members.last(name) {
                Some(value) => text = value,
                None => return Lookup::Absent,
            }
        }
        Lookup::Found(text)
    }

    /// Puts a value under a dotted path, making or replacing what has to be an object on the way there.
    pub(super) fn set(&mut self, path: &str, value: &Value) {
        let names: Vec<&str> = path.split('.').collect();
        if let Some(text) = with(&self.0, &names, value, 1) {
            self.0 = text;
        }
    }

    /// The dotted paths of names that stand more than once in their object, each with how often.
    pub(super) fn duplicates(&self) -> Vec<(String, usize)> {
        let mut found = Vec::new();
        // The depth was checked by `parse`, and an edit does not add to it.
        let _ = visit(&self.0, "", 0, &mut |path, times| found.push((path.to_owned(), times)));
        found
    }
}

impl fmt::Debug for Document {
    /// A config holds the store key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Document({} bytes)", self.0.len())
    }
}

/// The members of an object: decoded name and text of the value, in the order of the text.
struct Members<'a>(Vec<(String, &'a str)>);

impl<'a> Members<'a> {
    fn of(text: &'a str) -> serde_json::Result<Self> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, &'de RawValue>()? {
                    members.push((name, value.get()));
                }
                Ok(Members(members))
            }

            fn visit_unit<E: de::Error>(self) -> Result<Members<'de>, E> {
                Err(E::invalid_type(de::Unexpected::Unit, &self))
            }
        }
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let members = deserializer.deserialize_map(Collect)?;
        deserializer.end()?;
        Ok(members)
    }

    fn last(&self, name: &str) -> Option<&'a str> {
        self.0.iter().rev().find(|(found, _)| found == name).map(|(_, value)| *value)
    }
}

/// Walks all objects of a text and tells of names that stand twice; an error where it is nested too deep to be a config.
fn visit(text: &str, path: &str, depth: usize, twice: &mut dyn FnMut(&str, usize)) -> Result<(), String> {
    if depth > DEPTH_MAX {
        return Err(format!("it is nested deeper than {DEPTH_MAX} levels"));
    }
    let malformed = |error| format!("it is not JSON: {error}");
    if text.trim_start().starts_with('{') {
        let Members(members) = Members::of(text).map_err(malformed)?;
        let mut times: BTreeMap<&str, usize> = BTreeMap::new();
        for (name, _) in &members {
            *times.entry(name).or_default() += 1;
        }
        for (name, value) in &members {
            let inner = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            // Taken out, so that a name is told of once.
            if let Some(times) = times.remove(name.as_str()).filter(|times| *times > 1) {
                twice(&inner, times);
            }
            visit(value, &inner, depth + 1, twice)?;
        }
    } else if text.starts_with('[') {
        let items: Vec<&RawValue> = serde_json::from_str(text).map_err(malformed)?;
        for (at, item) in items.iter().enumerate() {
            visit(item.get(), &format!("{path}[{at}]"), depth + 1, twice)?;
        }
    }
    Ok(())
}

/// `text`, an object whose members are indented by `depth` levels, with a value under a path; `None` where it is no object.
fn with(text: &str, path: &[&str], value: &Value, depth: usize) -> Option<String> {
    let (name, rest) = path.split_first()?;
    let members = Members::of(text).ok()?;
    let old = members.last(name);
    let new = match old {
        Some(old) if !rest.is_empty() => with(old, rest, value, depth + 1),
        _ => None,
    };
    let new = new.unwrap_or_else(|| {
        let nested = rest.iter().rev().fold(value.clone(), |inner, name| serde_json::json!({ *name: inner }));
        render(&nested, depth)
    });
    if let Some(old) = old {
        let at = offset(text, old);
        return Some(format!("{}{new}{}", &text[..at], &text[at + old.len()..]));
    }
    let indent = "  ".repeat(depth);
    let member = format!("{indent}{}: {new}", Value::from(*name));
    if let Some((_, last)) = members.0.last() {
        let end = offset(text, last) + last.len();
        return Some(format!("{},\n{member}{}", &text[..end], &text[end..]));
    }
    let (open, close) = (text.find('{')?, text.rfind('}')?);
    Some(format!("{}\n{member}\n{}{}", &text[..=open], "  ".repeat(depth - 1), &text[close..]))
}

/// Where `part`, a slice of `text`, starts in it.
fn offset(text: &str, part: &str) -> usize {
    part.as_ptr() as usize - text.as_ptr() as usize
}

/// A value as text, indented by two spaces, its lines after the first `depth` levels further in.
fn render(value: &Value, depth: usize) -> String {
    // Newlines within strings are escaped: every one found here is the layout's.
    format!("{value:#}").replace('\n', &format!("\n{}", "  ".repeat(depth)))
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn document(text: &str) -> Document {
        Document::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn an_edit_touches_one_value_only() {
        let mut edited = document(
            "\t{ \"p2p\" :{\"port\":1e400,  \"enabled\" : true },\r\n \"x\": 123456789012345678901234567890 }\n",
        );
        edited.set("p2p.enabled", &json!(false));
        assert_eq!(
            edited.as_text(),
            "\t{ \"p2p\" :{\"port\":1e400,  \"enabled\" : false },\r\n \"x\": 123456789012345678901234567890 }\n"
        );
    }

    #[test]
    fn a_new_member_goes_last_with_the_files_indentation() {
        let mut edited = document("{\n  \"a\": 1\n}\n");
        edited.set("p2p.enabled", &json!(true));
        edited.set("p2p.port", &json!(3030));
        edited.set("peers", &json!([]));
        assert_eq!(
            edited.as_text(),
            "{\n  \"a\": 1,\n  \"p2p\": {\n    \"enabled\": true,\n    \"port\": 3030\n  },\n  \"peers\": []\n}\n"
        );
        let mut edited = document("{}");
        edited.set("posId", &json!("POS-1"));
        assert_eq!(edited.as_text(), "{\n  \"posId\": \"POS-1\"\n}");
    }

    #[test]
    fn what_should_be_an_object_becomes_one() {
        let mut edited = document("{\"p2p\": 5}");
        assert_eq!(edited.get("p2p.port"), Lookup::Blocked);
        edited.set("p2p.enabled", &json!(true));
        assert_eq!(edited.get("p2p.enabled"), Lookup::Found("true"));
        assert_eq!(edited.get("p2p.port"), Lookup::Absent);
    }

    #[test]
    fn the_last_of_two_names_counts_and_is_the_one_edited() {
        let mut twice = document(r#"{"a": 1, "b": [{"c": 1, "c": 2, "c": 3}], "a": 2}"#);
        assert_eq!(twice.get("a"), Lookup::Found("2"));
        assert_eq!(twice.duplicates(), [("a".to_owned(), 2), ("b[0].c".to_owned(), 3)]);
        twice.set("a", &json!(3));
        assert_eq!(twice.as_text(), r#"{"a": 1, "b": [{"c": 1, "c": 2, "c": 3}], "a": 3}"#);
    }

    #[test]
    fn what_is_no_object_is_refused_with_the_reason() {
        let deep = format!("{{\"a\": {}{}}}", "[".repeat(50_000), "]".repeat(50_000));
        let large = format!("{{\"a\": \"{}\"}}", "x".repeat(FILE_BYTES_MAX));
        for (bytes, reason) in [
            (&b""[..], "empty"),
            (b"\0\0\0\0", "empty"),
            (b"{\"a\": 1", "EOF"),
            (b"{\"a\": NaN}", "line 1 column"),
            (b"{\"a\": 1} {}", "trailing"),
            (b"{\"a\": [{\"\\ud800\": 1}]}", "not JSON"),
            (b"[]", "not a JSON object"),
            (b"null", "not a JSON object"),
            (b"\"secret\"", "not a JSON object"),
            (b"\xff\xfe{\0}\0", "UTF-8"),
            (deep.as_bytes(), "deeper"),
            (large.as_bytes(), "larger"),
        ] {
            let error = Document::parse(bytes).unwrap_err();
            assert!(error.contains(reason), "{error:?} should tell of {reason:?}");
            assert!(!error.contains("secret"));
        }
    }

    #[test]
    fn a_byte_order_mark_is_passed_over() {
        assert_eq!(document("\u{feff}{\"a\": 1}").get("a"), Lookup::Found("1"));
    }

    /// The text of a JSON value as another program might have written it.
    fn any_json() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            "null|true|false",
            "-?[1-9][0-9]{0,30}(\\.[0-9]{1,20})?(e[0-9]{1,3})?",
            any::<String>().prop_map(|s| json!(s).to_string())
        ];
        leaf.prop_recursive(3, 20, 4, |inner| {
            prop_oneof![
                vec(inner.clone(), 0..4).prop_map(|items| format!("[ {} ]", items.join(" , "))),
                vec((any::<String>(), inner), 0..4).prop_map(|members| {
                    let members: Vec<String> =
                        members.iter().map(|(name, value)| format!("{}:{value}", json!(name))).collect();
                    format!("{{{}}}", members.join(",\n"))
                }),
            ]
        })
    }

    proptest! {
        #[test]
        fn unknown_fields_survive_edits_byte_for_byte(
            before in vec(("x[a-z]{1,3}", any_json()), 0..4), after in vec(("y[a-z]{1,3}", any_json()), 0..4), on: bool,
        ) {
            let members = |list: &[(String, String)]| list.iter().map(|(name, value)| format!("\"{name}\": {value}")).collect::<Vec<_>>();
            let text = |enabled: bool| {
                let known = format!("\"p2p\": {{\"enabled\": {enabled}, \"z\": {}}}", before.first().map_or("0", |(_, value)| value));
                format!("{{ {} }}", [members(&before), vec![known], members(&after)].concat().join(" ,\n"))
            };
            let mut edited = document(&text(on));
            edited.set("p2p.enabled", &json!(!on));
            prop_assert_eq!(edited.as_text(), text(!on));
            let reread = document(edited.as_text());
            edited.set("added", &json!({"a": [1, "\n"]}));
            let whole = document(edited.as_text());
            for (name, _) in before.iter().chain(&after) {
                prop_assert_eq!(reread.get(name), whole.get(name));
            }
        }
    }
}
