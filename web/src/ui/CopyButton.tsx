import { useEffect, useState } from "preact/hooks";

import { useWords } from "../i18n";
import { Icon } from "./icons";

/** Copies the text, and says so for a moment. */
export function CopyButton({ text, label }: { readonly text: string; readonly label: string }) {
  const { say } = useWords();
  const [copied, setCopied] = useState(false);
  useEffect(() => {
    if (!copied) return;
    const timer = setTimeout(() => setCopied(false), 2000);
    return () => clearTimeout(timer);
  }, [copied]);
  // Browsers give the clipboard to secure contexts only.
  if (!navigator.clipboard) return null;
  const copy = () => void navigator.clipboard.writeText(text).then(() => setCopied(true));
  return (
    <button type="button" class="icon-button" aria-label={copied ? say.copied : label} title={copied ? say.copied : label} onClick={copy}>
      <Icon name={copied ? "check" : "copy"} />
    </button>
  );
}
