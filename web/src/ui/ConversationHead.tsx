import { useEffect, useRef, useState } from "preact/hooks";
import type { TargetedKeyboardEvent } from "preact";

import type { Api } from "../api/client";
import type { ConversationFields } from "../api/wire";
import { downloadConversation } from "../chat/export";
import type { Conversations } from "../chat/conversations";
import { useWords } from "../i18n";
import { Menu, MenuItem } from "./Menu";
import { href } from "./route";
import { ShareDialog } from "./ShareDialog";

interface Props {
  readonly api: Api;
  readonly conversations: Conversations;
  /** Undefined where the conversation has not begun. */
  readonly conversation: ConversationFields | undefined;
}

/** The title, to be changed by a click, and what can be done with the whole conversation. */
export function ConversationHead({ api, conversations, conversation }: Props) {
  const { say } = useWords();
  const [renaming, setRenaming] = useState(false);
  const [sharing, setSharing] = useState(false);
  const title = conversation?.title || say.untitled;
  useEffect(() => {
    document.title = conversation?.title ? `${conversation.title} · Focus AI` : "Focus AI";
    return () => {
      document.title = "Focus AI";
    };
  }, [conversation?.title]);

  if (!conversation) {
    return (
      <header class="view-head">
        <h1>{title}</h1>
      </header>
    );
  }
  const remove = async () => {
    await conversations.remove(conversation);
    location.hash = href({ page: "new" });
  };
  const save = (format: "markdown" | "json") =>
    downloadConversation(api, conversation, format).catch((error: unknown) => conversations.tell(error));
  return (
    <header class="view-head">
      {renaming ? (
        <TitleField
          title={conversation.title}
          onDone={(next) => {
            setRenaming(false);
            if (next !== "" && next !== conversation.title) void conversations.rename(conversation, next);
          }}
        />
      ) : (
        <h1 onDblClick={() => setRenaming(true)}>{title}</h1>
      )}
      <Menu label={say.conversationMenu}>
        <MenuItem icon="pencil" label={say.rename} onChoose={() => setRenaming(true)} />
        <MenuItem icon="share" label={say.share} onChoose={() => setSharing(true)} />
        <MenuItem icon="download" label={say.exportMarkdown} onChoose={() => void save("markdown")} />
        <MenuItem icon="download" label={say.exportJson} onChoose={() => void save("json")} />
        <MenuItem icon="trash" label={say.delete} onChoose={() => void remove()} />
      </Menu>
      {sharing && <ShareDialog api={api} conversationId={conversation.conversation_id} onClose={() => setSharing(false)} />}
    </header>
  );
}

function TitleField({ title, onDone }: { readonly title: string; readonly onDone: (title: string) => void }) {
  const { say } = useWords();
  const field = useRef<HTMLInputElement>(null);
  useEffect(() => {
    field.current?.focus();
    field.current?.select();
  }, []);
  const onKeyDown = (event: TargetedKeyboardEvent<HTMLInputElement>) => {
    if (event.key === "Enter" && !event.isComposing) event.currentTarget.blur();
    else if (event.key === "Escape") onDone("");
  };
  return (
    <input
      ref={field}
      class="title-field"
      type="text"
      aria-label={say.title}
      maxLength={200}
      defaultValue={title}
      onKeyDown={onKeyDown}
      onBlur={(event) => onDone(event.currentTarget.value.trim())}
    />
  );
}
