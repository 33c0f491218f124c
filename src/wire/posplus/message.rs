//! The envelope, and what each type of message carries.

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::number::Decimals;
use super::things::{
    Object, Writer, read_category, read_customer, read_product, read_ticket, write_category, write_customer,
    write_product, write_ticket,
};
use super::time::iso;
use super::{DEPTH_MAX, ITEMS_MAX, MESSAGE_BYTES_MAX, PosError};
use crate::model::amount::Quantity;
use crate::model::posplus::{PosCategory, PosCustomer, PosProduct, PosTicket};

/// The longest id or type, in bytes.
const WORD_BYTES_MAX: usize = 64;

/// A message and who says it.
#[derive(Clone, PartialEq, Debug)]
pub struct PosMessage {
    /// The message's own id: a UUID, of which only equality is asked.
    pub id: String,
    /// When it was sent, in milliseconds since 1970.
    pub at_ms: u64,
    /// The `posId` of the till that says it.
    pub source: String,
    /// What it says.
    pub body: Body,
    /// Items of its lists that were refused, the first few.
    pub refused: Vec<PosError>,
}

/// What is done with the thing of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// It is new.
    Create,
    /// It has changed.
    Update,
    /// It is gone.
    Delete,
}

/// Products and categories.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Catalogue {
    /// Products.
    pub products: Vec<PosProduct>,
    /// Categories.
    pub categories: Vec<PosCategory>,
}

/// What a message says.
#[derive(Clone, PartialEq, Debug)]
pub enum Body {
    /// The dialler's first word, and the listener's answer.
    Hello {
        /// Whether it is the answer.
        ack: bool,
        /// The till.
        pos_id: String,
        /// Its name.
        pos_name: String,
    },
    /// Are you there?
    Ping,
    /// I am.
    Pong,
    /// A sale.
    Ticket(Box<PosTicket>),
    /// A product.
    Product(Action, Box<PosProduct>),
    /// How many there are of a product: absolute.
    Stock {
        /// The product's row.
        product: i64,
        /// How many.
        quantity: Quantity,
    },
    /// A customer.
    Customer(Action, Box<PosCustomer>),
    /// What has changed since a time?
    IncrementalRequest {
        /// The time, as it is written.
        since: String,
        /// Who asks.
        requested_by: String,
    },
    /// This has.
    IncrementalResponse {
        /// What.
        catalogue: Catalogue,
        /// Since when, as it was asked.
        since: String,
        /// Whether there is more.
        has_more: bool,
        /// Up to when, in milliseconds since 1970.
        synced_ms: u64,
    },
    /// What is there?
    FullRequest {
        /// Who asks.
        requested_by: String,
        /// Whether the asker wants to be asked.
        bidirectional: bool,
    },
    /// All that is there.
    FullResponse {
        /// What.
        catalogue: Catalogue,
        /// Up to when, in milliseconds since 1970.
        synced_ms: u64,
    },
    /// A person's order to take this over.
    Manual {
        /// What.
        catalogue: Catalogue,
        /// Of which order.
        session: String,
        /// Whose order.
        initiator: String,
    },
    /// What nobody sends, or what is not known: counted, and nothing else. Its type.
    Ignored(String),
}

/// Who sends a message, and when.
#[derive(Clone, Copy, Debug)]
pub struct Envelope<'a> {
    /// The message's id.
    pub id: &'a str,
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// Our `posId`.
    pub source: &'a str,
}

/// The envelope as it is received; what it carries is judged by its type.
#[derive(Deserialize)]
struct Received<'a> {
    id: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    action: String,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
    #[serde(default)]
    timestamp: String,
    #[serde(rename = "sourcePos")]
    source: String,
}

/// Reads a message.
///
/// # Errors
/// Why it is refused.
pub fn decode(text: &[u8], decimals: Decimals) -> Result<PosMessage, PosError> {
    if text.len() > MESSAGE_BYTES_MAX {
        return Err(PosError::TooLong(text.len()));
    }
    check_depth(text)?;
    let received: Received<'_> = serde_json::from_slice(text).map_err(|error| PosError::NotJson(error.to_string()))?;
    for (field, word) in
        [("id", &received.id), ("type", &received.kind), ("action", &received.action), ("sourcePos", &received.source)]
    {
        if word.len() > WORD_BYTES_MAX || word.chars().any(char::is_control) {
            return Err(PosError::at(field, format!("at most {WORD_BYTES_MAX} bytes, without control characters")));
        }
    }
    if received.source.trim().is_empty() || received.id.is_empty() {
        return Err(PosError::at("sourcePos", "id and sourcePos must say something"));
    }
    let mut refused = Vec::new();
    let data = received.data.map_or("{}", RawValue::get);
    let body = read_body(&received.kind, &received.action, data, decimals, &mut refused)?;
    let at_ms = super::parse_time(&received.timestamp).unwrap_or(0);
    Ok(PosMessage { id: received.id, at_ms, source: received.source, body, refused })
}

/// Refuses brackets that are nested too deep, before anything is parsed.
fn check_depth(text: &[u8]) -> Result<(), PosError> {
    let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
    for byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'{' | b'[' if !quoted => {
                depth += 1;
                if depth > DEPTH_MAX {
                    return Err(PosError::TooDeep);
                }
            }
            b'}' | b']' if !quoted => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Ok(())
}

fn read_body(
    kind: &str,
    action: &str,
    data: &str,
    decimals: Decimals,
    refused: &mut Vec<PosError>,
) -> Result<Body, PosError> {
    // Lists are read item by item: thousands of products are never all in memory as JSON values.
    if let "incremental-sync-response" | "full-sync-response" | "manual-sync" = kind {
        return read_lists(kind, data, decimals, refused);
    }
    let known = ["hello", "hello-ack", "ping", "pong", "ticket", "product", "stock", "customer"];
    let requests = ["incremental-sync-request", "full-sync-request"];
    if !known.contains(&kind) && !requests.contains(&kind) {
        return Ok(Body::Ignored(kind.to_owned()));
    }
    let value: Value = serde_json::from_str(data).map_err(|error| PosError::at("data", error.to_string()))?;
    let o = Object::new("data", &value)?;
    Ok(match kind {
        "hello" | "hello-ack" => Body::Hello {
            ack: kind == "hello-ack",
            pos_id: o.word("posId", WORD_BYTES_MAX)?,
            pos_name: o.text("posName", 128)?,
        },
        "ping" => Body::Ping,
        "pong" => Body::Pong,
        "ticket" if action == "create" => Body::Ticket(Box::new(read_ticket(&o, decimals)?)),
        // What became of a sale is in its own message nowhere; an update would be a ticket that is edited.
        "ticket" => Body::Ignored(kind.to_owned()),
        "product" => Body::Product(read_action(action)?, Box::new(read_product(&o, decimals)?)),
        "customer" => Body::Customer(read_action(action)?, Box::new(read_customer(&o)?)),
        "stock" => Body::Stock { product: o.row("productId")?, quantity: o.quantity("quantity")? },
        "incremental-sync-request" => Body::IncrementalRequest {
            since: o.text("since", WORD_BYTES_MAX)?,
            requested_by: o.text("requestedBy", WORD_BYTES_MAX)?,
        },
        _ => Body::FullRequest {
            requested_by: o.text("requestedBy", WORD_BYTES_MAX)?,
            bidirectional: o.flag("bidirectional").unwrap_or(false),
        },
    })
}

fn read_action(action: &str) -> Result<Action, PosError> {
    match action {
        "create" => Ok(Action::Create),
        "update" => Ok(Action::Update),
        "delete" => Ok(Action::Delete),
        _ => Err(PosError::at("action", "create, update or delete is needed")),
    }
}

/// Refused items of one message that are kept for the log.
const REFUSED_MAX: usize = 16;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Lists<'a> {
    #[serde(borrow)]
    products: Vec<&'a RawValue>,
    #[serde(borrow)]
    categories: Vec<&'a RawValue>,
    #[serde(default)]
    since: String,
    #[serde(default)]
    has_more: bool,
    #[serde(default)]
    synced_at: String,
    #[serde(default)]
    session_id: String,
    #[serde(default)]
    initiator: String,
}

fn read_lists(kind: &str, data: &str, decimals: Decimals, refused: &mut Vec<PosError>) -> Result<Body, PosError> {
    let lists: Lists<'_> = serde_json::from_str(data).map_err(|error| PosError::at("data", error.to_string()))?;
    if lists.products.len().max(lists.categories.len()) > ITEMS_MAX {
        return Err(PosError::at("data", format!("at most {ITEMS_MAX} items in a list")));
    }
    let catalogue = Catalogue {
        products: read_items("data.products", &lists.products, refused, |o| read_product(o, decimals)),
        categories: read_items("data.categories", &lists.categories, refused, read_category),
    };
    let synced_ms = super::parse_time(&lists.synced_at).unwrap_or(0);
    Ok(match kind {
        "incremental-sync-response" => {
            Body::IncrementalResponse { catalogue, since: lists.since, has_more: lists.has_more, synced_ms }
        }
        "full-sync-response" => Body::FullResponse { catalogue, synced_ms },
        _ => Body::Manual { catalogue, session: lists.session_id, initiator: lists.initiator },
    })
}

/// The items that are sound; why the others are not goes into `refused`.
fn read_items<T>(
    path: &str,
    items: &[&RawValue],
    refused: &mut Vec<PosError>,
    read: impl Fn(&Object<'_>) -> Result<T, PosError>,
) -> Vec<T> {
    let mut sound = Vec::new();
    for (n, item) in items.iter().enumerate() {
        let path = format!("{path}[{n}]");
        let value: Result<Value, _> = serde_json::from_str(item.get());
        let value = value.map_err(|error| PosError::at(path.clone(), error.to_string()));
        match value.and_then(|value| read(&Object::new(path, &value)?)) {
            Ok(thing) => sound.push(thing),
            Err(error) if refused.len() < REFUSED_MAX => refused.push(error),
            Err(_) => {}
        }
    }
    sound
}

/// Writes a message, as POSPlus's own code would.
#[must_use]
pub fn encode(envelope: &Envelope<'_>, body: &Body, decimals: Decimals) -> String {
    let (kind, action, data) = write_body(body, decimals);
    Writer::default()
        .put("id", envelope.id)
        .put("type", kind)
        .put("action", action)
        .put("data", data)
        .put("timestamp", iso(envelope.at_ms))
        .put("sourcePos", envelope.source)
        .done()
        .to_string()
}

fn write_body(body: &Body, decimals: Decimals) -> (&str, &'static str, Value) {
    let object = Writer::default;
    match body {
        Body::Hello { ack, pos_id, pos_name } => {
            let kind = if *ack { "hello-ack" } else { "hello" };
            (kind, "identify", object().put("posId", pos_id.as_str()).put("posName", pos_name.as_str()).done())
        }
        Body::Ping => ("ping", "heartbeat", object().done()),
        Body::Pong => ("pong", "heartbeat", object().done()),
        Body::Ticket(ticket) => ("ticket", "create", write_ticket(ticket, decimals)),
        Body::Product(action, product) => ("product", action.word(), write_product(product, decimals)),
        Body::Customer(action, customer) => ("customer", action.word(), write_customer(customer)),
        Body::Stock { product, quantity } => {
            ("stock", "update", object().put("productId", *product).thousandths("quantity", quantity.0).done())
        }
        Body::IncrementalRequest { since, requested_by } => {
            let data = object().put("since", since.as_str()).put("requestedBy", requested_by.as_str()).done();
            ("incremental-sync-request", "sync", data)
        }
        Body::IncrementalResponse { catalogue, since, has_more, synced_ms } => {
            let data = lists(catalogue, decimals).put("since", since.as_str()).put("hasMore", *has_more);
            ("incremental-sync-response", "sync", data.put("syncedAt", iso(*synced_ms)).done())
        }
        Body::FullRequest { requested_by, bidirectional } => {
            let data = object().put("requestedBy", requested_by.as_str()).put("bidirectional", *bidirectional).done();
            ("full-sync-request", "sync", data)
        }
        Body::FullResponse { catalogue, synced_ms } => {
            ("full-sync-response", "sync", lists(catalogue, decimals).put("syncedAt", iso(*synced_ms)).done())
        }
        Body::Manual { catalogue, session, initiator } => {
            let data = lists(catalogue, decimals).put("sessionId", session.as_str());
            ("manual-sync", "force-update", data.put("initiator", initiator.as_str()).done())
        }
        Body::Ignored(kind) => (kind, "update", object().done()),
    }
}

fn lists(catalogue: &Catalogue, decimals: Decimals) -> Writer {
    let products: Vec<Value> = catalogue.products.iter().map(|product| write_product(product, decimals)).collect();
    let categories: Vec<Value> = catalogue.categories.iter().map(write_category).collect();
    Writer::default().put("products", products).put("categories", categories)
}

impl Action {
    const fn word(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }
}
