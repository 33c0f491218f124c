//! `GET /v1/sales/today`: what each till has sold today, as far as this one has heard.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use serde::Serialize;

use crate::model::amount::Money;
use crate::store::DaySales;

use super::Api;
use super::problem::{Kind, Problem};
use super::shape::Time;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(rename = "TodaysSales"))]
pub(super) struct TodayShape {
    /// When the store's day began.
    since: Time,
    currency: String,
    /// Tills that have sold something today.
    tills: Vec<TillSalesShape>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(rename = "TillSales"))]
pub(super) struct TillSalesShape {
    /// The till's human id, as its tickets have it.
    pos_id: String,
    /// How many tickets.
    tickets: u64,
    /// What they add up to, before refunds.
    total: Money,
}

pub(super) async fn today(State(api): State<Api>) -> Result<Json<TodayShape>, Problem> {
    let (zone, currency) = {
        let agent = api.context.status.borrow();
        (agent.time_zone.clone(), agent.currency.clone())
    };
    let since = day_began(Timestamp::now(), &zone)?;
    let sold = api.read(move |reader| reader.sales_by_till(since)).await?;
    Ok(Json(TodayShape { since: Time(since), currency, tills: shapes(sold) }))
}

/// When the day began that it is in a time zone, in milliseconds since 1970.
fn day_began(now: Timestamp, zone: &str) -> Result<u64, Problem> {
    let wrong = |error: jiff::Error| Problem::new(Kind::Internal, format!("the day has no beginning: {error}"));
    let began: Zoned = now.to_zoned(TimeZone::get(zone).map_err(wrong)?).start_of_day().map_err(wrong)?;
    Ok(u64::try_from(began.timestamp().as_millisecond()).unwrap_or(0))
}

fn shapes(sold: BTreeMap<String, DaySales>) -> Vec<TillSalesShape> {
    let shape =
        |(pos_id, sales): (String, DaySales)| TillSalesShape { pos_id, tickets: sales.tickets, total: sales.total };
    sold.into_iter().map(shape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_day_is_the_shops() {
        let at = |text: &str| u64::try_from(text.parse::<Timestamp>().unwrap().as_millisecond()).unwrap();
        let late = "2026-11-22T23:30:00Z".parse().unwrap();
        assert_eq!(day_began(late, "Africa/Tunis").unwrap(), at("2026-11-22T23:00:00Z"));
        assert_eq!(day_began(late, "UTC").unwrap(), at("2026-11-22T00:00:00Z"));
        assert!(day_began(late, "Nowhere").is_err());
    }
}
