import type { Api } from "../api/client";
import type { ConversationFields } from "../api/wire";
import { pathOf } from "./thread";

const FORMATS = {
  json: { mediaType: "application/json", suffix: "json" },
  markdown: { mediaType: "text/markdown", suffix: "md" },
} as const;

/** Saves the conversation as a file named by its title; throws a Problem. */
export async function downloadConversation(api: Api, conversation: ConversationFields, format: keyof typeof FORMATS): Promise<void> {
  const { mediaType, suffix } = FORMATS[format];
  const file = await api.file(`${pathOf(conversation.conversation_id)}/export?format=${format}`, mediaType);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(file);
  link.download = `${fileName(conversation.title)}.${suffix}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

function fileName(title: string): string {
  const words = title.match(/[\p{L}\p{N}]+/gu) ?? [];
  return words.join("-").slice(0, 60) || "conversation";
}
