import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import type { TargetedKeyboardEvent } from "preact";

import type { Asking } from "../chat/asking";
import { useStore } from "../chat/store";
import { isRunning } from "../chat/turn";
import { useWords } from "../i18n";
import { Icon } from "./icons";

/** Where the question is written; while an answer comes, where it is stopped. */
export function Composer({ asking }: { readonly asking: Pick<Asking, "ask" | "stop" | "watch" | "state"> }) {
  const { say } = useWords();
  const running = useStore(asking).turns.some(isRunning);
  const [text, setText] = useState("");
  const field = useRef<HTMLTextAreaElement>(null);

  useEffect(() => {
    // On a touch screen the focus would open the keyboard over the page.
    if (matchMedia("(pointer: fine)").matches) field.current?.focus();
  }, [asking]);
  useLayoutEffect(() => {
    const area = field.current;
    if (!area) return;
    area.style.height = "auto";
    area.style.height = `${area.scrollHeight}px`;
  }, [text]);

  const send = () => {
    if (running || text.trim() === "") return;
    setText("");
    void asking.ask(text.trim());
  };
  const onKeyDown = (event: TargetedKeyboardEvent<HTMLTextAreaElement>) => {
    // Enter also ends a word that is being composed by an input method: that one is not ours.
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    send();
  };

  return (
    <form
      class="composer column"
      onSubmit={(event) => {
        event.preventDefault();
        send();
      }}
    >
      <div class="composer-box">
        <label class="hidden" for="question">{say.question}</label>
        <textarea
          id="question"
          ref={field}
          rows={1}
          value={text}
          placeholder={say.placeholder}
          aria-describedby="keys-hint"
          onInput={(event) => setText(event.currentTarget.value)}
          onKeyDown={onKeyDown}
        />
        {running ? (
          <button type="button" class="round" aria-label={say.stop} title={say.stop} onClick={() => asking.stop()}>
            <Icon name="stop" />
          </button>
        ) : (
          <button class="round" aria-label={say.send} title={say.send} disabled={text.trim() === ""}>
            <Icon name="send" />
          </button>
        )}
      </div>
      <small id="keys-hint">{say.keysHint}</small>
    </form>
  );
}
