import type { ConversationFields } from "../api/wire";
import type { Conversations } from "../chat/conversations";
import type { Search } from "../chat/search";
import { useStore } from "../chat/store";
import { type Language, useWords } from "../i18n";
import type { Messages } from "../i18n/english";
import { Icon, Mark } from "./icons";
import { LanguageSwitch } from "./LanguageSwitch";
import { ProblemNote } from "./ProblemNote";
import { href, type Route } from "./route";
import { SearchBox, SearchResults } from "./SearchBox";

interface Props {
  readonly conversations: Conversations;
  readonly search: Search;
  readonly route: Route;
  readonly name: string;
  readonly onSignOut: () => void;
  readonly onLanguage: (language: Language) => void;
  readonly onClose: () => void;
}

/** The way to every conversation; on a narrow screen a drawer. */
export function Sidebar({ conversations, search, route, name, onSignOut, onLanguage, onClose }: Props) {
  const { say } = useWords();
  const { list, cursor, loading, problem } = useStore(conversations);
  const { query } = useStore(search);
  const current = (other: Route) => (href(other) === href(route) ? { "aria-current": "page" as const } : {});
  return (
    <nav class="sidebar" aria-label={say.conversations}>
      <header>
        <a class="brand" href={href({ page: "new" })}>
          <Mark />
          Focus AI
        </a>
        <button type="button" class="icon-button close-button" aria-label={say.closeMenu} onClick={onClose}>
          <Icon name="close" />
        </button>
      </header>
      <a class="nav-item" href={href({ page: "new" })} {...current({ page: "new" })}>
        <Icon name="plus" />
        {say.newConversation}
      </a>
      <a class="nav-item" href={href({ page: "one" })} {...current({ page: "one" })}>
        <Icon name="bolt" />
        {say.oneQuestion}
      </a>
      <SearchBox search={search} />
      {query.trim() === "" ? (
        <div class="conversations" aria-busy={loading}>
          {byAge(list).map(([age, group]) => (
            <section key={age} aria-label={say[age]}>
              <h2>{say[age]}</h2>
              <ul>
                {group.map((conversation) => {
                  const target: Route = { page: "conversation", id: conversation.conversation_id };
                  return (
                    <li key={conversation.conversation_id}>
                      <a class="nav-item" href={href(target)} {...current(target)}>
                        <span class="title">{conversation.title || say.untitled}</span>
                      </a>
                    </li>
                  );
                })}
              </ul>
            </section>
          ))}
          {list.length === 0 && !problem && <p class="hint">{loading ? say.loading : say.empty}</p>}
          {problem && <ProblemNote problem={problem} onRetry={() => void conversations.reload()} />}
          {cursor !== null && (
            <button type="button" class="quiet" disabled={loading} onClick={() => void conversations.more()}>
              {say.more}
            </button>
          )}
        </div>
      ) : (
        <SearchResults search={search} />
      )}
      <footer>
        <span class="who">{name || say.byKey}</span>
        <LanguageSwitch onLanguage={onLanguage} />
        <button type="button" class="quiet" onClick={onSignOut}>
          {say.signOut}
        </button>
      </footer>
    </nav>
  );
}

type Age = Extract<keyof Messages, "today" | "yesterday" | "lastWeek" | "earlier">;

const DAY = 86_400_000;

/** The conversations under the age of their last turn, by the browser's calendar. */
function byAge(list: readonly ConversationFields[]): [Age, ConversationFields[]][] {
  const midnight = new Date().setHours(0, 0, 0, 0);
  const groups = new Map<Age, ConversationFields[]>();
  for (const conversation of list) {
    const at = Date.parse(conversation.updated_at);
    const age = at >= midnight ? "today" : at >= midnight - DAY ? "yesterday" : at >= midnight - 6 * DAY ? "lastWeek" : "earlier";
    groups.set(age, [...(groups.get(age) ?? []), conversation]);
  }
  return [...groups];
}
