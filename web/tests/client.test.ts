import { describe, expect, it } from "vitest";

import { Api, ApiKey, type Credentials } from "../src/api/client";
import { Problem } from "../src/api/problem";

const PROBLEM = { status: 401, reason: "token_expired", detail: "The token has expired.", request_id: "r-9" };

function json(body: unknown, status = 200, headers: Record<string, string> = {}): Response {
  return new Response(JSON.stringify(body), { status, headers });
}

/** An API behind which the given responses lie ready; the requests are kept. */
function api(responses: (Response | Error)[], credentials?: Credentials) {
  const requests: { path: string; init: RequestInit }[] = [];
  const fetch = (path: string, init: RequestInit) => {
    requests.push({ path, init });
    const next = responses.shift() ?? new Error("no more");
    return next instanceof Error ? Promise.reject(next) : Promise.resolve(next);
  };
  return { requests, api: new Api(credentials, fetch) };
}

const renewing: Credentials = { bearer: () => Promise.resolve("old"), refused: () => Promise.resolve("new") };

describe("Api", () => {
  it("sends JSON, the token and the idempotency key", async () => {
    const { requests, api: client } = api([json({ ok: 1 })], renewing);
    expect(await client.call("POST", "/v1/x", { body: { a: 1 }, idempotencyKey: "k" })).toEqual({ ok: 1 });
    expect(requests[0]?.init.headers).toMatchObject({ Authorization: "Bearer old", "Idempotency-Key": "k", "Content-Type": "application/json" });
    expect(requests[0]?.init.body).toBe('{"a":1}');
  });

  it("tries once more with a new token, and only once", async () => {
    const first = api([json(PROBLEM, 401), json({ ok: 1 })], renewing);
    expect(await first.api.call("GET", "/v1/x")).toEqual({ ok: 1 });
    expect(first.requests[1]?.init.headers).toMatchObject({ Authorization: "Bearer new" });
    const second = api([json(PROBLEM, 401), json(PROBLEM, 401), json({ ok: 1 })], renewing);
    await expect(second.api.call("GET", "/v1/x")).rejects.toMatchObject({ reason: "token_expired" });
  });

  it("tells why an API key was refused", async () => {
    const { api: client, requests } = api([json({ ...PROBLEM, reason: "credentials_invalid" }, 401)], new ApiKey("fk_x"));
    await expect(client.call("GET", "/v1/x")).rejects.toMatchObject({ reason: "credentials_invalid", requestId: "r-9" });
    expect(requests).toHaveLength(1);
  });

  it("throws the gateway's problem with request id and Retry-After", async () => {
    const { api: client } = api([json({ ...PROBLEM, status: 429, reason: "quota_exhausted" }, 429, { "Retry-After": "7" })]);
    const error = await client.call("GET", "/v1/x").catch((caught: unknown) => caught);
    expect(error).toBeInstanceOf(Problem);
    expect(error).toMatchObject({ reason: "quota_exhausted", status: 429, requestId: "r-9", retryAfterSeconds: 7 });
  });

  it("makes a problem of a body that is none, and of a lost connection", async () => {
    const { api: client } = api([new Response("<h1>Bad gateway</h1>", { status: 502 }), new TypeError("Failed to fetch")]);
    await expect(client.call("GET", "/v1/x")).rejects.toMatchObject({ reason: "internal", status: 502 });
    await expect(client.call("GET", "/v1/x")).rejects.toMatchObject({ reason: "network", outcomeUnknown: true });
  });

  it("leaves an abort an abort", async () => {
    const { api: client } = api([new DOMException("stopped", "AbortError")]);
    await expect(client.call("GET", "/v1/x")).rejects.toMatchObject({ name: "AbortError" });
  });

  it("tells a stream that broke from one that never began", async () => {
    let pulled = 0;
    const body = new ReadableStream<Uint8Array>({
      pull(controller) {
        if (pulled++ === 0) controller.enqueue(new TextEncoder().encode("event: delta\ndata: {}\n\n"));
        else controller.error(new TypeError("network error"));
      },
    });
    const { api: client } = api([new Response(body, { headers: { "X-Request-Id": "r-3" } })]);
    const seen: string[] = [];
    const read = async () => {
      for await (const event of client.events("/v1/ask", { body: {} })) seen.push(event.name);
    };
    await expect(read()).rejects.toMatchObject({ reason: "stream_cut", requestId: "r-3" });
    expect(seen).toEqual(["delta"]);
  });
});
