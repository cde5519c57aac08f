/** One server-sent event, as dispatched. */
export interface ServerEvent {
  /** The `event` field; "message" where the server named none. */
  readonly name: string;
  /** The `data` lines, joined by newlines. */
  readonly data: string;
}

/**
 * Turns text chunks of any cut into server-sent events.
 *
 * After "Interpreting an event stream" of the WHATWG HTML standard (section 9.2.6): lines end with
 * CRLF, LF or CR; a blank line dispatches; an event without data or without its blank line is dropped.
 * `id` and `retry` are read over, for a turn is never resumed by a reconnection.
 */
export class EventParser {
  #line = "";
  #name = "";
  #data: string[] = [];
  #started = false;
  #afterReturn = false;

  /** Takes the next chunk and gives the events that it completed. */
  push(chunk: string): ServerEvent[] {
    let text = chunk;
    if (!this.#started && text !== "") {
      this.#started = true;
      if (text.startsWith("\uFEFF")) text = text.slice(1);
    }
    const events: ServerEvent[] = [];
    let start = 0;
    for (let at = 0; at < text.length; at++) {
      const char = text[at];
      if (char === "\n" && this.#afterReturn) {
        this.#afterReturn = false;
        start = at + 1;
        continue;
      }
      this.#afterReturn = false;
      if (char !== "\n" && char !== "\r") continue;
      this.#afterReturn = char === "\r";
      const event = this.#endOfLine(this.#line + text.slice(start, at));
      if (event) events.push(event);
      this.#line = "";
      start = at + 1;
    }
    this.#line += text.slice(start);
    return events;
  }

  #endOfLine(line: string): ServerEvent | undefined {
    if (line === "") return this.#dispatch();
    const colon = line.indexOf(":");
    if (colon === 0) return undefined;
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(line[colon + 1] === " " ? colon + 2 : colon + 1);
    if (field === "data") this.#data.push(value);
    else if (field === "event") this.#name = value;
    return undefined;
  }

  #dispatch(): ServerEvent | undefined {
    const event = this.#data.length > 0 ? { name: this.#name || "message", data: this.#data.join("\n") } : undefined;
    this.#name = "";
    this.#data = [];
    return event;
  }
}

/** The events of a response body, as they arrive; ends with the body, throws what reading it throws. */
export async function* readEvents(body: ReadableStream<Uint8Array>): AsyncGenerator<ServerEvent> {
  const reader = body.getReader();
  const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  const parser = new EventParser();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield* parser.push(decoder.decode(value, { stream: true }));
    }
  } finally {
    await reader.cancel().catch(() => undefined);
  }
}
