//! The one table of routes, and what stands before each of them: site check, rate, token, share of the connections.

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::handler::Handler;
use axum::http::Uri;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, MethodRouter, on};
use tokio::time::timeout;

use super::guard::{self, Access};
use super::limits::READ_WAIT_MAX;
use super::problem::{Kind, Problem};
use super::server::Holding;
use super::shape::entity::{Category, Customer, Product};
use super::{
    Api, alerts, backup, changes, conflicts, control, doctor, entities, log, metrics, openapi, page, rate, roster,
    sales, status, stock, tickets, tokens, update,
};

/// One route.
pub(super) struct Route {
    /// The method, as in the API document: lower case.
    pub method: &'static str,
    /// The path.
    pub path: &'static str,
    /// Who may read; writes need the token that may do everything.
    read_access: Access,
    /// Whether it takes from the share of the reads while it is under way. Writes do not; streams have shares of their own.
    counted: bool,
    handler: MethodRouter<Api>,
}

/// All routes.
pub(super) fn table() -> Vec<Route> {
    use Access::{Admin, Loopback, Public, Read};
    vec![
        get(Public, "/", page::page),
        get(Loopback, "/healthz", status::healthz),
        get(Loopback, "/metrics", metrics::metrics),
        get(Loopback, "/openapi.json", openapi::document),
        get(Loopback, "/v1/status", status::status),
        get(Loopback, "/v1/alerts", status::alerts),
        get(Loopback, "/v1/alerts/history", alerts::history),
        get(Read, "/v1/doctor", doctor::doctor),
        get(Read, "/v1/log", log::lines),
        write("post", "/v1/p2p/reconnect", control::reconnect),
        write("post", "/v1/p2p/enabled", control::enabled),
        write("post", "/v1/p2p/sync", control::sync),
        write("post", "/v1/store/scrub", control::scrub),
        write("post", "/v1/tickets", tickets::create),
        get(Loopback, "/v1/tickets", tickets::list),
        get(Loopback, "/v1/tickets/{id}", tickets::one),
        write("post", "/v1/tickets/{id}/refunds", tickets::refund),
        write("post", "/v1/tickets/{id}/cancel", tickets::cancel),
        get(Loopback, "/v1/sales/today", sales::today),
        get(Loopback, "/v1/products", entities::list::<Product>),
        get(Loopback, "/v1/products/{id}", entities::one::<Product>),
        write("put", "/v1/products/{id}", entities::put::<Product>),
        write("patch", "/v1/products/{id}", entities::patch::<Product>),
        write("delete", "/v1/products/{id}", entities::delete::<Product>),
        write("post", "/v1/products/{id}/stock", stock::movement),
        get(Loopback, "/v1/products/{id}/stock", stock::history),
        get(Loopback, "/v1/categories", entities::list::<Category>),
        get(Loopback, "/v1/categories/{id}", entities::one::<Category>),
        write("put", "/v1/categories/{id}", entities::put::<Category>),
        write("patch", "/v1/categories/{id}", entities::patch::<Category>),
        write("delete", "/v1/categories/{id}", entities::delete::<Category>),
        get(Loopback, "/v1/customers", entities::list::<Customer>),
        get(Loopback, "/v1/customers/{id}", entities::one::<Customer>),
        write("put", "/v1/customers/{id}", entities::put::<Customer>),
        write("patch", "/v1/customers/{id}", entities::patch::<Customer>),
        write("delete", "/v1/customers/{id}", entities::delete::<Customer>),
        stream(Loopback, "/v1/changes", changes::stream),
        get(Loopback, "/v1/conflicts", conflicts::list),
        write("post", "/v1/conflicts/{id}/resolve", conflicts::resolve),
        get(Loopback, "/v1/roster", roster::list),
        write("post", "/v1/roster/{till}/admit", roster::admit),
        write("post", "/v1/roster/{till}/retire", roster::retire),
        stream(Admin, "/v1/backup", backup::download),
        get(Read, "/v1/update", update::state),
        write("post", "/v1/update", update::take),
        write("post", "/v1/tokens/{scope}/rotate", tokens::rotate),
    ]
}

impl Route {
    /// Who may use it.
    pub(super) fn access(&self) -> Access {
        if self.method == "get" { self.read_access } else { Access::Admin }
    }
}

fn get<H: Handler<T, Api>, T: 'static>(read_access: Access, path: &'static str, handler: H) -> Route {
    Route { method: "get", path, read_access, counted: true, handler: on(MethodFilter::GET, handler) }
}

fn stream<H: Handler<T, Api>, T: 'static>(access: Access, path: &'static str, handler: H) -> Route {
    Route { counted: false, ..get(access, path, handler) }
}

fn write<H: Handler<T, Api>, T: 'static>(method: &'static str, path: &'static str, handler: H) -> Route {
    let filter = match method {
        "put" => MethodFilter::PUT,
        "patch" => MethodFilter::PATCH,
        "delete" => MethodFilter::DELETE,
        _ => MethodFilter::POST,
    };
    Route { method, path, read_access: Access::Admin, counted: false, handler: on(filter, handler) }
}

/// The routes, ready to serve.
pub(super) fn router(api: &Api) -> Router {
    let mut router = Router::new();
    for route in table() {
        let key = (route.access(), api.context.tokens.clone());
        let mut handler = route.handler;
        if route.counted {
            handler = handler.route_layer(middleware::from_fn_with_state(api.clone(), share));
        }
        router = router.route(route.path, handler.route_layer(middleware::from_fn_with_state(key, guard::token)));
    }
    router
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(no_such_route)
        .layer(middleware::from_fn_with_state(api.clone(), rate::limit))
        .layer(middleware::from_fn(guard::site))
        .layer(middleware::from_fn_with_state(api.clone(), metrics::count))
        .with_state(api.clone())
}

/// Reads have a share of the connections, held until the answer has been sent: a crowd of them leaves room for sales.
async fn share(State(api): State<Api>, request: Request, next: Next) -> Response {
    match timeout(READ_WAIT_MAX, api.reads.clone().acquire_owned()).await {
        Ok(Ok(place)) => next.run(request).await.map(|body| Body::new(Holding::new(body, place))),
        _ => Problem::new(Kind::Busy, "too many reads are under way").retry_after(1).into_response(),
    }
}

async fn no_such_route(uri: Uri) -> Problem {
    Problem::new(Kind::NotFound, format!("there is nothing at {}: see /openapi.json", uri.path()))
}

async fn method_not_allowed(request: Request) -> Problem {
    Problem::new(Kind::Method, format!("{} has no {}: see /openapi.json", request.uri().path(), request.method()))
}
