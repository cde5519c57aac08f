import type { OneQuestion } from "../chat/one_question";
import { useStore } from "../chat/store";
import { useWords } from "../i18n";
import { Composer } from "./Composer";
import { TurnList } from "./TurnList";
import { Welcome } from "./Welcome";

/** Questions without a conversation; here the cache can be seen at work. */
export function OneQuestionView({ asking }: { readonly asking: OneQuestion }) {
  const { say } = useWords();
  const { turns } = useStore(asking);
  return (
    <div class={turns.length === 0 ? "view empty" : "view"}>
      <header class="view-head">
        <h1>{say.oneQuestion}</h1>
      </header>
      {turns.length === 0 ? (
        <Welcome title={say.oneQuestion} hint={say.oneQuestionHint} onAsk={(question) => void asking.ask(question)} />
      ) : (
        <TurnList asking={asking} turns={turns} loading={false} />
      )}
      <Composer asking={asking} />
    </div>
  );
}
