import { useMemo } from "preact/hooks";

import type { OneQuestion } from "../chat/one_question";
import { useStore } from "../chat/store";
import { useWords } from "../i18n";
import { Composer } from "./Composer";
import { TurnList } from "./TurnList";
import type { TurnActions } from "./TurnView";
import { Welcome } from "./Welcome";

/** Questions without a conversation; here the cache can be seen at work. */
export function OneQuestionView({ asking }: { readonly asking: OneQuestion }) {
  const { say } = useWords();
  const { turns } = useStore(asking);
  const path = turns.map((turn) => ({ turn, siblings: [turn] }));
  const actions = useMemo<TurnActions>(() => ({ onRetry: (turn) => void asking.retry(turn) }), [asking]);
  return (
    <div class={turns.length === 0 ? "view empty" : "view"}>
      <header class="view-head">
        <h1>{say.oneQuestion}</h1>
      </header>
      {turns.length === 0 ? (
        <Welcome title={say.oneQuestion} hint={say.oneQuestionHint} onAsk={(question) => void asking.ask(question)} />
      ) : (
        <TurnList path={path} loading={false} actions={actions} />
      )}
      <Composer asking={asking} />
    </div>
  );
}
