import { useMemo } from "preact/hooks";
import type { ComponentChildren, JSX } from "preact";

import { type Block, parseMarkdown } from "./blocks";
import type { Inline } from "./inline";

interface Props {
  readonly source: string;
  /** Puts the given control beside each block of code. */
  readonly codeAction?: (text: string) => ComponentChildren;
}

/** An answer's Markdown as elements. The text only ever becomes text nodes; no HTML is read from it. */
export function Markdown({ source, codeAction }: Props) {
  const blocks = useMemo(() => parseMarkdown(source), [source]);
  return <div class="markdown">{blocks.map((block, key) => renderBlock(block, key, codeAction))}</div>;
}

function renderBlock(block: Block, key: number, codeAction: Props["codeAction"]): JSX.Element {
  const nested = (blocks: readonly Block[]) => blocks.map((child, at) => renderBlock(child, at, codeAction));
  switch (block.kind) {
    case "paragraph":
      return <p key={key}>{renderInline(block.children)}</p>;
    case "heading": {
      // The page has the first two levels: an answer's headings stand below them.
      const Heading = `h${Math.min(block.level + 2, 6)}` as "h3";
      return <Heading key={key}>{renderInline(block.children)}</Heading>;
    }
    case "code":
      return (
        <figure key={key} class="code">
          <figcaption>
            <span>{block.language}</span>
            {codeAction?.(block.text)}
          </figcaption>
          <pre tabIndex={0}>
            <code>{block.text}</code>
          </pre>
        </figure>
      );
    case "quote":
      return <blockquote key={key}>{nested(block.children)}</blockquote>;
    case "list": {
      const items = block.items.map((item, at) => <li key={at}>{tight(item) ?? nested(item)}</li>);
      return block.start === undefined ? <ul key={key}>{items}</ul> : <ol key={key} start={block.start}>{items}</ol>;
    }
    case "table":
      return renderTable(block, key);
    case "rule":
      return <hr key={key} />;
  }
}

/** An item of one paragraph is set without the paragraph's margins. */
function tight(item: readonly Block[]): ComponentChildren {
  const [only] = item;
  return item.length === 1 && only?.kind === "paragraph" ? renderInline(only.children) : undefined;
}

function renderTable(block: Extract<Block, { kind: "table" }>, key: number): JSX.Element {
  const [head = [], ...body] = block.rows;
  const side = (column: number) => `align-${block.align[column] ?? "left"}`;
  return (
    <div key={key} class="table" tabIndex={0}>
      <table>
        <thead>
          <tr>{head.map((cell, at) => <th key={at} scope="col" class={side(at)}>{renderInline(cell)}</th>)}</tr>
        </thead>
        <tbody>
          {body.map((row, at) => (
            <tr key={at}>{row.map((cell, column) => <td key={column} class={side(column)}>{renderInline(cell)}</td>)}</tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function renderInline(children: readonly Inline[]): ComponentChildren[] {
  return children.map((inline, key) => {
    switch (inline.kind) {
      case "text":
        return inline.text;
      case "code":
        return <code key={key}>{inline.text}</code>;
      case "strong":
        return <strong key={key}>{renderInline(inline.children)}</strong>;
      case "emphasis":
        return <em key={key}>{renderInline(inline.children)}</em>;
      case "strike":
        return <s key={key}>{renderInline(inline.children)}</s>;
      case "link":
        return <a key={key} href={inline.href} target="_blank" rel="noopener noreferrer nofollow">{renderInline(inline.children)}</a>;
      case "break":
        return <br key={key} />;
    }
  });
}
