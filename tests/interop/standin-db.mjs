// The database of a POSPlus till: real tables in a real SQLite, with the foreign keys and the trigger that its defects come from.
//
// POSPlus itself uses better-sqlite3, the native binding. That one is compiled where it is installed, which takes node's headers, a compiler
// and minutes, or fetches a binary from elsewhere than npm. So this is `node-sqlite3-wasm`: SQLite itself, compiled to WebAssembly, on a file,
// of the same SQL. What a shop could tell apart, foreign keys, text comparison, triggers, `datetime()`, is SQLite's own in both.

import { rmSync } from "node:fs";
import sqlite from "node-sqlite3-wasm";

const SCHEMA = `
CREATE TABLE IF NOT EXISTS users (id INTEGER PRIMARY KEY, username TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS sessions (id INTEGER PRIMARY KEY, userId INTEGER NOT NULL REFERENCES users(id));
CREATE TABLE IF NOT EXISTS categories (
  id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, description TEXT, parentId INTEGER REFERENCES categories(id),
  displayOrder INTEGER DEFAULT 0, isActive INTEGER NOT NULL DEFAULT 1, createdAt TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP,
  updatedAt TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP);
CREATE TABLE IF NOT EXISTS products (
  id INTEGER PRIMARY KEY AUTOINCREMENT, sku TEXT NOT NULL UNIQUE, barcode TEXT, name TEXT NOT NULL, description TEXT,
  categoryId INTEGER NOT NULL REFERENCES categories(id), price REAL NOT NULL, cost REAL NOT NULL DEFAULT 0,
  discountRate REAL NOT NULL DEFAULT 0, stock REAL NOT NULL DEFAULT 0, minStock REAL NOT NULL DEFAULT 0, maxStock REAL NOT NULL DEFAULT 0,
  unit TEXT NOT NULL DEFAULT 'pièce', isActive INTEGER NOT NULL DEFAULT 1, imageUrl TEXT,
  createdAt TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP, updatedAt TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP);
CREATE TABLE IF NOT EXISTS tickets (
  id INTEGER PRIMARY KEY AUTOINCREMENT, ticketNumber TEXT NOT NULL, userId INTEGER NOT NULL REFERENCES users(id), customerId INTEGER,
  subtotal REAL NOT NULL, discountAmount REAL NOT NULL, totalAmount REAL NOT NULL, sessionId INTEGER NOT NULL REFERENCES sessions(id),
  status TEXT NOT NULL CHECK (status IN ('pending', 'completed', 'cancelled', 'refunded', 'partially_refunded')),
  createdAt TEXT NOT NULL, updatedAt TEXT NOT NULL, origin TEXT);
CREATE INDEX IF NOT EXISTS tickets_number ON tickets (ticketNumber);
CREATE TABLE IF NOT EXISTS ticket_lines (
  id INTEGER PRIMARY KEY AUTOINCREMENT, ticketId INTEGER NOT NULL REFERENCES tickets(id), productId INTEGER NOT NULL, productName TEXT NOT NULL,
  productSku TEXT NOT NULL, quantity REAL NOT NULL, unitPrice REAL NOT NULL, discountRate REAL NOT NULL, discountAmount REAL NOT NULL,
  totalAmount REAL NOT NULL, createdAt TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS lines_ticket ON ticket_lines (ticketId);
CREATE TABLE IF NOT EXISTS payments (
  id INTEGER PRIMARY KEY AUTOINCREMENT, ticketId INTEGER NOT NULL REFERENCES tickets(id),
  method TEXT NOT NULL CHECK (method IN ('cash', 'card', 'transfer', 'check', 'other')), amount REAL NOT NULL, reference TEXT,
  createdAt TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS payments_ticket ON payments (ticketId);
CREATE TABLE IF NOT EXISTS stock_log (
  id INTEGER PRIMARY KEY AUTOINCREMENT, productId INTEGER NOT NULL REFERENCES products(id),
  type TEXT NOT NULL CHECK (type IN ('in', 'out', 'adjustment', 'sale', 'return')), quantity REAL NOT NULL,
  createdAt TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP);
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
INSERT OR IGNORE INTO users VALUES (1, 'caissier');
INSERT OR IGNORE INTO sessions VALUES (1, 1);
INSERT OR IGNORE INTO categories (id, name) VALUES (1, 'Divers');
`;

/// The trigger of defect 8: whatever an UPDATE says, the row bears the time of this till, in its own zone and to the second.
const STAMP = `CREATE TRIGGER products_stamp AFTER UPDATE ON products BEGIN
  UPDATE products SET updatedAt = datetime('now', 'localtime') WHERE id = NEW.id; END`;

const PRODUCT = ["sku", "barcode", "name", "description", "categoryId", "price", "cost", "discountRate", "stock", "minStock", "maxStock", "unit",
  "isActive", "imageUrl"];
const TICKET = ["ticketNumber", "userId", "customerId", "subtotal", "discountAmount", "totalAmount", "sessionId", "status", "createdAt",
  "updatedAt"];
const LINE = ["productId", "productName", "productSku", "quantity", "unitPrice", "discountRate", "discountAmount", "totalAmount", "createdAt"];
const PAYMENT = ["method", "amount", "reference", "createdAt"];

/// A value as SQLite takes it.
const bound = (value) => (typeof value === "boolean" ? Number(value) : value ?? null);
const without = (row, ...names) => Object.fromEntries(Object.entries(row).filter(([name, value]) => value !== null && !names.includes(name)));

export class Till {
  #db;
  #prepared = new Map();
  #has;

  /// Opens the database. `has`: whether a defect is on. `first`: the row of the first product.
  constructor(path, { has, first }) {
    // The lock of a till that was killed: nobody else opens this file.
    rmSync(`${path}.lock`, { recursive: true, force: true });
    this.#db = new sqlite.Database(path);
    this.#has = has;
    // What was committed survives a kill; a power cut is no matter here. Locks are folders, made and removed for each change, where one holds
    // none for good; and a WAL needs no shared memory where one does.
    this.#db.exec("PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF; PRAGMA foreign_keys = ON;");
    this.#db.exec(SCHEMA);
    this.#db.exec("DROP TRIGGER IF EXISTS products_stamp");
    if (has("stamp")) this.#db.exec(STAMP);
    if (!has("foreign")) this.#db.exec("PRAGMA foreign_keys = OFF");
    this.#run("INSERT INTO sqlite_sequence (name, seq) SELECT 'products', ? WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'products')",
      first - 1);
  }

  #use(sql) {
    if (!this.#prepared.has(sql)) this.#prepared.set(sql, this.#db.prepare(sql));
    return this.#prepared.get(sql);
  }
  #run(sql, ...values) {
    try { return this.#use(sql).run(values.map(bound)); } catch (error) {
      // One that failed cannot be used again.
      try { this.#use(sql).finalize(); } catch { /* It says once more why it failed. */ }
      this.#prepared.delete(sql);
      throw error;
    }
  }
  #all(sql, ...values) { return this.#use(sql).all(values.map(bound)); }
  #get(sql, ...values) { return this.#use(sql).get(values.map(bound)) ?? undefined; }
  #insert(table, names, row) {
    const sql = `INSERT INTO ${table} (${names}) VALUES (${names.map(() => "?")})`;
    return Number(this.#run(sql, ...names.map((name) => row[name])).lastInsertRowid);
  }

  /// All or nothing.
  together(work) {
    if (this.#db.inTransaction) return work();
    this.#db.exec("BEGIN");
    try {
      const result = work();
      this.#db.exec("COMMIT");
      return result;
    } catch (error) {
      if (this.#db.inTransaction) this.#db.exec("ROLLBACK");
      throw error;
    }
  }

  meta(key) { return this.#get("SELECT value FROM meta WHERE key = ?", key)?.value; }
  remember(key, value) { this.#run("INSERT OR REPLACE INTO meta VALUES (?, ?)", key, value); }

  category(name) {
    const known = this.#get("SELECT id FROM categories WHERE name = ?", name);
    return known ? known.id : this.#insert("categories", ["name"], { name });
  }
  categories(limit = -1) {
    return this.#all("SELECT * FROM categories ORDER BY id LIMIT ?", limit).map((row) => ({ ...without(row), isActive: row.isActive !== 0 }));
  }

  /// A product as it is told to others.
  #out(row) { return row && { ...without(row), isActive: row.isActive !== 0 }; }
  #products(rest, ...values) {
    const sql = `SELECT p.*, c.name AS categoryName FROM products p JOIN categories c ON c.id = p.categoryId ${rest}`;
    return this.#all(sql, ...values).map((row) => this.#out(row));
  }
  product(sku) { return this.#products("WHERE p.sku = ?", sku)[0]; }
  productAt(id) { return this.#products("WHERE p.id = ?", id)[0]; }
  products() { return this.#products("ORDER BY p.id"); }
  count(prefix) { return this.#get("SELECT count(*) AS n FROM products WHERE substr(sku, 1, ?) = ?", prefix.length, prefix).n; }
  /// At most a hundred that have changed since a time, and whether there are more.
  changedSince(since) {
    // Defect 7: SQLite's own '2025-11-23 11:00:00' against ISO's '2025-11-23T10:00:00Z', as texts.
    const later = this.#has("text") ? "p.updatedAt > ?" : "julianday(p.updatedAt) > julianday(?)";
    const found = this.#products(`WHERE ${later} ORDER BY p.id LIMIT 101`, since);
    return { products: found.slice(0, 100), hasMore: found.length > 100 };
  }

  insert(product) {
    const row = { cost: 0, discountRate: 0, stock: 0, minStock: 0, maxStock: 0, unit: "pièce", isActive: true, ...product };
    row.categoryId = this.category(product.categoryName ?? "Divers");
    return this.productAt(this.#insert("products", PRODUCT, row));
  }
  /// Changes some fields, as its own user does or as another till says.
  update(id, { categoryName, ...fields }, updatedAt) {
    if (categoryName) fields.categoryId = this.category(categoryName);
    const names = PRODUCT.filter((name) => fields[name] !== undefined);
    const sets = [...names.map((name) => `${name} = ?`), "updatedAt = coalesce(?, CURRENT_TIMESTAMP)"];
    this.#run(`UPDATE products SET ${sets} WHERE id = ?`, ...names.map((name) => fields[name]), updatedAt, id);
  }
  /// A quantity; whether there is such a row.
  setStock(id, quantity) { return this.#run("UPDATE products SET stock = ?, updatedAt = CURRENT_TIMESTAMP WHERE id = ?", quantity, id).changes > 0; }

  /// Stores a ticket of this till, or (`origin`) of another. Breaks where a foreign key does.
  storeTicket(ticket, origin) {
    return this.together(() => {
      const id = this.#insert("tickets", [...TICKET, "origin"], { ...ticket, origin });
      for (const line of ticket.lines) this.#insert("ticket_lines", ["ticketId", ...LINE], { ...line, ticketId: id });
      for (const payment of ticket.payments) this.#insert("payments", ["ticketId", ...PAYMENT], { ...payment, ticketId: id });
      if (origin === undefined) {
        for (const { productId, quantity } of ticket.lines) {
          this.#run("UPDATE products SET stock = stock - ?, updatedAt = CURRENT_TIMESTAMP WHERE id = ?", quantity, productId);
          this.#insert("stock_log", ["productId", "type", "quantity"], { productId, type: "sale", quantity: -quantity });
        }
      }
      return id;
    });
  }
  knows(number) { return this.#get("SELECT 1 FROM tickets WHERE ticketNumber = ?", number) !== undefined; }
  ticket(id) {
    const row = this.#get("SELECT * FROM tickets WHERE id = ?", id);
    const [lines, payments] = ["ticket_lines", "payments"].map((table) => this.#all(`SELECT * FROM ${table} WHERE ticketId = ? ORDER BY id`, id));
    return { ...without(row, "origin"), lines: lines.map((line) => without(line)), payments: payments.map((payment) => without(payment)) };
  }
  numbers() { return this.#all("SELECT ticketNumber FROM tickets ORDER BY id").map((row) => row.ticketNumber); }
  numbered(number) { return this.#all("SELECT id FROM tickets WHERE ticketNumber = ? ORDER BY id", number).map(({ id }) => this.ticket(id)); }
  ownCount() { return this.#get("SELECT count(*) AS n FROM tickets WHERE origin IS NULL").n; }
}
