import { useEffect, useMemo } from "preact/hooks";

import { SharedConversation } from "../chat/shared";
import { useStore } from "../chat/store";
import { type Language, useWords } from "../i18n";
import { Mark } from "./icons";
import { LanguageSwitch } from "./LanguageSwitch";
import { ProblemNote } from "./ProblemNote";
import { TurnList } from "./TurnList";

interface Props {
  readonly secret: string;
  readonly onLanguage: (language: Language) => void;
}

/** A shared conversation, for reading only. */
export function SharedView({ secret, onLanguage }: Props) {
  const { say } = useWords();
  const shared = useMemo(() => new SharedConversation(secret), [secret]);
  const { conversation, loading, problem } = useStore(shared);
  useEffect(() => void shared.load(), [shared]);
  return (
    <main class="view shared">
      <header class="view-head">
        <Mark />
        <h1>{conversation?.title || say.untitled}</h1>
        <LanguageSwitch onLanguage={onLanguage} />
      </header>
      <p class="hint column">{say.sharedConversation}</p>
      {problem && (
        <div class="column">
          <ProblemNote problem={problem} onRetry={() => void shared.load()} />
        </div>
      )}
      <TurnList path={shared.path} loading={loading} fromStart actions={{ onShow: (turn) => shared.show(turn) }} />
    </main>
  );
}
