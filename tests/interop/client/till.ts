// The local API of a till, for a till application: a small client to copy and to change. Types come from the agent's own document:
//
//   npx openapi-typescript http://127.0.0.1:3031/openapi.json -o api.d.ts
//
// What matters in it: a sale keeps its id over every retry, so that a lost answer is not a second sale; and who follows changes keeps the
// cursor of the last one that it has dealt with, so that nothing is missed and nothing comes twice, whoever restarts.

import type { components } from "./api";

type Schemas = components["schemas"];
export type Ticket = Schemas["Ticket"];
export type NewTicket = Schemas["NewTicket"];
export type Product = Schemas["Product"];
export type NewProduct = Schemas["NewProduct"];
export type Status = Schemas["Status"];
export type Change = Schemas["Change"];

/** What the agent refuses: a problem of RFC 9457. */
export class Refused extends Error {
  constructor(readonly status: number, readonly problem: Partial<Schemas["Problem"]>) {
    super(problem.detail ?? problem.title ?? `status ${status}`);
  }
}

const pause = (ms: number) => new Promise((done) => setTimeout(done, ms));

export class Till {
  constructor(private readonly base: string, private readonly token: string) {}

  status(): Promise<Status> {
    return this.call("GET", "/v1/status");
  }

  product(id: string): Promise<Product> {
    return this.call("GET", `/v1/products/${id}`);
  }

  saveProduct(id: string, product: NewProduct): Promise<Product> {
    return this.call("PUT", `/v1/products/${id}`, product);
  }

  /** Sells. Whatever happens to the agent or the answer meanwhile: it is one sale, and it is durable when this resolves. */
  async sell(ticket: NewTicket, patience = 30_000): Promise<Ticket> {
    for (const end = Date.now() + patience; ; ) {
      try {
        return await this.call("POST", "/v1/tickets", ticket);
      } catch (error) {
        // 4xx will not become right by itself; the agent away, or a disk that does not answer, may.
        if ((error instanceof Refused && error.status < 500) || Date.now() > end) throw error;
        await pause(200);
      }
    }
  }

  /**
   * What changes, on whichever till, after a cursor; without one, from now on. Keep the cursor of what you have dealt with, in the same
   * transaction where you can. Goes on by itself when the agent restarts. Ends when `signal` does; throws `Refused` with status 410 where
   * the database is another one (a restored backup): then read everything anew.
   */
  async *changes(after: string | undefined, signal: AbortSignal): AsyncGenerator<{ cursor: string; change: Change }> {
    let cursor = after;
    while (!signal.aborted) {
      try {
        const query = cursor === undefined ? "" : `?after=${encodeURIComponent(cursor)}`;
        const answer = await this.fetch("GET", `/v1/changes${query}`, undefined, signal);
        for await (const event of events(answer)) {
          cursor = event.id ?? cursor;
          if (event.data !== undefined && cursor !== undefined) yield { cursor, change: JSON.parse(event.data) as Change };
        }
      } catch (error) {
        if (error instanceof Refused && error.status < 500 && error.status !== 429) throw error;
      }
      if (!signal.aborted) await pause(200);
    }
  }

  private async call<T>(method: string, path: string, body?: unknown): Promise<T> {
    return (await (await this.fetch(method, path, body)).json()) as T;
  }

  private async fetch(method: string, path: string, body?: unknown, signal?: AbortSignal): Promise<Response> {
    const headers: Record<string, string> = { authorization: `Bearer ${this.token}` };
    if (body !== undefined) headers["content-type"] = "application/json";
    const answer = await fetch(this.base + path, { method, headers, body: body === undefined ? null : JSON.stringify(body), signal: signal ?? null });
    if (!answer.ok) throw new Refused(answer.status, (await answer.json().catch(() => ({}))) as Partial<Schemas["Problem"]>);
    return answer;
  }
}

/** The events of a stream, as far as they came whole (WHATWG HTML, 9.2.6). */
async function* events(answer: Response): AsyncGenerator<{ id?: string; data?: string }> {
  const reader = answer.body!.pipeThrough(new TextDecoderStream()).getReader();
  try {
    for (let rest = ""; ; ) {
      const { done, value } = await reader.read();
      if (done) return;
      const parts = (rest + value).split(/\r?\n\r?\n/);
      rest = parts.pop()!;
      for (const part of parts) {
        const event: { id?: string; data?: string } = {};
        for (const line of part.split(/\r?\n/)) {
          const [, name, text] = /^([^:]*):? ?(.*)$/.exec(line)!;
          if (name === "id") event.id = text!;
          if (name === "data") event.data = event.data === undefined ? text! : `${event.data}\n${text}`;
        }
        yield event;
      }
    }
  } finally {
    await reader.cancel().catch(() => {});
  }
}
