import { describe, expect, it } from "vitest";

import { parseMarkdown } from "../src/markdown/blocks";
import { parseInline } from "../src/markdown/inline";

/** A short form of the parse: what a reader would see as structure. */
function shape(source: string): unknown {
  const inline = (parts: ReturnType<typeof parseInline>): string =>
    parts
      .map((part) => {
        if (part.kind === "text") return part.text;
        if (part.kind === "code") return `<code>${part.text}</code>`;
        if (part.kind === "break") return "<br>";
        if (part.kind === "link") return `<a ${part.href}>${inline([...part.children])}</a>`;
        return `<${part.kind}>${inline([...part.children])}</${part.kind}>`;
      })
      .join("");
  const block = (value: ReturnType<typeof parseMarkdown>[number]): unknown => {
    switch (value.kind) {
      case "paragraph":
        return inline([...value.children]);
      case "heading":
        return `h${value.level} ${inline([...value.children])}`;
      case "code":
        return { code: value.text, language: value.language };
      case "quote":
        return { quote: value.children.map(block) };
      case "list":
        return { [value.start === undefined ? "ul" : `ol${value.start}`]: value.items.map((item) => item.map(block)) };
      case "table":
        return { table: value.rows.map((row) => row.map((cell) => inline([...cell]))), align: value.align };
      case "rule":
        return "---";
    }
  };
  return parseMarkdown(source).map(block);
}

describe("inline Markdown", () => {
  it.each([
    ["**bold** and *soft* and _soft_ and __bold__", "<strong>bold</strong> and <emphasis>soft</emphasis> and <emphasis>soft</emphasis> and <strong>bold</strong>"],
    ["***both***", "<strong><emphasis>both</emphasis></strong>"],
    ["*a **b** c*", "<emphasis>a <strong>b</strong> c</emphasis>"],
    ["~~gone~~", "<strike>gone</strike>"],
    ["`a * b` and ``c ` d``", "<code>a * b</code> and <code>c ` d</code>"],
    ["**not `**` here**", "<strong>not <code>**</code> here</strong>"],
    ["2 * 3 * 4 and snake_case_name", "2 * 3 * 4 and snake_case_name"],
    ["\\*plain\\*", "*plain*"],
    ["open **never closed", "open **never closed"],
    ["one\ntwo", "one<br>two"],
    ["[a *b*](https://x.org/p_(q)?r=1)", "<a https://x.org/p_(q)?r=1>a <emphasis>b</emphasis></a>"],
    ["see https://x.org/a_b_c.", "see <a https://x.org/a_b_c>https://x.org/a_b_c</a>."],
    ["<https://x.org>", "<a https://x.org>https://x.org</a>"],
  ])("%s", (source, expected) => {
    expect(shape(source)).toEqual([expected]);
  });

  it.each(["[x](javascript:alert(1))", "[x](data:text/html,y)", "<javascript:alert(1)>", "[x](//evil.example)", "[x](JaVaScRiPt:1)"])(
    "makes no link of %s",
    (source) => {
      expect(shape(source)).toEqual([source]);
    },
  );

  it("keeps HTML as text", () => {
    const source = "<img src=x onerror=alert(1)> <script>1</script>";
    expect(shape(source)).toEqual([source]);
  });
});

describe("blocks", () => {
  it("reads paragraphs, headings, rules and quotes", () => {
    expect(shape("# One #\n\ntext\nmore\n\n---\n> a\n> b\n")).toEqual(["h1 One", "text<br>more", "---", { quote: ["a<br>b"] }]);
  });

  it("keeps code as it is, also before its end has arrived", () => {
    expect(shape("```python\ndef f():\n    return '**x**'\n\n# no heading\n```\nafter")).toEqual([
      { code: "def f():\n    return '**x**'\n\n# no heading", language: "python" },
      "after",
    ]);
    expect(shape("```\nhalf")).toEqual([{ code: "half", language: "" }]);
  });

  it("nests lists and keeps their numbers", () => {
    expect(shape("3. three\n   - a\n   - b\n4. four\n")).toEqual([{ ol3: [["three", { ul: [["a"], ["b"]] }], ["four"]] }]);
    expect(shape("* a\n  * b\n\n    * c\n* d")).toEqual([{ ul: [["a", { ul: [["b", { ul: [["c"]] }]] }], ["d"]] }]);
  });

  it("keeps code within an item and ends a list at unindented text after a blank line", () => {
    expect(shape("1. do\n   ```sh\n   ls -l\n   ```\n\ntext")).toEqual([{ ol1: [["do", { code: "ls -l", language: "sh" }]] }, "text"]);
  });

  it("starts a list right after a line of text", () => {
    expect(shape("Steps:\n- a\n- b")).toEqual(["Steps:", { ul: [["a"], ["b"]] }]);
  });

  it("reads tables with alignment, escaped bars and short rows", () => {
    expect(shape("| a | b |\n|:--|--:|\n| 1 \\| 2 | `x` |\n| 3 |")).toEqual([
      { table: [["a", "b"], ["1 | 2", "<code>x</code>"], ["3", ""]], align: ["left", "right"] },
    ]);
  });

  it("parses every beginning of a text, as a stream shows it", () => {
    const source = "# T\n\n1. **a** `b`\n   - c\n\n> q\n\n```js\nx\n```\n| a | b |\n|---|---|\n| [l](https://x.org) | ~~s~~ |\n";
    for (let end = 0; end <= source.length; end++) expect(() => parseMarkdown(source.slice(0, end))).not.toThrow();
  });

  it.each([
    ["opening marks", "*a ".repeat(30_000)],
    ["mixed marks", "**a _b ~~c ".repeat(10_000)],
    ["backticks", "`a``b```c".repeat(10_000)],
    ["brackets", `${"[a".repeat(30_000)}](`],
    ["quotes", ">".repeat(50_000)],
    ["nested items", "- ".repeat(30_000)],
    ["bars", "|".repeat(50_000)],
    ["spaces", `a${" ".repeat(50_000)}\n`.repeat(3)],
  ])("ends soon on hostile text: %s", { timeout: 5_000 }, (_, source) => {
    expect(parseMarkdown(source).length).toBeGreaterThan(0);
  });
});

