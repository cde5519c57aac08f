import { describe, expect, it } from "vitest";

import { EventParser, readEvents, type ServerEvent } from "../src/api/sse";

function parse(...chunks: string[]): ServerEvent[] {
  const parser = new EventParser();
  return chunks.flatMap((chunk) => parser.push(chunk));
}

const STREAM = 'event: delta\ndata: {"text":"Olá"}\n\n: keep-alive\n\nevent: done\ndata: {\ndata: }\n\n';
const EVENTS = [
  { name: "delta", data: '{"text":"Olá"}' },
  { name: "done", data: "{\n}" },
];

describe("EventParser", () => {
  it.each([
    ["LF", STREAM],
    ["CRLF", STREAM.replaceAll("\n", "\r\n")],
    ["CR", STREAM.replaceAll("\n", "\r")],
  ])("reads the same events with %s, wherever the chunks are cut", (_, stream) => {
    for (let cut = 0; cut <= stream.length; cut++) {
      expect(parse(stream.slice(0, cut), stream.slice(cut))).toEqual(EVENTS);
    }
    expect(parse(...stream)).toEqual(EVENTS);
  });

  it("names an event without a name 'message' and forgets the name afterwards", () => {
    expect(parse("event: a\ndata: 1\n\ndata: 2\n\n")).toEqual([
      { name: "a", data: "1" },
      { name: "message", data: "2" },
    ]);
  });

  it("drops events without data and events that were not finished", () => {
    expect(parse("event: queued\n\n", "event: delta\ndata: half")).toEqual([]);
  });

  it("takes off one space only and reads a field without a colon as empty", () => {
    expect(parse("data:  two\ndata\ndata:none\n\n")).toEqual([{ name: "message", data: " two\n\nnone" }]);
  });

  it("skips a byte order mark, comments and unknown fields", () => {
    expect(parse("\uFEFFdata: 1\n:data: 2\nid: 7\nretry: 1\nother: x\n\n")).toEqual([{ name: "message", data: "1" }]);
  });
});

describe("readEvents", () => {
  it("joins characters that were cut between two chunks", async () => {
    const bytes = new TextEncoder().encode(STREAM);
    const body = new ReadableStream<Uint8Array>({
      start(controller) {
        for (const byte of bytes) controller.enqueue(Uint8Array.of(byte));
        controller.close();
      },
    });
    const events: ServerEvent[] = [];
    for await (const event of readEvents(body)) events.push(event);
    expect(events).toEqual(EVENTS);
  });

  it("lets go of the body when the reader stops early", async () => {
    let cancelled = false;
    const body = new ReadableStream<Uint8Array>({
      pull: (controller) => controller.enqueue(new TextEncoder().encode(STREAM)),
      cancel: () => {
        cancelled = true;
      },
    });
    for await (const _ of readEvents(body)) break;
    expect(cancelled).toBe(true);
  });
});
