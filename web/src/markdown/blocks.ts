import { type Inline, parseInline } from "./inline";

export type Align = "left" | "center" | "right" | undefined;

/** A block of a Markdown document. */
export type Block =
  | { readonly kind: "paragraph"; readonly children: readonly Inline[] }
  | { readonly kind: "heading"; readonly level: number; readonly children: readonly Inline[] }
  | { readonly kind: "code"; readonly language: string; readonly text: string }
  | { readonly kind: "quote"; readonly children: readonly Block[] }
  | { readonly kind: "list"; readonly start: number | undefined; readonly items: readonly (readonly Block[])[] }
  | { readonly kind: "table"; readonly align: readonly Align[]; readonly rows: readonly (readonly Inline[])[][] }
  | { readonly kind: "rule" };

/** Quotes and lists nest no deeper than this; what is deeper is a paragraph. */
const DEPTH = 10;
const FENCE = /^( {0,3})(`{3,}|~{3,})[ \t]*([^\s`]*)/;
const HEADING = /^ {0,3}(#{1,6})(?:[ \t]+|$)/;
const RULE = /^ {0,3}([-*_])(?:[ \t]*\1){2,}[ \t]*$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^( *)([-*+]|(\d{1,9})[.)])(?: +|$)/;
const DELIMITER_ROW = /^ {0,3}\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*$/;

/**
 * The blocks of the Markdown that models write (most of CommonMark, and tables). Any text parses: also one
 * that breaks off in the middle, as a streamed answer does. HTML is text.
 */
export function parseMarkdown(source: string): Block[] {
  return parseBlocks(source.replaceAll("\r\n", "\n").replaceAll("\t", "    ").split("\n"), 0);
}

function parseBlocks(lines: readonly string[], depth: number): Block[] {
  const blocks: Block[] = [];
  let at = 0;
  while (at < lines.length) {
    const line = lines[at] as string;
    if (line.trim() === "") {
      at++;
      continue;
    }
    const [block, next] = readBlock(lines, at, depth);
    blocks.push(block);
    at = next;
  }
  return blocks;
}

/** The block that begins at the line, and the number of the first line after it. */
function readBlock(lines: readonly string[], at: number, depth: number): [Block, number] {
  const line = lines[at] as string;
  const fence = FENCE.exec(line);
  if (fence) return readCode(lines, at, fence);
  const heading = HEADING.exec(line);
  if (heading) {
    const text = line.slice(heading[0].length).trim().replace(/(^|[ \t])#+$/, "");
    return [{ kind: "heading", level: (heading[1] as string).length, children: parseInline(text.trim()) }, at + 1];
  }
  if (RULE.test(line)) return [{ kind: "rule" }, at + 1];
  if (depth < DEPTH && QUOTE.test(line)) return readQuote(lines, at, depth);
  const item = ITEM.exec(line);
  if (depth < DEPTH && item) return readList(lines, at, item, depth);
  if (isTable(lines, at)) return readTable(lines, at);
  return readParagraph(lines, at, depth);
}

function readCode(lines: readonly string[], at: number, fence: RegExpExecArray): [Block, number] {
  const [, indent, mark, language] = fence as unknown as [string, string, string, string];
  const text: string[] = [];
  let next = at + 1;
  for (; next < lines.length; next++) {
    const line = lines[next] as string;
    const trimmed = line.trim();
    if (trimmed.length >= mark.length && trimmed === (mark[0] as string).repeat(trimmed.length)) break;
    text.push(dedent(line, indent.length));
  }
  return [{ kind: "code", language, text: text.join("\n") }, next + 1];
}

function readQuote(lines: readonly string[], at: number, depth: number): [Block, number] {
  const inner: string[] = [];
  let next = at;
  for (; next < lines.length && QUOTE.test(lines[next] as string); next++) {
    inner.push((lines[next] as string).replace(QUOTE, ""));
  }
  return [{ kind: "quote", children: parseBlocks(inner, depth + 1) }, next];
}

function readList(lines: readonly string[], at: number, first: RegExpExecArray, depth: number): [Block, number] {
  const indent = (first[1] as string).length;
  const bullet = (first[2] as string).slice(-1);
  const items: Block[][] = [];
  let item: string[] = [];
  let offset = 0;
  let blank = false;
  let next = at;
  const close = () => items.push(parseBlocks(item, depth + 1));
  for (; next < lines.length; next++) {
    const line = lines[next] as string;
    const lead = line.length - line.trimStart().length;
    const marker = ITEM.exec(line);
    if (line.trim() === "") {
      blank = true;
      item.push("");
      continue;
    }
    // A marker up to one space further in is a sibling: models indent carelessly.
    if (marker && lead <= indent + 1 && !RULE.test(line)) {
      if ((marker[2] as string).slice(-1) !== bullet) break;
      if (next > at) close();
      offset = marker[0].length;
      item = [line.slice(offset)];
    } else if (lead > indent + 1 || (!blank && !marker && !startsBlock(line))) {
      item.push(dedent(line, offset));
    } else break;
    blank = false;
  }
  close();
  return [{ kind: "list", start: first[3] === undefined ? undefined : Number(first[3]), items }, next];
}

function isTable(lines: readonly string[], at: number): boolean {
  const head = lines[at] as string;
  const rule = lines[at + 1] ?? "";
  return head.includes("|") && rule.includes("|") && DELIMITER_ROW.test(rule) && cells(head).length === cells(rule).length;
}

function readTable(lines: readonly string[], at: number): [Block, number] {
  const align = cells(lines[at + 1] as string).map((cell): Align => {
    if (cell.endsWith(":")) return cell.startsWith(":") ? "center" : "right";
    return cell.startsWith(":") ? "left" : undefined;
  });
  const rows: Inline[][][] = [];
  let next = at;
  for (; next < lines.length && (lines[next] as string).includes("|"); next++) {
    if (next === at + 1) continue;
    const row = cells(lines[next] as string);
    rows.push(align.map((_, column) => parseInline(row[column] ?? "")));
  }
  return [{ kind: "table", align, rows }, next];
}

/** The cells of a row; a bar after a backslash is no border. */
function cells(line: string): string[] {
  const row = line.trim().replace(/^\|/, "").replace(/(?<!\\)\|$/, "");
  return row.split(/(?<!\\)\|/).map((cell) => cell.trim().replaceAll("\\|", "|"));
}

function readParagraph(lines: readonly string[], at: number, depth: number): [Block, number] {
  let next = at + 1;
  while (next < lines.length) {
    const line = lines[next] as string;
    const nested = depth < DEPTH && (QUOTE.test(line) || ITEM.test(line));
    if (line.trim() === "" || startsBlock(line) || nested || isTable(lines, next)) break;
    next++;
  }
  const text = lines.slice(at, next).map((line) => line.trimStart()).join("\n").trimEnd();
  return [{ kind: "paragraph", children: parseInline(text) }, next];
}

function startsBlock(line: string): boolean {
  return FENCE.test(line) || HEADING.test(line) || RULE.test(line);
}

function dedent(line: string, columns: number): string {
  const lead = line.length - line.trimStart().length;
  return line.slice(Math.min(lead, columns));
}
