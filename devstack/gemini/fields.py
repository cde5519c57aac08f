"""The request messages of the Gemini API: which fields exist, of what type.

A table per message, in the form that protobuf's JSON mapping needs: each field may be written in camelCase or
snake_case, a repeated field may be given as one element, and a name that is not in the table is an error.
"""

from dataclasses import dataclass, field
from typing import Final

SCALARS: Final = {"string": "TYPE_STRING", "int": "TYPE_INT32", "float": "TYPE_FLOAT", "bool": "TYPE_BOOL"}
PACKAGE: Final = "type.googleapis.com/google.ai.generativelanguage.v1beta"


@dataclass(slots=True)
class Field:
    """One field: its JSON name, its proto name, and its kind.

    ``kind`` is a scalar, ``enum``, ``any`` (free JSON) or the name of a message; ``repeated`` and ``mapped`` say
    whether it holds many.
    """

    name: str
    proto_name: str
    kind: str
    repeated: bool = False
    mapped: bool = False


@dataclass(slots=True)
class Message:
    """A message: its fields under both spellings of each name."""

    name: str
    fields: dict[str, Field] = field(default_factory=dict)


def _snake(camel: str) -> str:
    return "".join("_" + letter.lower() if letter.isupper() else letter for letter in camel).lstrip("_")


def _message(name: str, declared: str) -> Message:
    """Reads ``"role:string parts:Part* properties:Schema@"``: ``*`` is repeated, ``@`` a map."""
    message = Message(name)
    for declaration in declared.split():
        camel, _, kind = declaration.partition(":")
        one = Field(camel, _snake(camel), kind.rstrip("*@"), kind.endswith("*"), kind.endswith("@"))
        message.fields[camel] = one
        message.fields[one.proto_name] = one
    return message


_DECLARED = {
    "GenerateContentRequest": "model:string systemInstruction:Content contents:Content* tools:Tool* "
    "toolConfig:ToolConfig safetySettings:SafetySetting* generationConfig:GenerationConfig cachedContent:string "
    "serviceTier:enum store:bool",
    "CountTokensRequest": "model:string contents:Content* generateContentRequest:GenerateContentRequest",
    "Content": "role:string parts:Part*",
    "Part": "text:string thought:bool thoughtSignature:string inlineData:Blob fileData:FileData "
    "functionCall:FunctionCall functionResponse:FunctionResponse executableCode:any codeExecutionResult:any "
    "videoMetadata:any partMetadata:any mediaResolution:any toolCall:any toolResponse:any",
    "Blob": "mimeType:string data:string displayName:string",
    "FileData": "mimeType:string fileUri:string displayName:string",
    "FunctionCall": "id:string name:string args:any",
    "FunctionResponse": "id:string name:string response:any parts:any willContinue:bool scheduling:enum",
    "Tool": "functionDeclarations:FunctionDeclaration* googleSearchRetrieval:any codeExecution:any googleSearch:any "
    "urlContext:any computerUse:any googleMaps:any fileSearch:any mcpServers:any",
    "FunctionDeclaration": "name:string description:string parameters:Schema parametersJsonSchema:any response:Schema "
    "responseJsonSchema:any behavior:enum",
    "ToolConfig": "functionCallingConfig:FunctionCallingConfig retrievalConfig:any "
    "includeServerSideToolInvocations:bool",
    "FunctionCallingConfig": "mode:enum allowedFunctionNames:string* streamFunctionCallArguments:bool",
    "SafetySetting": "category:enum threshold:enum",
    "GenerationConfig": "candidateCount:int stopSequences:string* maxOutputTokens:int temperature:float topP:float "
    "topK:int seed:int responseMimeType:string responseSchema:Schema responseJsonSchema:any presencePenalty:float "
    "frequencyPenalty:float responseLogprobs:bool logprobs:int enableEnhancedCivicAnswers:bool "
    "responseModalities:enum* speechConfig:any thinkingConfig:ThinkingConfig imageConfig:any "
    "mediaResolution:enum responseFormat:any",
    "ThinkingConfig": "includeThoughts:bool thinkingBudget:int thinkingLevel:enum",
    "Schema": "type:enum format:string title:string description:string nullable:bool enum:string* items:Schema "
    "maxItems:int minItems:int properties:Schema@ required:string* minProperties:int maxProperties:int minimum:float "
    "maximum:float minLength:int maxLength:int pattern:string example:any anyOf:Schema* propertyOrdering:string* "
    "default:any prefixItems:Schema* additionalProperties:any",
}

MESSAGES: Final = {name: _message(name, declared) for name, declared in _DECLARED.items()}

# Spelled with a leading underscore while it was a preview; both are accepted.
MESSAGES["GenerationConfig"].fields["_responseJsonSchema"] = MESSAGES["GenerationConfig"].fields["responseJsonSchema"]
