/** Text within a line of Markdown. */
export type Inline =
  | { readonly kind: "text"; readonly text: string }
  | { readonly kind: "code"; readonly text: string }
  | { readonly kind: "strong" | "emphasis" | "strike"; readonly children: readonly Inline[] }
  | { readonly kind: "link"; readonly href: string; readonly children: readonly Inline[] }
  | { readonly kind: "break" };

/** Marks nest no deeper than this; what is deeper stays text. */
const DEPTH = 8;
const SPACE = /\s/;
const WORD = /[\p{L}\p{N}]/u;
const PUNCTUATION = /[!-/:-@[-`{-~]/;
const URL_END = /[.,;:!?'")\]*_~]+$/;
const MARKS = [
  ["**", "strong"],
  ["__", "strong"],
  ["~~", "strike"],
  ["*", "emphasis"],
  ["_", "emphasis"],
] as const;

/**
 * The inline Markdown that models write: code, strong, emphasis, strike, links, line breaks.
 * Whatever is not well-formed stays as the text it is. Time is linear in the length, but for nesting.
 */
export function parseInline(source: string, depth = 0): Inline[] {
  return new InlineParser(source, depth).parse();
}

/** The address if a browser may follow it from an answer, which may hold any text. */
export function safeHref(address: string): string | undefined {
  return /^(https?:\/\/|mailto:)[^\s<>"]+$/i.test(address) ? address : undefined;
}

class InlineParser {
  readonly #out: Inline[] = [];
  #at = 0;
  #text = "";
  /** Marks that are not closed anywhere in the rest: searched once only. */
  readonly #unclosed = new Set<string>();
  /** Where the next "](" stands; Infinity for nowhere. */
  #middle = -1;

  constructor(
    private readonly source: string,
    private readonly depth: number,
  ) {}

  parse(): Inline[] {
    while (this.#at < this.source.length) {
      if (!this.#special(this.source[this.#at] as string)) this.#text += this.source[this.#at++] as string;
    }
    this.#flush();
    return this.#out;
  }

  #special(char: string): boolean {
    switch (char) {
      case "\\":
        return this.#escape();
      case "\n":
        this.#text = this.#text.trimEnd();
        return this.#emit({ kind: "break" }, this.#at + 1);
      case "`":
        return this.#code();
      case "*":
      case "_":
      case "~":
        return this.#marked();
      case "[":
        return this.#link();
      case "<":
        return this.#angle();
      case "h":
        return this.#bareLink();
      default:
        return false;
    }
  }

  #flush(): void {
    if (this.#text !== "") this.#out.push({ kind: "text", text: this.#text });
    this.#text = "";
  }

  #emit(inline: Inline, next: number): true {
    this.#flush();
    this.#out.push(inline);
    this.#at = next;
    return true;
  }

  #escape(): boolean {
    const next = this.source[this.#at + 1];
    if (next === undefined || !(PUNCTUATION.test(next) || next === "\n")) return false;
    if (next === "\n") return this.#emit({ kind: "break" }, this.#at + 2);
    this.#text += next;
    this.#at += 2;
    return true;
  }

  #code(): boolean {
    const end = this.#codeEnd(this.#at);
    const run = runLength(this.source, this.#at);
    if (end === undefined) {
      this.#text += this.source.slice(this.#at, this.#at + run);
      this.#at += run;
      return true;
    }
    let text = this.source.slice(this.#at + run, end - run).replaceAll("\n", " ");
    if (text.startsWith(" ") && text.endsWith(" ") && text.trim() !== "") text = text.slice(1, -1);
    return this.#emit({ kind: "code", text }, end);
  }

  /** Where the code span that begins at `from` ends; undefined where nothing closes it. */
  #codeEnd(from: number): number | undefined {
    const run = runLength(this.source, from);
    const fence = "`".repeat(run);
    if (this.#unclosed.has(fence)) return undefined;
    for (let at = this.source.indexOf(fence, from + run); at >= 0; ) {
      const length = runLength(this.source, at);
      if (length === run) return at + run;
      at = this.source.indexOf(fence, at + length);
    }
    this.#unclosed.add(fence);
    return undefined;
  }

  #marked(): boolean {
    if (this.depth >= DEPTH) return false;
    for (const [mark, kind] of MARKS) {
      if (!this.source.startsWith(mark, this.#at) || this.#unclosed.has(mark)) continue;
      const start = this.#at + mark.length;
      const first = this.source[start];
      if (first === undefined || SPACE.test(first)) continue;
      if (mark[0] === "_" && WORD.test(this.source[this.#at - 1] ?? "")) continue;
      const end = this.#closing(mark, start);
      if (end === undefined) continue;
      const children = parseInline(this.source.slice(start, end), this.depth + 1);
      return this.#emit({ kind, children }, end + mark.length);
    }
    // The whole run is text: its rest must not be tried as a mark of its own.
    const run = runLength(this.source, this.#at);
    this.#text += this.source.slice(this.#at, this.#at + run);
    this.#at += run;
    return true;
  }

  /** Where the mark that opens before `start` closes; code spans and escapes are stepped over. */
  #closing(mark: string, start: number): number | undefined {
    const char = mark[0] as string;
    for (let at = start; at < this.source.length; at++) {
      const here = this.source[at];
      if (here === "\\") at++;
      else if (here === "`") at = (this.#codeEnd(at) ?? at + runLength(this.source, at)) - 1;
      else if (here === char) {
        const run = runLength(this.source, at);
        const fits = mark.length === 1 ? run % 2 === 1 : run >= 2;
        const opens = SPACE.test(this.source[at - 1] ?? " ");
        const within = char === "_" && WORD.test(this.source[at + run] ?? "");
        if (fits && !opens && !within && at > start) return at + run - mark.length;
        at += run - 1;
      }
    }
    this.#unclosed.add(mark);
    return undefined;
  }

  #link(): boolean {
    if (this.depth >= DEPTH) return false;
    if (this.#middle < this.#at) this.#middle = orInfinity(this.source.indexOf("](", this.#at));
    const middle = this.#middle;
    if (middle === Infinity) return false;
    const inner = this.source.slice(this.#at + 1, middle);
    if (inner === "" || inner.includes("[") || inner.includes("\n")) return false;
    // One level of parentheses may stand in an address.
    const match = /^((?:[^\s()]|\([^\s()]*\))*)(?:[ \t]+"[^"\n]*")?\)/.exec(this.source.slice(middle + 2, middle + 2050));
    const href = safeHref(match?.[1] ?? "");
    if (!match || href === undefined) return false;
    const children = parseInline(inner, this.depth + 1);
    return this.#emit({ kind: "link", href, children }, middle + 2 + match[0].length);
  }

  #angle(): boolean {
    const end = this.source.slice(this.#at, this.#at + 2050).indexOf(">");
    const href = end < 0 ? undefined : safeHref(this.source.slice(this.#at + 1, this.#at + end));
    if (href === undefined) return false;
    return this.#emit({ kind: "link", href, children: [{ kind: "text", text: href }] }, this.#at + end + 1);
  }

  #bareLink(): boolean {
    if (!this.source.startsWith("http", this.#at) || WORD.test(this.source[this.#at - 1] ?? "")) return false;
    const match = /^https?:\/\/[^\s<>"`]+/.exec(this.source.slice(this.#at, this.#at + 2048));
    const href = match?.[0].replace(URL_END, "") ?? "";
    if (href.length < 10) return false;
    return this.#emit({ kind: "link", href, children: [{ kind: "text", text: href }] }, this.#at + href.length);
  }
}

function orInfinity(index: number): number {
  return index < 0 ? Infinity : index;
}

function runLength(text: string, from: number): number {
  let end = from + 1;
  while (end < text.length && text[end] === text[from]) end++;
  return end - from;
}
