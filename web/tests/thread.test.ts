import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";

import { Api } from "../src/api/client";
import { Thread } from "../src/chat/thread";

interface Seen {
  readonly method: string;
  readonly path: string;
  readonly body: Record<string, unknown>;
  readonly key: string | undefined;
}

type Reply = (seen: Seen, signal: AbortSignal | undefined) => Response | Promise<Response>;

const CONVERSATION = { conversation_id: "local-1", title: "T", created_at: "2026-01-01T00:00:00Z", updated_at: "2026-01-01T00:00:00Z", turn_count: 0 };
const NO_USAGE = { prompt_tokens: 0, cached_tokens: 0, output_tokens: 0, thought_tokens: 0 };

function turnFields(id: string, more: object = {}) {
  return {
    turn_id: id,
    seq: 1,
    parent_turn_id: null,
    question: `Q ${id}`,
    outcome: "answer",
    answer: `A ${id}`,
    tier: "junior",
    model: "m",
    confidence: 1,
    finish_reason: "stop",
    escalated: false,
    usage: NO_USAGE,
    cost_microusd: 0,
    failure_reason: null,
    failure_message: null,
    erased: false,
    created_at: "2026-01-01T00:00:00Z",
    ...more,
  };
}

const events = (list: [string, object][], head: Record<string, string> = {}) =>
  new Response(list.map(([name, data]) => `event: ${name}\ndata: ${JSON.stringify(data)}\n\n`).join(""), { headers: head });
const done = (fields: object) => events([["done", fields]]);
const problem = (status: number, reason: string, head: Record<string, string> = {}) =>
  new Response(JSON.stringify({ status, reason, detail: "No." }), { status, headers: head });
const read = (...turns: object[]) => Response.json({ ...CONVERSATION, turns, next_cursor: null });

/** A gateway that answers as it is told, in order; what it was asked is kept. */
function gateway(...replies: Reply[]) {
  const seen: Seen[] = [];
  const api = new Api(undefined, async (path, init) => {
    const headers = init.headers as Record<string, string>;
    const body = JSON.parse((init.body as string | undefined) ?? "{}") as Record<string, unknown>;
    const request = { method: init.method ?? "GET", path, body, key: headers["Idempotency-Key"] };
    seen.push(request);
    const reply = replies.shift();
    if (!reply) throw new TypeError("nothing listens");
    return reply(request, init.signal ?? undefined);
  });
  return { seen, api };
}

const nobody = { created: () => undefined, turned: () => undefined };
const questions = (thread: Thread) => thread.path.map(({ turn }) => turn.question);

describe("Thread", () => {
  const kept = new Map<string, string>();

  beforeEach(() => {
    kept.clear();
    vi.stubGlobal("sessionStorage", {
      getItem: (key: string) => kept.get(key) ?? null,
      setItem: (key: string, value: string) => void kept.set(key, value),
      removeItem: (key: string) => void kept.delete(key),
    });
  });
  afterEach(() => vi.unstubAllGlobals());

  it("makes the conversation with the first question and then follows its turns", async () => {
    const { api, seen } = gateway(
      () => Response.json(CONVERSATION, { status: 201 }),
      () => done(turnFields("1")),
      () => done(turnFields("2", { parent_turn_id: "1" })),
    );
    const created = vi.fn();
    const thread = new Thread(api, { ...nobody, created });
    await thread.ask("Q 1");
    await thread.ask("Q 2");
    expect(created).toHaveBeenCalledOnce();
    expect(seen.map(({ method, path, body }) => [method, path, body])).toEqual([
      ["POST", "/v1/conversations", {}],
      ["POST", "/v1/conversations/local-1/turns", { question: "Q 1" }],
      ["POST", "/v1/conversations/local-1/turns", { question: "Q 2" }],
    ]);
    expect(questions(thread)).toEqual(["Q 1", "Q 2"]);
  });

  it("repeats a question whose outcome is unknown with the same key, and shows it once", async () => {
    const { api, seen } = gateway(
      () => events([["delta", { text: "half" }]]),
      () => done(turnFields("1")),
    );
    const thread = new Thread(api, nobody, "local-1");
    await thread.ask("Q 1");
    const failed = thread.path[0]?.turn;
    expect(failed).toMatchObject({ phase: "failed", text: "half", problem: { reason: "stream_cut" } });
    await thread.retry(failed!);
    expect(seen[1]?.key).toBe(seen[0]?.key);
    expect(thread.state.turns).toHaveLength(1);
    expect(thread.path[0]?.turn).toMatchObject({ phase: "answered", text: "A 1" });
  });

  it("asks anew with another key after a failure that the gateway told", async () => {
    const { api, seen } = gateway(
      () => problem(429, "quota_exhausted"),
      () => done(turnFields("1")),
    );
    const thread = new Thread(api, nobody, "local-1");
    await thread.ask("Q 1");
    await thread.retry(thread.path[0]!.turn);
    expect(seen[1]?.key).not.toBe(seen[0]?.key);
    expect(questions(thread)).toEqual(["Q 1"]);
  });

  it("edits and regenerates as branches, and goes on from the branch that shows", async () => {
    const { api, seen } = gateway(
      () => read(turnFields("1"), turnFields("2", { parent_turn_id: "1", seq: 2 })),
      () => done(turnFields("3", { parent_turn_id: "1", question: "other" })),
      () => done(turnFields("4", { parent_turn_id: "1", question: "other" })),
      () => done(turnFields("5", { parent_turn_id: "2" })),
    );
    const thread = new Thread(api, nobody, "local-1");
    await thread.load();
    await thread.edit(thread.path[1]!.turn, "other");
    await thread.regenerate(thread.path[1]!.turn);
    expect(thread.path[1]?.siblings.map((turn) => turn.turnId)).toEqual(["2", "3", "4"]);
    thread.show(thread.path[1]!.siblings[0]!);
    await thread.ask("Q 5");
    expect(questions(thread)).toEqual(["Q 1", "Q 2", "Q 5"]);
    expect(seen.slice(1).map(({ path, body }) => [path.replace("/v1/conversations/local-1/turns", ""), body])).toEqual([
      ["/2/edit", { question: "other" }],
      ["/3/regenerate", {}],
      ["", { question: "Q 5", parent_turn_id: "2" }],
    ]);
  });

  it("stops on the server and shows what was stored", async () => {
    let cancelled = () => undefined as void;
    const stream = (): Response => {
      const encoder = new TextEncoder();
      const body = new ReadableStream<Uint8Array>({
        start(controller) {
          controller.enqueue(encoder.encode('event: delta\ndata: {"text":"Bra"}\n\n'));
          cancelled = () => {
            const fields = turnFields("1", { outcome: "cancelled", answer: "Bra", tier: null });
            controller.enqueue(encoder.encode(`event: done\ndata: ${JSON.stringify(fields)}\n\n`));
            controller.close();
          };
        },
      });
      return new Response(body, { headers: { "X-Turn-Id": "1" } });
    };
    const { api, seen } = gateway(stream, () => (cancelled(), Response.json({})));
    const thread = new Thread(api, nobody, "local-1");
    const asking = thread.ask("Q 1");
    await vi.waitFor(() => expect(thread.path[0]?.turn.text).toBe("Bra"));
    thread.stop();
    expect(thread.path[0]?.turn.phase).toBe("stopping");
    await asking;
    expect(seen[1]?.path).toBe("/v1/conversations/local-1/turns/1/cancel");
    expect(thread.path[0]?.turn).toMatchObject({ phase: "stopped", text: "Bra", turnId: "1" });
  });

  it("turns away at the second stop, when the gateway has not answered yet", async () => {
    const { api, seen } = gateway(
      (_, signal) => new Promise((_resolve, reject) => signal?.addEventListener("abort", () => reject(signal.reason as Error))),
    );
    const thread = new Thread(api, nobody, "local-1");
    const asking = thread.ask("Q 1");
    await vi.waitFor(() => expect(seen).toHaveLength(1));
    thread.stop();
    thread.stop();
    await asking;
    expect(thread.path[0]?.turn.phase).toBe("stopped");
  });

  it("takes up a question that a reload interrupted, waiting while it is being answered", async () => {
    const before = gateway(() => new Promise<never>(() => undefined));
    void new Thread(before.api, nobody, "local-1").ask("Q 1");
    await vi.waitFor(() => expect(before.seen).toHaveLength(1));

    const after = gateway(
      () => read(),
      () => problem(409, "idempotency_in_progress", { "Retry-After": "0" }),
      () => done(turnFields("1")),
    );
    const thread = new Thread(after.api, nobody, "local-1");
    await thread.load();
    expect(after.seen.slice(1).map((each) => each.key)).toEqual([before.seen[0]?.key, before.seen[0]?.key]);
    expect(thread.path.map(({ turn }) => turn.text)).toEqual(["A 1"]);
    expect(kept.size).toBe(0);
  });

  it("shows one turn where the interrupted question had been stored before the reload", async () => {
    kept.set("focus.pending.local-1", JSON.stringify({ key: "k", question: "Q 1", place: { kind: "next" } }));
    const { api } = gateway(
      () => read(turnFields("1")),
      () => done(turnFields("1")),
    );
    const thread = new Thread(api, nobody, "local-1");
    await thread.load();
    expect(thread.state.turns).toHaveLength(1);
  });

  it("says why the turns cannot be read", async () => {
    const { api } = gateway(() => problem(404, "conversation_not_found"));
    const thread = new Thread(api, nobody, "local-1");
    await thread.load();
    expect(thread.state).toMatchObject({ loading: false, problem: { reason: "conversation_not_found" } });
  });
});
