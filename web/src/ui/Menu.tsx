import { useEffect, useRef, useState } from "preact/hooks";
import type { ComponentChildren } from "preact";

import { Icon, type IconName } from "./icons";

/** A menu button after the WAI-ARIA pattern: arrows move, Escape closes and gives the focus back. */
export function Menu({ label, children }: { readonly label: string; readonly children: ComponentChildren }) {
  const [open, setOpen] = useState(false);
  const frame = useRef<HTMLDivElement>(null);
  const button = useRef<HTMLButtonElement>(null);
  useEffect(() => {
    if (!open) return;
    const items = () => [...(frame.current?.querySelectorAll<HTMLElement>("[role=menuitem]") ?? [])];
    items()[0]?.focus();
    const onKey = (event: KeyboardEvent) => {
      const at = items().indexOf(document.activeElement as HTMLElement);
      const step = event.key === "ArrowDown" ? 1 : event.key === "ArrowUp" ? -1 : 0;
      if (step !== 0) {
        event.preventDefault();
        items().at((at + step) % items().length)?.focus();
      } else if (event.key === "Escape" || event.key === "Tab") {
        setOpen(false);
        button.current?.focus();
      }
    };
    const onPress = (event: Event) => {
      if (!frame.current?.contains(event.target as Node)) setOpen(false);
    };
    addEventListener("keydown", onKey);
    addEventListener("pointerdown", onPress);
    return () => {
      removeEventListener("keydown", onKey);
      removeEventListener("pointerdown", onPress);
    };
  }, [open]);
  return (
    <div class="menu" ref={frame}>
      <button
        ref={button}
        type="button"
        class="icon-button"
        aria-label={label}
        title={label}
        aria-haspopup="menu"
        aria-expanded={open}
        onClick={() => setOpen(!open)}
      >
        <Icon name="more" />
      </button>
      {open && (
        <div
          role="menu"
          onClick={() => {
            setOpen(false);
            button.current?.focus();
          }}
        >
          {children}
        </div>
      )}
    </div>
  );
}

export function MenuItem({ icon, label, onChoose }: { readonly icon: IconName; readonly label: string; readonly onChoose: () => void }) {
  return (
    <button type="button" role="menuitem" tabIndex={-1} onClick={onChoose}>
      <Icon name={icon} />
      {label}
    </button>
  );
}
