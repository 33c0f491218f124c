//! The document against the code. `TILLMESH_BLESS=1 cargo test openapi` writes the schemas anew; the paths are written by hand.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

use crate::model::amount::{MONEY_MAX, Money, QUANTITY_MAX, Quantity};
use crate::model::clock::ClockQuality;
use crate::model::id::Uuid;
use crate::model::movement::MovementKind;
use crate::model::ticket::{PaymentMethod, TicketStatus};

use super::super::alerts::PastAlert;
use super::super::conflicts::{ConflictShape, NewResolution};
use super::super::control::{AskedShape, EnabledShape};
use super::super::doctor::Diagnosis;
use super::super::entities::ListShape;
use super::super::extract::{Field, FreeFields, List, parse};
use super::super::guard::Access;
use super::super::log::LineShape;
use super::super::problem::ProblemBody;
use super::super::roster::RosterShape;
use super::super::routes;
use super::super::sales::TodayShape;
use super::super::shape::entity::{
    Category, CategoryShape, Customer, CustomerShape, Entity, Fields, Product, ProductShape,
};
use super::super::shape::stock::{NewMovement, StockEntryShape, StockShape};
use super::super::shape::ticket::{NewCancel, NewRefund, NewTicket, TicketShape};
use super::super::shape::{QuantitySum, Time};
use super::super::status::{Alert, HealthShape, StatusShape};
use super::super::tokens::NewTokenShape;
use super::super::update::UpdateState;
use super::super::{changes, limits};

macro_rules! schema {
    ($($type:ty => $name:literal, $schema:tt;)*) => {$(
        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    )*};
}
schema! {
    Money => "Money", { "type": "integer", "minimum": -MONEY_MAX, "maximum": MONEY_MAX, "description": "Minor units of the store's currency: TND 4.500 is 4500." };
    Quantity => "Quantity", { "type": "number", "minimum": -QUANTITY_MAX / 1000, "maximum": QUANTITY_MAX / 1000, "description": "At most three decimals." };
    QuantitySum => "QuantitySum", { "type": "number", "description": "What quantities add up to: at most three decimals, and no bound of one quantity." };
    Time => "Time", { "type": "string", "format": "date-time", "description": "UTC, with milliseconds." };
    ClockQuality => "ClockQuality", { "type": "string", "enum": [ClockQuality::Trusted, ClockQuality::Untrusted], "description": "Whether something that knows the time has set the till's clock." };
    TicketStatus => "TicketStatus", { "type": "string", "enum": [TicketStatus::Completed, TicketStatus::Cancelled, TicketStatus::Refunded, TicketStatus::PartiallyRefunded] };
    PaymentMethod => "PaymentMethod", { "type": "string", "enum": [PaymentMethod::Cash, PaymentMethod::Card, PaymentMethod::Transfer, PaymentMethod::Check, PaymentMethod::Other] };
    MovementKind => "MovementType", { "type": "string", "enum": [MovementKind::In, MovementKind::Out, MovementKind::Adjustment, MovementKind::Sale, MovementKind::Return, MovementKind::Loss, MovementKind::Count] };
    FreeFields => "FreeFields", { "type": "object", "maxProperties": limits::EXTRA_FIELDS_MAX, "additionalProperties": true, "description": "Whatever the till application keeps with a product; null clears a field." };
}

impl<T: JsonSchema, const MAX: usize> JsonSchema for List<T, MAX> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        format!("{}Items", T::schema_name()).into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "array", "maxItems": MAX, "items": generator.subschema_for::<T>() })
    }
}

impl<T: JsonSchema> JsonSchema for Field<T> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        Option::<T>::schema_name()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Option::<T>::json_schema(generator)
    }
}

fn settings() -> SchemaSettings {
    SchemaSettings::draft2020_12().with(|s| s.definitions_path = "/components/schemas".into())
}

/// What clients write of an entity: whole (`New...`) and in part (`...Patch`).
fn written<E: Entity>(generator: &mut SchemaGenerator, name: &str) -> [(String, Value); 2]
where
    E::Input: JsonSchema,
{
    let mut part = E::Input::json_schema(generator).to_value();
    let nothing = parse::<E::Input>(b"{}").unwrap_or_else(|p| panic!("{p:?}"));
    let missing = Fields::check::<E>(Uuid::from_u128(1), None, nothing).unwrap_err();
    let needed: Vec<String> = missing.faults().iter().map(|f| f.path.clone()).collect();
    for name in &needed {
        let property = &mut part["properties"][name];
        *property = match property.get("anyOf") {
            Some(either) => either[0].clone(),
            None => json!({ "type": property["type"][0] }),
        };
    }
    let mut whole = part.clone();
    whole["required"] = json!(needed);
    [(format!("New{name}"), whole), (format!("{name}Patch"), part)]
}

fn schemas() -> BTreeMap<String, Value> {
    let mut reads = settings().for_serialize().into_generator();
    reads.subschema_for::<ListShape<TicketShape>>();
    reads.subschema_for::<ListShape<ProductShape>>();
    reads.subschema_for::<ListShape<CategoryShape>>();
    reads.subschema_for::<ListShape<CustomerShape>>();
    reads.subschema_for::<ListShape<StockEntryShape>>();
    reads.subschema_for::<ListShape<ConflictShape>>();
    reads.subschema_for::<ListShape<Alert>>();
    reads.subschema_for::<ListShape<PastAlert>>();
    reads.subschema_for::<ListShape<LineShape>>();
    reads.subschema_for::<StockShape>();
    reads.subschema_for::<StatusShape>();
    reads.subschema_for::<TodayShape>();
    reads.subschema_for::<HealthShape>();
    reads.subschema_for::<RosterShape>();
    reads.subschema_for::<AskedShape>();
    reads.subschema_for::<Diagnosis>();
    reads.subschema_for::<NewTokenShape>();
    reads.subschema_for::<UpdateState>();
    reads.subschema_for::<changes::ChangeShape>();
    reads.subschema_for::<ProblemBody<'static>>();
    let mut writes = settings().for_deserialize().into_generator();
    writes.subschema_for::<NewTicket>();
    writes.subschema_for::<NewRefund>();
    writes.subschema_for::<NewCancel>();
    writes.subschema_for::<NewMovement>();
    writes.subschema_for::<NewResolution>();
    writes.subschema_for::<EnabledShape>();
    let mut all: BTreeMap<String, Value> = BTreeMap::new();
    all.extend(written::<Product>(&mut writes, "Product"));
    all.extend(written::<Category>(&mut writes, "Category"));
    all.extend(written::<Customer>(&mut writes, "Customer"));
    all.extend(writes.take_definitions(true));
    all.extend(reads.take_definitions(true));
    all
}

fn document() -> Value {
    serde_json::from_str(&super::packed::text(super::DOCUMENT)).unwrap()
}

#[test]
fn schemas_are_those_of_the_types() {
    let mut document = document();
    let generated = json!(schemas());
    if std::env::var_os("TILLMESH_BLESS").is_some() {
        document["components"]["schemas"] = generated;
        let text = serde_json::to_string_pretty(&document).unwrap() + "\n";
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/src/api/openapi.json"), text).unwrap();
        return;
    }
    let (written, generated) = (object(&document["components"]["schemas"]), object(&generated));
    for name in written.keys().chain(generated.keys()).collect::<BTreeSet<_>>() {
        let hint = "run TILLMESH_BLESS=1 cargo test openapi, and look at the difference";
        assert_eq!(written.get(name), generated.get(name), "schema {name}: {hint}");
    }
}

#[test]
fn paths_are_those_of_the_routes() {
    let document = document();
    let mut documented = BTreeSet::new();
    for (path, item) in object(&document["paths"]) {
        let methods = object(item).keys().filter(|key| *key != "parameters");
        documented.extend(methods.map(|method| format!("{method} {path}")));
    }
    let routes: BTreeSet<String> = routes::table().iter().map(|r| format!("{} {}", r.method, r.path)).collect();
    assert_eq!(documented, routes);
}

#[test]
fn each_operation_says_who_may_what_can_fail_and_what_its_path_needs() {
    let document = document();
    for route in routes::table() {
        let operation = &document["paths"][route.path][route.method];
        let at = format!("{} {}", route.method, route.path);
        assert!(operation["summary"].is_string() && operation["operationId"].is_string(), "{at}");
        let security = match route.access() {
            Access::Public | Access::Loopback => Value::Null,
            Access::Read => json!([{ "token": [] }, { "readToken": [] }]),
            Access::Admin => json!([{ "token": [] }]),
        };
        assert_eq!(operation["security"], security, "{at}: security");
        let responses = object(&operation["responses"]);
        assert!(responses.keys().any(|status| status.starts_with('2')), "{at}");
        assert!(responses.contains_key("default"), "{at}: problems");
        let item = &document["paths"][route.path];
        let named = |of: &Value| -> Vec<String> {
            let all = of["parameters"].as_array().cloned().unwrap_or_default();
            all.iter().map(|p| resolve(&document, p)["name"].as_str().unwrap().to_owned()).collect()
        };
        let parameters = [named(item), named(operation)].concat();
        for segment in route.path.split('/').filter_map(|s| s.strip_prefix('{')) {
            let name = segment.trim_end_matches('}');
            assert!(parameters.iter().any(|p| p == name), "{at}: parameter {name}");
        }
    }
}

#[test]
fn every_reference_leads_somewhere_and_every_schema_is_used() {
    let document = document();
    let mut referred = BTreeSet::new();
    references(&document, &mut referred);
    for reference in &referred {
        assert!(document.pointer(reference.trim_start_matches('#')).is_some(), "{reference}");
    }
    for name in object(&document["components"]["schemas"]).keys() {
        assert!(referred.contains(&format!("#/components/schemas/{name}")), "nothing uses the schema {name}");
    }
}

fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            found.extend(members.get("$ref").and_then(Value::as_str).map(str::to_owned));
            members.values().for_each(|member| references(member, found));
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

fn resolve<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    match value["$ref"].as_str() {
        Some(reference) => document.pointer(reference.trim_start_matches('#')).unwrap(),
        None => value,
    }
}

fn object(value: &Value) -> &Map<String, Value> {
    value.as_object().unwrap()
}
