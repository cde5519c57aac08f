import { useEffect, useMemo, useState } from "preact/hooks";

import { Account } from "../chat/account";
import { useStore } from "../chat/store";
import { initialLanguage, type Language, rememberLanguage, Words, WordsContext } from "../i18n";
import { Chat } from "./Chat";
import { useRoute } from "./route";
import { SharedView } from "./SharedView";
import { SignIn } from "./SignIn";

/** The whole page: the words of the chosen language, and either the sign-in or the chat. */
export function App() {
  const [language, setLanguage] = useState<Language>(initialLanguage);
  const words = useMemo(() => new Words(language), [language]);
  const account = useMemo(() => new Account(), []);
  const route = useRoute();
  const { caller, ended } = useStore(account);

  useEffect(() => {
    document.documentElement.lang = language === "pt" ? "pt-BR" : "en";
    rememberLanguage(language);
  }, [language]);
  useEffect(() => account.follow(), [account]);

  return (
    <WordsContext.Provider value={words}>
      {route.page === "shared" ? (
        <SharedView secret={route.secret} onLanguage={setLanguage} />
      ) : caller ? (
        <Chat key={caller.name} caller={caller} onSignOut={() => void account.signOut()} onLanguage={setLanguage} />
      ) : (
        <SignIn account={account} ended={ended} onLanguage={setLanguage} />
      )}
    </WordsContext.Provider>
  );
}
