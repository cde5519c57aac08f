import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";

import type { Placed } from "../chat/branches";
import { isRunning, type Turn } from "../chat/turn";
import { useWords, type Words } from "../i18n";
import { Icon } from "./icons";
import { type TurnActions, TurnView } from "./TurnView";

/** Within this many pixels of its end the list follows what is being written. */
const NEAR = 80;

interface Props {
  readonly path: readonly Placed[];
  readonly loading: boolean;
  readonly actions: TurnActions;
  /** Shows the first turn first, not the newest. */
  readonly fromStart?: boolean;
  /** The turn to be brought into view. */
  readonly sought?: string | undefined;
}

/** The turns, oldest first. It follows a streaming answer until the reader scrolls away. */
export function TurnList({ path, loading, actions, fromStart = false, sought }: Props) {
  const { say } = useWords();
  const list = useRef<HTMLDivElement>(null);
  const following = useRef(!fromStart && sought === undefined);
  const [away, setAway] = useState(false);
  const last = path.at(-1)?.turn;
  const running = path.some(({ turn }) => isRunning(turn));
  const soughtIsHere = path.some(({ turn }) => turn.turnId === sought);

  const toEnd = () => {
    const box = list.current;
    if (box) box.scrollTop = box.scrollHeight;
  };
  useEffect(() => {
    if (running) following.current = true;
  }, [last?.key, running]);
  useLayoutEffect(() => {
    if (following.current) toEnd();
  });
  useLayoutEffect(() => {
    if (sought === undefined || !soughtIsHere) return;
    following.current = false;
    document.getElementById(`turn-${sought}`)?.scrollIntoView({ block: "start" });
  }, [sought, soughtIsHere]);
  const onScroll = () => {
    const box = list.current;
    if (!box) return;
    const distance = box.scrollHeight - box.scrollTop - box.clientHeight;
    following.current = distance < NEAR && !fromStart;
    setAway(distance >= NEAR);
  };

  return (
    <div class="turns-frame">
      <div class="turns" ref={list} onScroll={onScroll} tabIndex={-1}>
        <div class="column" aria-busy={loading || running}>
          {loading && path.length === 0 && <p class="hint">{say.loading}</p>}
          {path.map(({ turn, siblings }) => (
            <TurnView key={turn.key} turn={turn} siblings={siblings} busy={running} actions={actions} />
          ))}
        </div>
      </div>
      {away && (
        <button type="button" class="round to-end" aria-label={say.toNewest} title={say.toNewest} onClick={toEnd}>
          <Icon name="down" />
        </button>
      )}
      <Announcer turn={last} />
    </div>
  );
}

/** Tells a screen reader the steps of an answer, not every piece of its text. */
function Announcer({ turn }: { readonly turn: Turn | undefined }) {
  const words = useWords();
  const watched = useRef("");
  if (turn && isRunning(turn)) watched.current = turn.key;
  return (
    <p class="hidden" role="status" aria-live="polite">
      {turn && turn.key === watched.current ? announcement(turn, words) : ""}
    </p>
  );
}

function announcement(turn: Turn, words: Words): string {
  const { say } = words;
  switch (turn.phase) {
    case "waiting":
      return turn.escalation ? say.escalated(words.percent(turn.escalation.confidence)) : say.waiting;
    case "queued":
      return say.queued(turn.queued?.position ?? 1, turn.queued?.waiting_for ?? "conversation");
    case "answering":
      return say.answerStarted;
    case "stopping":
      return say.stopping;
    case "answered":
      return `${say.answerDone} ${turn.text}`;
    case "stopped":
      return say.stopped;
    case "failed":
      return ""; // The problem is an alert of its own.
  }
}
