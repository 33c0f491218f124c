// POSPlus's stack as it is put together there: ws between two processes, better-sqlite3 below each, bonjour-service to be found by. Each
// message is one ticket and one commit, synchronous=FULL. Usage: driver.mjs FOLDER TICKETS LIVE; prints one line of JSON.
import { fork } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import Database from 'better-sqlite3';
import { Bonjour } from 'bonjour-service';
import WebSocket, { WebSocketServer } from 'ws';

const self = fileURLToPath(import.meta.url);
const GAP_MS = 20;

function open(path) {
    const db = new Database(path);
    db.pragma('journal_mode = WAL');
    db.pragma('synchronous = FULL');
    db.exec('CREATE TABLE ticket (id TEXT PRIMARY KEY, body TEXT NOT NULL)');
    return { db, insert: db.prepare('INSERT OR IGNORE INTO ticket VALUES (?, ?)') };
}

function ticket() {
    const lines = Array.from({ length: 5 }, (_, n) => ({ productId: randomUUID(), name: `Article ${n}`, quantity: 1 + n, unitPrice: 500 + 50 * n }));
    return { id: randomUUID(), cashier: 'Leila B.', lines, payments: [{ method: 'cash', amount: 7500 }] };
}

// Announced as POSPlus does; where there is no multicast it is found by its address all the same.
function announce(port) {
    try {
        const bonjour = new Bonjour({}, () => {});
        bonjour.publish({ name: `bench-${port}`, type: 'posplus', port });
    } catch {
        // Only discovery is lost.
    }
}

// Time as both processes see it, in milliseconds.
const now = () => Number(process.hrtime.bigint()) / 1e6;

function seller(folder, tickets, live) {
    const { db, insert } = open(join(folder, 'a.db'));
    const fill = db.transaction(() => {
        for (let n = 0; n < tickets; n++) {
            const one = ticket();
            insert.run(one.id, JSON.stringify(one));
        }
    });
    fill();
    const server = new WebSocketServer({ port: 0, host: '127.0.0.1' }, () => {
        announce(server.address().port);
        process.send({ port: server.address().port });
    });
    server.on('connection', (socket) => {
        for (const { body } of db.prepare('SELECT body FROM ticket').all()) {
            socket.send(JSON.stringify({ type: 'sync', entity: 'tickets', data: JSON.parse(body) }));
        }
        process.on('message', async () => {
            for (let n = 0; n < live; n++) {
                const one = ticket();
                const at = now();
                insert.run(one.id, JSON.stringify(one));
                socket.send(JSON.stringify({ type: 'sync', entity: 'tickets', data: one, at }));
                await new Promise((wake) => setTimeout(wake, GAP_MS));
            }
        });
    });
}

function taker(folder, tickets, live, port) {
    const { insert } = open(join(folder, 'b.db'));
    let seen = 0;
    const times = [];
    const began = now();
    const socket = new WebSocket(`ws://127.0.0.1:${port}`);
    socket.on('message', (text) => {
        const { data, at } = JSON.parse(text);
        insert.run(data.id, JSON.stringify(data));
        seen += 1;
        if (at !== undefined) times.push(now() - at);
        if (seen === tickets) process.send({ catchUpMs: now() - began, rss: process.memoryUsage.rss() });
        if (times.length === live) process.send({ times });
    });
}

const percentile = (samples, of) => samples.toSorted((a, b) => a - b)[Math.max(0, Math.ceil(samples.length * of) - 1)];

function drive(folder, tickets, live) {
    mkdirSync(folder, { recursive: true });
    const result = {};
    const a = fork(self, ['seller', folder, tickets, live]);
    a.once('message', ({ port }) => {
        const b = fork(self, ['taker', folder, tickets, live, port]);
        b.on('message', (said) => {
            if (said.catchUpMs !== undefined) {
                Object.assign(result, said);
                a.send('live');
                return;
            }
            Object.assign(result, { liveMs: percentile(said.times, 0.5), liveP99Ms: percentile(said.times, 0.99) });
            a.kill();
            b.kill();
            console.log(JSON.stringify(result));
        });
        b.on('error', fail);
    });
    a.on('exit', (code) => code && fail(new Error(`the seller ended with ${code}`)));
}

function fail(error) {
    console.error(error);
    process.exit(1);
}

const [role, ...rest] = process.argv.slice(2);
if (role === 'seller') seller(rest[0], Number(rest[1]), Number(rest[2]));
else if (role === 'taker') taker(rest[0], Number(rest[1]), Number(rest[2]), rest[3]);
else drive(role, Number(rest[0]), Number(rest[1]));
