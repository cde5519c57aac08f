import { useState } from "preact/hooks";

import type { Turn } from "../chat/turn";
import { useWords } from "../i18n";
import { Markdown } from "../markdown/Markdown";
import { CopyButton } from "./CopyButton";
import { Facts } from "./Facts";
import { Icon, type IconName, Mark } from "./icons";
import { memo } from "./memo";
import { ProblemNote } from "./ProblemNote";
import { QuestionEditor } from "./QuestionEditor";

/** What can be done with a turn; what is left out is not offered. */
export interface TurnActions {
  readonly onRetry?: (turn: Turn) => void;
  readonly onRegenerate?: (turn: Turn) => void;
  readonly onEdit?: (turn: Turn, question: string) => void;
  /** Shows the branch of this turn. */
  readonly onShow?: (turn: Turn) => void;
}

interface Props {
  readonly turn: Turn;
  /** The branches at this place, the turn itself among them. */
  readonly siblings: readonly Turn[];
  /** True while an answer is being written: nothing new can be asked. */
  readonly busy: boolean;
  readonly actions: TurnActions;
}

/** A question and what has come of it. */
export const TurnView = memo(
  ({ turn, siblings, busy, actions }: Props) => {
    const { say } = useWords();
    const { onRetry } = actions;
    const retry = onRetry && !busy ? () => onRetry(turn) : undefined;
    return (
      <article class="turn" data-phase={turn.phase} id={turn.turnId && `turn-${turn.turnId}`}>
        <h2 class="hidden">{say.you}</h2>
        <Question turn={turn} siblings={siblings} busy={busy} actions={actions} />
        <h2 class="hidden">{say.assistant}</h2>
        <div class="answer">
          <Mark />
          <div class="answer-body">
            <Progress turn={turn} />
            {turn.text !== "" && <Markdown source={turn.text} codeAction={(code) => <CopyButton text={code} label={say.copyCode} />} />}
            {turn.erased && <p class="hint">{say.erased}</p>}
            {turn.phase === "stopped" && <p class="hint">{turn.text === "" ? say.stoppedNothing : say.stopped}</p>}
            {turn.facts?.shortened && <p class="hint">{say.shortened[turn.facts.shortened]}</p>}
            {turn.facts?.historyCut && <p class="hint">{say.historyCut}</p>}
            {turn.problem && turn.phase === "failed" && <ProblemNote problem={turn.problem} onRetry={retry} />}
            <Foot turn={turn} busy={busy} actions={actions} />
          </div>
        </div>
      </article>
    );
  },
  (before, after) =>
    before.turn === after.turn &&
    before.busy === after.busy &&
    before.siblings.length === after.siblings.length &&
    before.siblings.every((turn, at) => turn.key === after.siblings[at]?.key),
);

function Question({ turn, siblings, busy, actions }: Props) {
  const { say } = useWords();
  const [editing, setEditing] = useState(false);
  const { onEdit, onShow } = actions;
  const at = siblings.findIndex((other) => other.key === turn.key);
  const step = (by: number, icon: IconName, label: string) => {
    const other = siblings[at + by];
    return (
      <button type="button" class="icon-button" aria-label={label} title={label} disabled={!other} onClick={() => other && onShow?.(other)}>
        <Icon name={icon} />
      </button>
    );
  };
  if (editing && onEdit) {
    const done = (question: string | undefined) => {
      setEditing(false);
      if (question !== undefined) onEdit(turn, question);
    };
    return <QuestionEditor question={turn.question} onDone={done} />;
  }
  return (
    <div class="asked">
      {onEdit && !busy && turn.turnId !== undefined && !turn.erased && (
        <button type="button" class="icon-button" aria-label={say.edit} title={say.edit} onClick={() => setEditing(true)}>
          <Icon name="pencil" />
        </button>
      )}
      <p class={turn.erased ? "question hint" : "question"}>{turn.erased ? say.erased : turn.question}</p>
      {siblings.length > 1 && onShow && (
        <div class="branches">
          {step(-1, "left", say.earlierBranch)}
          {say.branchOf(at + 1, siblings.length)}
          {step(1, "right", say.laterBranch)}
        </div>
      )}
    </div>
  );
}

/** What goes on before the first words. */
function Progress({ turn }: { readonly turn: Turn }) {
  const words = useWords();
  const { say } = words;
  const waits = { waiting: say.waiting, stopping: say.stopping, queued: "" }[turn.phase as string];
  const queued = turn.phase === "queued" ? turn.queued : undefined;
  return (
    <>
      {turn.escalation && <p class="hint escalation">{say.escalated(words.percent(turn.escalation.confidence))}</p>}
      {waits !== undefined && (
        <p class="progress">
          <span class="dots" aria-hidden="true">
            <i />
            <i />
            <i />
          </span>
          {queued ? say.queued(queued.position, queued.waiting_for) : waits}
          {queued && queued.expected_wait_ms > 0 && <small>{say.expectedWait(queued.expected_wait_ms / 1000)}</small>}
        </p>
      )}
    </>
  );
}

function Foot({ turn, busy, actions }: Omit<Props, "siblings">) {
  const { say } = useWords();
  const { onRegenerate } = actions;
  const again = onRegenerate && !busy && turn.turnId !== undefined && turn.phase !== "failed" && !turn.erased;
  if (!turn.facts && !again) return null;
  return (
    <footer class="answer-foot">
      {turn.facts ? <Facts facts={turn.facts} /> : <span />}
      <div class="actions">
        {again && (
          <button type="button" class="icon-button" aria-label={say.regenerate} title={say.regenerate} onClick={() => onRegenerate(turn)}>
            <Icon name="retry" />
          </button>
        )}
        {turn.text !== "" && <CopyButton text={turn.text} label={say.copy} />}
      </div>
    </footer>
  );
}
