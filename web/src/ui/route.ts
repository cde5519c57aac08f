import { useEffect, useState } from "preact/hooks";

/** Which part of the page shows; kept in the address's fragment, so that reload and back work. */
export type Route = { readonly page: "new" } | { readonly page: "one" } | { readonly page: "conversation"; readonly id: string };

export function parseRoute(fragment: string): Route {
  const [page, id] = fragment.replace(/^#\/?/, "").split("/");
  if (page === "one") return { page: "one" };
  if (page === "c" && id) return { page: "conversation", id: decode(id) };
  return { page: "new" };
}

export function href(route: Route): string {
  if (route.page === "conversation") return `#/c/${encodeURIComponent(route.id)}`;
  return route.page === "one" ? "#/one" : "#/";
}

export function useRoute(): Route {
  const [fragment, setFragment] = useState(location.hash);
  useEffect(() => {
    const changed = () => setFragment(location.hash);
    addEventListener("hashchange", changed);
    return () => removeEventListener("hashchange", changed);
  }, []);
  return parseRoute(fragment);
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
