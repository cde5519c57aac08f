import { useEffect, useMemo } from "preact/hooks";

import type { Api } from "../api/client";
import type { Conversations } from "../chat/conversations";
import { useStore } from "../chat/store";
import type { Thread } from "../chat/thread";
import { useWords } from "../i18n";
import { Composer } from "./Composer";
import { ConversationHead } from "./ConversationHead";
import { ProblemNote } from "./ProblemNote";
import { TurnList } from "./TurnList";
import type { TurnActions } from "./TurnView";
import { Welcome } from "./Welcome";

interface Props {
  readonly api: Api;
  readonly conversations: Conversations;
  readonly thread: Thread;
  /** The turn that a search led to. */
  readonly turnId: string | undefined;
}

/** One conversation, stored or about to begin. */
export function ConversationView({ api, conversations, thread, turnId }: Props) {
  const { say } = useWords();
  const { turns, conversation, loading, problem } = useStore(thread);
  const actions = useMemo<TurnActions>(
    () => ({
      onRetry: (turn) => void thread.retry(turn),
      onRegenerate: (turn) => void thread.regenerate(turn),
      onEdit: (turn, question) => void thread.edit(turn, question),
      onShow: (turn) => thread.show(turn),
    }),
    [thread],
  );
  useEffect(() => {
    if (turnId !== undefined && !loading) thread.showId(turnId);
  }, [turnId, loading, thread]);
  const empty = turns.length === 0 && !loading && !problem;
  return (
    <div class={empty ? "view empty" : "view"}>
      <ConversationHead api={api} conversations={conversations} conversation={conversation} />
      {problem && (
        <div class="column">
          <ProblemNote problem={problem} onRetry={() => void thread.load()} />
        </div>
      )}
      {empty ? (
        <Welcome title={say.welcome} hint={say.welcomeHint} onAsk={(question) => void thread.ask(question)} />
      ) : (
        <TurnList path={thread.path} loading={loading} actions={actions} sought={turnId} />
      )}
      {!problem && <Composer asking={thread} />}
    </div>
  );
}
