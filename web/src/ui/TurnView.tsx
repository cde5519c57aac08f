import { memo } from "./memo";
import type { Turn } from "../chat/turn";
import { useWords } from "../i18n";
import { Markdown } from "../markdown/Markdown";
import { CopyButton } from "./CopyButton";
import { Facts } from "./Facts";
import { Mark } from "./icons";
import { ProblemNote } from "./ProblemNote";

interface Props {
  readonly turn: Turn;
  readonly onRetry: () => void;
}

/** A question and what has come of it. */
export const TurnView = memo(
  ({ turn, onRetry }: Props) => {
    const { say } = useWords();
    return (
      <article class="turn" data-phase={turn.phase}>
        <h2 class="hidden">{say.you}</h2>
        <p class="question">{turn.question}</p>
        <h2 class="hidden">{say.assistant}</h2>
        <div class="answer">
          <Mark />
          <div class="answer-body">
            <Progress turn={turn} />
            {turn.text !== "" && <Markdown source={turn.text} codeAction={(code) => <CopyButton text={code} label={say.copyCode} />} />}
            {turn.phase === "stopped" && <p class="hint">{turn.text === "" ? say.stoppedNothing : say.stopped}</p>}
            {turn.facts?.cutAtLimit && <p class="hint">{say.cutAtLimit}</p>}
            {turn.problem && turn.phase === "failed" && <ProblemNote problem={turn.problem} onRetry={onRetry} />}
            {turn.facts && (
              <footer class="answer-foot">
                <Facts facts={turn.facts} />
                <CopyButton text={turn.text} label={say.copy} />
              </footer>
            )}
          </div>
        </div>
      </article>
    );
  },
  (before, after) => before.turn === after.turn,
);

/** What goes on before the first words. */
function Progress({ turn }: { readonly turn: Turn }) {
  const { say, percent } = useWords();
  const wait = turn.queued?.expected_wait_ms ?? 0;
  return (
    <>
      {turn.escalation && <p class="hint escalation">{say.escalated(percent(turn.escalation.confidence))}</p>}
      {(turn.phase === "waiting" || turn.phase === "queued") && (
        <p class="progress">
          <span class="dots" aria-hidden="true">
            <i />
            <i />
            <i />
          </span>
          {turn.phase === "queued" ? say.queued(turn.queued?.position ?? 1) : say.waiting}
          {turn.phase === "queued" && wait > 0 && <small>{say.expectedWait(wait / 1000)}</small>}
        </p>
      )}
    </>
  );
}
