import { useEffect, useMemo, useState } from "preact/hooks";

import type { Caller } from "../chat/account";
import { Conversations } from "../chat/conversations";
import { OneQuestion } from "../chat/one_question";
import { Search } from "../chat/search";
import { type Language, useWords } from "../i18n";
import { ConversationView } from "./ConversationView";
import { Icon } from "./icons";
import { NoticeBar } from "./NoticeBar";
import { OneQuestionView } from "./OneQuestionView";
import { href, useRoute } from "./route";
import { Sidebar } from "./Sidebar";

interface Props {
  readonly caller: Caller;
  readonly onSignOut: () => void;
  readonly onLanguage: (language: Language) => void;
}

/** The signed-in page: the conversations on one side, the open one on the other. */
export function Chat({ caller, onSignOut, onLanguage }: Props) {
  const { say } = useWords();
  const route = useRoute();
  const [menuOpen, setMenuOpen] = useState(false);
  const search = useMemo(() => new Search(caller.api), [caller]);
  const oneQuestion = useMemo(() => new OneQuestion(caller.api), [caller]);
  const conversations = useMemo(
    () => new Conversations(caller.api, (id) => location.replace(href({ page: "conversation", id }))),
    [caller],
  );
  const [fresh, setFresh] = useState(() => conversations.newThread());
  const thread = route.page === "conversation" ? conversations.thread(route.id) : fresh;

  useEffect(() => void conversations.reload(), [conversations]);
  useEffect(() => {
    setMenuOpen(false);
    // What was the new thread has become a conversation: the next new one is another.
    if (fresh.id !== undefined && route.page === "new") setFresh(conversations.newThread());
  }, [location.hash]);
  useEffect(() => {
    if (!menuOpen) return;
    const close = (event: KeyboardEvent) => event.key === "Escape" && setMenuOpen(false);
    addEventListener("keydown", close);
    return () => removeEventListener("keydown", close);
  }, [menuOpen]);

  return (
    <div class={menuOpen ? "chat menu-open" : "chat"}>
      <a class="skip" href="#question" onClick={(event) => (event.preventDefault(), document.getElementById("question")?.focus())}>
        {say.skipToQuestion}
      </a>
      <Sidebar
        conversations={conversations}
        search={search}
        route={route}
        name={caller.name}
        onSignOut={onSignOut}
        onLanguage={onLanguage}
        onClose={() => setMenuOpen(false)}
      />
      <div class="shade" onClick={() => setMenuOpen(false)} />
      <main>
        <button type="button" class="icon-button menu-button" aria-label={say.openMenu} aria-expanded={menuOpen} onClick={() => setMenuOpen(true)}>
          <Icon name="menu" />
        </button>
        {route.page === "one" ? (
          <OneQuestionView asking={oneQuestion} />
        ) : (
          <ConversationView
            key={thread.name}
            api={caller.api}
            conversations={conversations}
            thread={thread}
            turnId={route.page === "conversation" ? route.turnId : undefined}
          />
        )}
        <NoticeBar conversations={conversations} />
      </main>
    </div>
  );
}
