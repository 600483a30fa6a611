"""What is checked of a user's grammar in llguidance's dialect of Lark before it is compiled."""

from __future__ import annotations

import json
import re

from engine.chat.grammar.gbnf import BadGrammar

_WORD = re.compile(
    r"(?:#|//)[^\n]*|/(?:\\.|[^/\\])+/"  # comments, regular expressions
    r'|(?P<text>"(?:\\.|[^"\\\n])*")'
    r"|(?P<json>%(?:json|regex|llguidance)\b\s*)|(?P<token><[^<>\s]+>)|(?P<stop>\bstop\s*=)"
)


def check_lark(text: str) -> list[str]:
    """The texts that stand in a grammar word for word.

    Raises BadGrammar if it names tokens of the model, which differ between vocabularies, or ends a text by `stop=`,
    which would take back what is sent already.
    """
    if not text.strip():
        raise BadGrammar("it has no rule start")
    at = 0
    texts = []
    while word := _WORD.search(text, at):
        at = word.end()
        line = text.count("\n", 0, at) + 1 if word["token"] or word["stop"] else 0
        if word["token"]:
            raise BadGrammar(f"line {line}: tokens of the model, such as {word['token'][:40]}, cannot be named here")
        if word["stop"]:
            raise BadGrammar(f"line {line}: stop= is not supported; use suffix= or lazy")
        try:
            if word["json"]:
                _, at = json.JSONDecoder().raw_decode(text, at)
            elif word["text"]:
                texts.append(json.loads(word["text"]))
        except ValueError:
            break  # the compiler explains it better
    return texts
