"""The unit of the benchmarks: a FastAPI route with models that answers a constant.

python -m bench.constant PORT
"""

from __future__ import annotations

import sys

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel


class Question(BaseModel):
    question: str


class Usage(BaseModel):
    prompt_tokens: int
    output_tokens: int


class Answer(BaseModel):
    answer: str
    tier: str
    model: str
    confidence: float
    usage: Usage


app = FastAPI()


@app.post("/v1/ask")
async def ask(question: Question) -> Answer:
    return Answer(
        answer="The capital of Brazil is Brasilia.",
        tier="junior",
        model="constant",
        confidence=0.95,
        usage=Usage(prompt_tokens=len(question.question), output_tokens=8),
    )


if __name__ == "__main__":
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=int(sys.argv[1]),
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="error",
    )
