import { useEffect, useRef, useState } from "preact/hooks";
import type { TargetedKeyboardEvent } from "preact";

import { useWords } from "../i18n";

interface Props {
  readonly question: string;
  /** Called with the new question, or with nothing when it shall stay. */
  readonly onDone: (question?: string) => void;
}

/** A question that was asked, to be asked differently. */
export function QuestionEditor({ question, onDone }: Props) {
  const { say } = useWords();
  const [text, setText] = useState(question);
  const field = useRef<HTMLTextAreaElement>(null);
  useEffect(() => field.current?.focus(), []);
  const send = () => {
    if (text.trim() !== "") onDone(text.trim());
  };
  const onKeyDown = (event: TargetedKeyboardEvent<HTMLTextAreaElement>) => {
    if (event.key === "Escape") onDone();
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    send();
  };
  return (
    <form
      class="editor"
      onSubmit={(event) => {
        event.preventDefault();
        send();
      }}
    >
      <textarea
        ref={field}
        rows={Math.min(10, text.split("\n").length + 1)}
        value={text}
        aria-label={say.edit}
        onInput={(event) => setText(event.currentTarget.value)}
        onKeyDown={onKeyDown}
      />
      <div>
        <button type="button" class="quiet" onClick={() => onDone()}>
          {say.cancel}
        </button>
        <button class="primary" disabled={text.trim() === ""}>
          {say.sendEdited}
        </button>
      </div>
    </form>
  );
}
