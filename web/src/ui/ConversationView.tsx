import type { Thread } from "../chat/thread";
import { useStore } from "../chat/store";
import { useWords } from "../i18n";
import { ProblemNote } from "./ProblemNote";
import { TurnList } from "./TurnList";
import { Composer } from "./Composer";
import { Welcome } from "./Welcome";

/** One conversation, stored or about to begin. */
export function ConversationView({ thread }: { readonly thread: Thread }) {
  const { say } = useWords();
  const { turns, conversation, loading, problem } = useStore(thread);
  const empty = turns.length === 0 && !loading && !problem;
  return (
    <div class={empty ? "view empty" : "view"}>
      <header class="view-head">
        <h1>{conversation?.title || say.untitled}</h1>
      </header>
      {problem && (
        <div class="column">
          <ProblemNote problem={problem} onRetry={() => void thread.load()} />
        </div>
      )}
      {empty ? (
        <Welcome title={say.welcome} hint={say.welcomeHint} onAsk={(question) => void thread.ask(question)} />
      ) : (
        <TurnList asking={thread} turns={turns} loading={loading} />
      )}
      <Composer asking={thread} />
    </div>
  );
}
