import { useEffect, useState } from "preact/hooks";

/** Which part of the page shows; kept in the address's fragment, so that reload and back work. */
export type Route =
  | { readonly page: "new" }
  | { readonly page: "one" }
  | { readonly page: "conversation"; readonly id: string; readonly turnId?: string }
  | { readonly page: "shared"; readonly secret: string };

export function parseRoute(fragment: string): Route {
  const [page, id, turnId] = fragment.replace(/^#\/?/, "").split("/").map(decode);
  if (page === "one") return { page: "one" };
  if (page === "shared" && id) return { page: "shared", secret: id };
  if (page === "c" && id) return { page: "conversation", id, ...(turnId ? { turnId } : {}) };
  return { page: "new" };
}

export function href(route: Route): string {
  switch (route.page) {
    case "new":
      return "#/";
    case "one":
      return "#/one";
    case "shared":
      return `#/shared/${encodeURIComponent(route.secret)}`;
    case "conversation":
      return `#/c/${encodeURIComponent(route.id)}${route.turnId ? `/${encodeURIComponent(route.turnId)}` : ""}`;
  }
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
