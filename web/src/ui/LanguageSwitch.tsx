import { type Language, useWords } from "../i18n";
import { english } from "../i18n/english";
import { portuguese } from "../i18n/portuguese";

export function LanguageSwitch({ onLanguage }: { readonly onLanguage: (language: Language) => void }) {
  const { language } = useWords();
  const other = language === "en" ? "pt" : "en";
  return (
    <button type="button" class="quiet" lang={other} onClick={() => onLanguage(other)}>
      {(other === "en" ? english : portuguese).language}
    </button>
  );
}
