import { useEffect } from "preact/hooks";

import type { Conversations } from "../chat/conversations";
import { useStore } from "../chat/store";
import { useWords } from "../i18n";
import { Icon } from "./icons";
import { ProblemNote } from "./ProblemNote";

/** The undo of a deletion shows this long, in milliseconds. */
const SHOWN = 10_000;

/** What was just done, with its undo; or what could not be done. */
export function NoticeBar({ conversations }: { readonly conversations: Conversations }) {
  const { say } = useWords();
  const { notice } = useStore(conversations);
  useEffect(() => {
    if (!notice) return;
    const timer = setTimeout(() => conversations.dismiss(), SHOWN);
    return () => clearTimeout(timer);
  }, [notice]);
  return (
    <div class="notice-bar" role="status">
      {notice && (
        <div class="toast">
          {notice.kind === "deleted" ? (
            <>
              <span>{say.deleted(notice.conversation.title || say.untitled)}</span>
              <button type="button" class="small" onClick={() => void conversations.restore(notice.conversation)}>
                {say.undo}
              </button>
            </>
          ) : (
            <ProblemNote problem={notice.problem} />
          )}
          <button type="button" class="icon-button" aria-label={say.dismiss} onClick={() => conversations.dismiss()}>
            <Icon name="close" />
          </button>
        </div>
      )}
    </div>
  );
}
