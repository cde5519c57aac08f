import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";

import type { Asking, AskingState } from "../chat/asking";
import { isRunning, type Turn } from "../chat/turn";
import { useWords } from "../i18n";
import { Icon } from "./icons";
import { TurnView } from "./TurnView";

/** Within this many pixels of its end the list follows what is being written. */
const NEAR = 80;

interface Props {
  readonly asking: Asking<AskingState>;
  readonly turns: readonly Turn[];
  readonly loading: boolean;
}

/** The turns, oldest first. It follows a streaming answer until the reader scrolls away. */
export function TurnList({ asking, turns, loading }: Props) {
  const { say } = useWords();
  const list = useRef<HTMLDivElement>(null);
  const following = useRef(true);
  const [away, setAway] = useState(false);
  const last = turns.at(-1);

  const toEnd = () => {
    const box = list.current;
    if (box) box.scrollTop = box.scrollHeight;
  };
  useEffect(() => {
    following.current = true;
  }, [last?.key]);
  useLayoutEffect(() => {
    if (following.current) toEnd();
  });
  const onScroll = () => {
    const box = list.current;
    if (!box) return;
    following.current = box.scrollHeight - box.scrollTop - box.clientHeight < NEAR;
    setAway(!following.current);
  };

  return (
    <div class="turns-frame">
      <div class="turns" ref={list} onScroll={onScroll} tabIndex={-1}>
        <div class="column" aria-busy={loading || isRunning(last)}>
          {loading && turns.length === 0 && <p class="hint">{say.loading}</p>}
          {turns.map((turn) => (
            <TurnView key={turn.key} turn={turn} onRetry={() => void asking.retry(turn)} />
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

function announcement(turn: Turn, { say, percent }: ReturnType<typeof useWords>): string {
  switch (turn.phase) {
    case "waiting":
      return turn.escalation ? say.escalated(percent(turn.escalation.confidence)) : say.waiting;
    case "queued":
      return say.queued(turn.queued?.position ?? 1);
    case "answering":
      return say.answerStarted;
    case "answered":
      return `${say.answerDone} ${turn.text}`;
    case "stopped":
      return say.stopped;
    case "failed":
      return ""; // The problem is an alert of its own.
  }
}
