//! From requests to checked values: bodies, queries, ids in paths. Strict: what is not understood is refused, not guessed.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use axum::body::{Body, Bytes, HttpBody as _};
use axum::extract::{FromRequest, FromRequestParts, Query, RawPathParams, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use http_body_util::BodyExt as _;
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, DeserializeOwned, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value as Json;
use tokio::time::timeout;

use crate::config::TokenScope;
use crate::model::id::{TillId, Uuid};

use super::limits::{BODY_BYTES_MAX, BODY_BYTES_READ_MAX, BODY_TIME_MAX};
use super::problem::{Faults, Kind, Problem};

/// A JSON body. Needs `Content-Type: application/json`.
pub(super) struct JsonBody<T>(pub T);

/// A JSON body that may be left out whole.
pub(super) struct MaybeJson<T>(pub T);

/// An object without fields: the body of a request that has nothing to say.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

impl<S: Sync, T: DeserializeOwned> FromRequest<S> for JsonBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        require_json(&parts.headers)?;
        parse(&collect(body).await?).map(Self)
    }
}

impl<S: Sync, T: DeserializeOwned + Default> FromRequest<S> for MaybeJson<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        let bytes = collect(body).await?;
        if bytes.is_empty() {
            return Ok(Self(T::default()));
        }
        require_json(&parts.headers)?;
        parse(&bytes).map(Self)
    }
}

fn require_json(headers: &HeaderMap) -> Result<(), Problem> {
    let given = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let media_type = given.split(';').next().unwrap_or_default().trim();
    let known = ["application/json", "application/merge-patch+json"];
    if known.iter().any(|k| media_type.eq_ignore_ascii_case(k)) {
        return Ok(());
    }
    Err(Problem::new(Kind::MediaType, "send Content-Type: application/json"))
}

async fn collect(body: Body) -> Result<Bytes, Problem> {
    match timeout(BODY_TIME_MAX, limited(body)).await {
        Ok(collected) => collected,
        Err(_) => Err(Problem::new(Kind::Timeout, format!("a body comes within {} s", BODY_TIME_MAX.as_secs()))),
    }
}

async fn limited(mut body: Body) -> Result<Bytes, Problem> {
    let announced = body.size_hint().lower();
    let mut bytes = Vec::with_capacity(if announced <= BODY_BYTES_MAX as u64 { announced as usize } else { 0 });
    let mut seen = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| Problem::new(Kind::BadRequest, format!("the body did not come whole: {e}")))?;
        let Ok(data) = frame.into_data() else { continue };
        seen += data.len();
        if seen <= BODY_BYTES_MAX {
            bytes.extend_from_slice(&data);
        } else {
            bytes = Vec::new();
        }
        // A client that is still writing reads no answer: what is too large is let through to nowhere, up to a point.
        if seen > BODY_BYTES_READ_MAX {
            break;
        }
    }
    if seen > BODY_BYTES_MAX {
        return Err(Problem::new(Kind::TooLarge, format!("a body has at most {BODY_BYTES_MAX} bytes")));
    }
    Ok(bytes.into())
}

/// Reads a body: one JSON object, nothing after it, of exactly the wanted shape.
pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let Object(value) = serde_path_to_error::deserialize(&mut deserializer).map_err(|e| {
        let path = match e.path().to_string() {
            path if path == "." => String::new(),
            path => path,
        };
        not_parsed(path, e.inner())
    })?;
    deserializer.end().map_err(|e| not_parsed(String::new(), &e))?;
    Ok(value)
}

fn not_parsed(path: String, error: &serde_json::Error) -> Problem {
    let text = error.to_string();
    if error.classify() != serde_json::error::Category::Data {
        return Problem::new(Kind::Syntax, format!("nothing was stored: {text}"));
    }
    let place = format!(" at line {} column {}", error.line(), error.column());
    let mut faults = Faults::default();
    faults.add(path, text.strip_suffix(&place).unwrap_or(&text));
    faults.into_problem()
}

/// The parameters of a query. Unknown ones are refused where the type says so.
pub(super) struct Params<T>(pub T);

impl<S: Sync, T: DeserializeOwned> FromRequestParts<S> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let query = Query::try_from_uri(&parts.uri);
        query.map(|Query(value)| Self(value)).map_err(|e| {
            use std::error::Error as _;
            let cause = e.source().map_or_else(|| e.to_string(), ToString::to_string);
            Problem::new(Kind::BadRequest, format!("the query: {cause}"))
        })
    }
}

/// The `{id}` of the path.
pub(super) struct PathId(pub Uuid);

/// The `{till}` of the path.
pub(super) struct PathTill(pub TillId);

/// The `{scope}` of the path.
pub(super) struct PathScope(pub TokenScope);

/// The `{id}` of the path, as it stands there.
pub(super) struct PathText(pub String);

impl<S: Send + Sync> FromRequestParts<S> for PathId {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let text = path_parameter(parts, state, "id").await?;
        let id = Uuid::from_str(&text).map_err(|_| Problem::parameter("id", "an id is a UUID"))?;
        Ok(Self(id))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for PathScope {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let text = path_parameter(parts, state, "scope").await?;
        TokenScope::named(&text).map(Self).ok_or_else(|| Problem::parameter("scope", "a scope is read or admin"))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for PathTill {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let text = path_parameter(parts, state, "till").await?;
        TillId::from_str(&text).map(Self).map_err(|e| Problem::parameter("till", e.to_string()))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for PathText {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        path_parameter(parts, state, "id").await.map(Self)
    }
}

async fn path_parameter<S: Send + Sync>(parts: &mut Parts, state: &S, name: &str) -> Result<String, Problem> {
    let unreadable = || Problem::parameter(name, "the path is not UTF-8");
    let params = RawPathParams::from_request_parts(parts, state).await.map_err(|_| unreadable())?;
    let found = params.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_owned());
    found.ok_or_else(unreadable)
}

/// An object. By itself a derived type would take an array of its fields as well.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
            type Value = T;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map))
            }
        }
        deserializer.deserialize_map(Members(PhantomData)).map(Self)
    }
}

/// An array of at most `MAX` objects: a longer one is refused at the first item too many, before it takes up memory.
pub(super) struct List<T, const MAX: usize>(pub Vec<T>);

impl<'de, T: Deserialize<'de>, const MAX: usize> Deserialize<'de> for List<T, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Items<T, const MAX: usize>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for Items<T, MAX> {
            type Value = List<T, MAX>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "an array of at most {MAX} objects")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
                let mut list = Vec::new();
                while let Some(Object(item)) = items.next_element()? {
                    if list.len() == MAX {
                        return Err(de::Error::custom(format!("at most {MAX} are allowed")));
                    }
                    list.push(item);
                }
                Ok(List(list))
            }
        }
        deserializer.deserialize_seq(Items(PhantomData))
    }
}

/// A field that can be left out, cleared with `null`, or set.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) enum Field<T> {
    /// Not named.
    #[default]
    Absent,
    /// `null`.
    Cleared,
    /// A value.
    Set(T),
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Field<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Option::deserialize(deserializer).map(|value| value.map_or(Self::Cleared, Self::Set))
    }
}

/// Free fields: any JSON, but a key stands once in each object. Keys come out sorted, so that equal content is equal text.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct FreeFields(pub BTreeMap<String, Json>);

impl<'de> Deserialize<'de> for FreeFields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = FreeFields;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<FreeFields, A::Error> {
                members(map).map(FreeFields)
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

fn members<'de, A: MapAccess<'de>>(mut map: A) -> Result<BTreeMap<String, Json>, A::Error> {
    let mut members = BTreeMap::new();
    while let Some(key) = map.next_key::<String>()? {
        if members.contains_key(&key) {
            return Err(de::Error::custom(format!("duplicate field `{key}`")));
        }
        members.insert(key, map.next_value::<AnyJson>()?.0);
    }
    Ok(members)
}

/// Any JSON without duplicate keys.
pub(super) struct AnyJson(pub Json);

impl<'de> Deserialize<'de> for AnyJson {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyVisitor).map(Self)
    }
}

struct AnyVisitor;

impl<'de> Visitor<'de> for AnyVisitor {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        let mut list = Vec::new();
        while let Some(AnyJson(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(Json::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Json, A::Error> {
        members(map).map(|members| Json::Object(members.into_iter().collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused<T: DeserializeOwned>(text: &str) -> String {
        parse::<T>(text.as_bytes()).map(|_| ()).map_err(|p| format!("{p:?}")).unwrap_err()
    }

    #[test]
    fn a_key_stands_once_at_any_depth() {
        assert!(refused::<FreeFields>(r#"{"a": [{"b": 1, "b": 2}]}"#).contains("duplicate field `b`"));
        let FreeFields(fields) = parse(br#"{"b": {"z": 1, "a": 2.5}, "a": null}"#).unwrap();
        assert_eq!(fields["b"].to_string(), r#"{"a":2.5,"z":1}"#);
    }

    #[test]
    fn a_long_list_is_refused_at_the_first_item_too_many() {
        #[derive(Deserialize)]
        struct Lines {
            lines: List<FreeFields, 3>,
        }
        assert_eq!(parse::<Lines>(br#"{"lines": [{}, {}, {}]}"#).unwrap().lines.0.len(), 3);
        // The text after the fourth item is never looked at.
        assert!(refused::<Lines>(r#"{"lines": [{}, {}, {}, {}, nonsense"#).contains("at most 3"));
    }

    #[test]
    fn an_array_is_no_object() {
        #[derive(Deserialize)]
        struct Enabled {
            #[serde(rename = "enabled")]
            _enabled: bool,
        }
        assert!(refused::<Enabled>("[true]").contains("expected an object"));
    }

    #[test]
    fn what_is_not_json_is_syntax_and_says_where() {
        for text in ["{\"a\": NaN}", "{\"a\": 1e400}", "{", "", "{} x", "{\"a\": \"\u{1}\"}"] {
            let text = refused::<FreeFields>(text);
            assert!(text.contains("Syntax") && text.contains("line 1 column"), "{text}");
        }
        assert!(refused::<FreeFields>(&format!("{{\"a\": {}1", "[".repeat(200))).contains("recursion limit"));
    }

    #[test]
    fn absent_is_not_null() {
        #[derive(Deserialize)]
        struct Patch {
            #[serde(default)]
            a: Field<u8>,
        }
        assert_eq!(parse::<Patch>(b"{}").unwrap().a, Field::Absent);
        assert_eq!(parse::<Patch>(b"{\"a\": null}").unwrap().a, Field::Cleared);
        assert_eq!(parse::<Patch>(b"{\"a\": 1}").unwrap().a, Field::Set(1));
    }
}
