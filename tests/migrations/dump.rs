//! A database as SQL text, and back.

use std::fmt::Write as _;
use std::path::Path;

use rusqlite::Connection;

fn connect(path: &Path) -> Connection {
    Connection::open(path).expect("the database opens")
}

fn texts(conn: &Connection, sql: &str) -> Vec<String> {
    let mut statement = conn.prepare(sql).expect("it is SQL");
    let rows = statement.query_map([], |row| row.get(0)).expect("it runs");
    rows.collect::<Result<_, _>>().expect("texts")
}

fn pragma(conn: &Connection, name: &str) -> i64 {
    conn.pragma_query_value(None, name, |row| row.get(0)).expect("a number")
}

/// The schema of a database.
pub(crate) fn version(path: &Path) -> u32 {
    u32::try_from(pragma(&connect(path), "user_version")).expect("small")
}

/// Has a database be of another schema, by its word.
pub(crate) fn set_version(path: &Path, schema: u32) {
    connect(path).pragma_update(None, "user_version", schema).expect("a number can be set");
}

/// The whole of a database: tables and rows in a fixed order, then indexes.
pub(crate) fn dump(path: &Path) -> String {
    let conn = connect(path);
    let mut text = String::from("BEGIN;\n");
    for table in texts(&conn, "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name") {
        let made = texts(&conn, &format!("SELECT sql FROM sqlite_schema WHERE type = 'table' AND name = '{table}'"));
        let _ = writeln!(text, "{};", made.concat());
        let columns = texts(&conn, &format!("SELECT name FROM pragma_table_info('{table}') ORDER BY cid"));
        let quoted: Vec<String> = columns.iter().map(|column| format!("quote({column})")).collect();
        let rows = format!("SELECT concat_ws(', ', {}) FROM {table} ORDER BY 1", quoted.join(", "));
        for row in texts(&conn, &rows) {
            let _ = writeln!(text, "INSERT INTO {table} VALUES ({row});");
        }
    }
    for index in texts(&conn, "SELECT sql FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL ORDER BY name") {
        let _ = writeln!(text, "{index};");
    }
    for name in ["user_version", "application_id"] {
        let _ = writeln!(text, "PRAGMA {name} = {};", pragma(&conn, name));
    }
    text + "COMMIT;\n"
}

/// Makes the database that a dump is of.
pub(crate) fn load(path: &Path, sql: &str) {
    connect(path).execute_batch(sql).expect("a dump is SQL");
}

/// What SQLite finds wrong with a database.
pub(crate) fn complaints(path: &Path) -> Vec<String> {
    let mut found = texts(&connect(path), "PRAGMA integrity_check");
    found.retain(|line| line != "ok");
    found
}
