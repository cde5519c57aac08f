import type { Search } from "../chat/search";
import { useStore } from "../chat/store";
import { useWords } from "../i18n";
import { Icon } from "./icons";
import { ProblemNote } from "./ProblemNote";
import { href } from "./route";

export function SearchBox({ search }: { readonly search: Search }) {
  const { say } = useWords();
  const { query } = useStore(search);
  return (
    <div class="search-box">
      <Icon name="search" />
      <input
        type="search"
        value={query}
        maxLength={500}
        aria-label={say.search}
        placeholder={say.search}
        onInput={(event) => search.look(event.currentTarget.value)}
      />
    </div>
  );
}

/** The turns that were found, each a way to where it stands. */
export function SearchResults({ search }: { readonly search: Search }) {
  const { say } = useWords();
  const { found, cursor, loading, problem } = useStore(search);
  return (
    <div class="conversations" aria-busy={loading} aria-live="polite">
      {problem && <ProblemNote problem={problem} />}
      <ul>
        {found.map((each) => (
          <li key={each.turn_id}>
            <a class="nav-item found" href={href({ page: "conversation", id: each.conversation_id, turnId: each.turn_id })}>
              <strong class="title">{each.title || say.untitled}</strong>
              <span>{each.snippet}</span>
            </a>
          </li>
        ))}
      </ul>
      {found.length === 0 && !problem && <p class="hint">{loading ? say.loading : say.nothingFound}</p>}
      {cursor !== null && (
        <button type="button" class="quiet" disabled={loading} onClick={() => void search.more()}>
          {say.more}
        </button>
      )}
    </div>
  );
}
