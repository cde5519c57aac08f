import { describe, expect, it } from "vitest";

import type { ServerEvent } from "../src/api/sse";
import { afterEvent, newTurn, storedTurn } from "../src/chat/turn";

const USAGE = { prompt_tokens: 10, cached_tokens: 0, output_tokens: 5, thought_tokens: 0 };
const DONE = {
  answer: "Brasília.",
  tier: "senior",
  model: "strong-1",
  confidence: 0.9,
  cache: "miss",
  usage: USAGE,
  cost_microusd: 42,
  escalated: true,
  finish_reason: "stop",
  turn_id: "t-1",
  parent_turn_id: "t-0",
  failure_reason: null,
  failure_message: null,
  erased: false,
  seq: 3,
} as const;

function after(...events: [string, unknown][]) {
  const parsed = events.map(([name, data]): ServerEvent => ({ name, data: JSON.stringify(data) }));
  return parsed.reduce(afterEvent, newTurn("key", "Capital of Brazil?"));
}

describe("a turn's events", () => {
  it("go from the queue over pieces to the answer with its facts", () => {
    const queued = after(["queued", { position: 2, expected_wait_ms: 1500 }]);
    expect(queued).toMatchObject({ phase: "queued", queued: { position: 2, expected_wait_ms: 1500 } });
    const half = after(["queued", { position: 1 }], ["delta", { text: "Bra" }], ["delta", { text: "sília" }]);
    expect(half).toMatchObject({ phase: "answering", text: "Brasília" });
    expect(after(["delta", { text: "Bra" }], ["done", DONE])).toMatchObject({
      phase: "answered",
      text: "Brasília.",
      turnId: "t-1",
      facts: { tier: "senior", model: "strong-1", confidence: 0.9, fromCache: false, escalated: true, costMicrousd: 42 },
    });
  });

  it.each([
    ["stop", undefined],
    ["max_tokens", "limit"],
    ["safety", "withheld"],
    ["recitation", "withheld"],
  ])("say whether the answer is whole: %s", (finishReason, shortened) => {
    expect(after(["done", { ...DONE, finish_reason: finishReason }]).facts?.shortened).toBe(shortened);
  });

  it("drop what the junior had begun when the senior takes over", () => {
    const turn = after(["delta", { text: "I guess" }], ["escalated", { confidence: 0.4, threshold: 0.7, model: "strong-1" }]);
    expect(turn).toMatchObject({ phase: "waiting", text: "", escalation: { confidence: 0.4 } });
  });

  it.each([
    ["miss", false, false],
    ["bypass", false, false],
    ["hit", true, false],
    ["stale", true, false],
    ["coalesced", false, true],
  ])("say where an answer came from: %s", (cache, fromCache, shared) => {
    expect(after(["done", { ...DONE, cache }]).facts).toMatchObject({ fromCache, shared });
  });

  it("forget what was begun by a writer that is gone", () => {
    const begun = after(["delta", { text: "Quito" }], ["restarted", {}]);
    expect(begun).toMatchObject({ phase: "waiting", text: "" });
    expect(after(["delta", { text: "Quito" }], ["restarted", {}], ["delta", { text: "Bra" }]).text).toBe("Bra");
  });

  it("end with the problem, and what was shown stays", () => {
    const turn = after(["delta", { text: "Bra" }], ["error", { reason: "provider_stream_broken", detail: "It stopped.", request_id: "r-1" }]);
    expect(turn).toMatchObject({ phase: "failed", text: "Bra", problem: { reason: "provider_stream_broken", requestId: "r-1" } });
  });

  it("of an unknown name change nothing", () => {
    const before = after(["delta", { text: "a" }]);
    expect(afterEvent(before, { name: "new-kind", data: "not even JSON" })).toBe(before);
  });
});

describe("a stored turn", () => {
  const fields = { ...DONE, question: "Q?", created_at: "2026-11-22T21:00:00Z" };

  it("shows as an answer, a failure or a stop", () => {
    expect(storedTurn({ ...fields, outcome: "answer" })).toMatchObject({ key: "t-1", phase: "answered", text: "Brasília." });
    expect(storedTurn({ ...fields, answer: "", outcome: "failure", failure_reason: "answer_blocked" })).toMatchObject({
      phase: "failed",
      problem: { reason: "answer_blocked" },
    });
    expect(storedTurn({ ...fields, outcome: "cancelled" })).toMatchObject({ phase: "stopped", text: "Brasília." });
  });
});
