"""GBNF: what is a grammar, and that its rules allow what the grammar allows, and nothing else."""

from __future__ import annotations

import random
from itertools import product

import pytest

from engine.chat.grammar.gbnf import BadGrammar, parse
from engine.chat.grammar.gbnf_rules import gbnf_rules
from engine.chat.regex.char_class import CharClass
from engine.chat.regex.nodes import Cat, Node, Or, Ref, Repeat
from tests.engine.chat.grammars import allows, matcher_of

JSON = r"""
root   ::= object  # an object only
value  ::= object | array | string | number | ("true" | "false" | "null") ws
object ::= "{" ws (
             string ":" ws value
             ("," ws string ":" ws value)*
           )? "}" ws
array  ::= "[" ws ( value ("," ws value)* )? "]" ws
string ::= "\"" ( [^"\\\x7F\x00-\x1F] | "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4}) )* "\"" ws
number ::= "-"? ([0-9] | [1-9] [0-9]{0,15}) ("." [0-9]+)? ws
ws     ::= | " " | "\n" [ \t]{0,20}
"""
LINES = r"""
root ::= (sum "=" ws term "\n")+
sum  ::= term ([-+*/] term)*
term ::= [a-z] [a-z0-9_]* ws | [0-9]+ ws | "(" ws sum ")" ws
ws   ::= [ \t\n]*
"""
CASES = {
    "json": (JSON, ['{"a": [1, -2.5, "x\\u0041é"], "b":{} }', "{}"], ["[1]", '{"a": 01}', '{"a"}']),
    "ends of lines": (LINES, ["a=b\n", "a+b=(c *3)\nx=\n1\n\n"], ["a=b", "=b\n", "A=b\n"]),
    "keywords": ('root ::= ("if " | [a-z]+ " ") root | "."', ["if iff .", "."], ["if", "IF ."]),
    "left recursion": ('root ::= root "+" [0-9] | [0-9]', ["1+2+3", "1"], ["+1", "1+"]),
    "empty": ('root ::= "" | "a" root', ["", "aaa"], ["b"]),
    "codes": (r'root ::= "\x41\u00e9\U0001F600\t\\\"" [\u3041-\u309F]+ [^\]\-a]', ['Aé😀\t\\"あいb'], ['Aé😀\t\\"カb']),
    "first bytes": (
        'root ::= a* "カ" b\na ::= "あ" | "い"\nb ::= "(" root? ")"',
        ["あいカ()", "カ(カ())"],
        ["あ", "カ"],
    ),
    "times": (
        'root ::= "a"{2} "b"{1,} "c"{ 0 , 2 } [0-9]{,3}'.replace("{,3}", "{0,3}"),
        ["aab", "aabbcc123"],
        ["ab", "aabccc"],
    ),
    "any": ('root ::= . . "x"', ["\n\nx", "éax"], ["x", "ax"]),
    "endless parts": ('root ::= a | "x" b?\na ::= "a" a\nb ::= "b" | a "c"', ["x", "xb"], ["a", "xa"]),
    "next line": ('root ::= "a"\n  | "b"\n\nc-d_e ::= "c"', ["a", "b"], ["c"]),
}


def rules_of(grammar: str) -> str:
    return "start: value\n" + gbnf_rules(parse(grammar), "value")


@pytest.mark.parametrize("name", CASES)
def test_what_is_allowed(name: str) -> None:
    grammar, good, bad = CASES[name]
    matcher = matcher_of(rules_of(grammar))
    assert [text for text in good if not allows(matcher, text)] == []
    assert [text for text in bad if allows(matcher, text)] == []


@pytest.mark.parametrize("seed", range(60))
def test_random_grammars(seed: int) -> None:
    grammar = written_grammar(random.Random(seed))
    expected = language(grammar, 5)
    texts = ["".join(letters) for size in range(6) for letters in product("ab", repeat=size)]
    if not expected:
        return
    matcher = matcher_of(rules_of(grammar))
    assert [text for text in texts if allows(matcher, text)] == [text for text in texts if text in expected], grammar


def written_grammar(chance: random.Random) -> str:
    """A small grammar over a and b, mostly ambiguous."""

    def item(depth: int) -> str:
        kind = chance.randrange(6 if depth else 3)
        if kind < 3:
            return chance.choice(['"a"', '"b"', '"ab"', '"ba"', "[ab]", "root", "one", "two"])
        if kind < 5:
            return f"({choice(depth - 1)}){chance.choice(['', '*', '+', '?', '{2}', '{1,2}'])}"
        return '""'

    def choice(depth: int) -> str:
        options = range(chance.randint(1, 3))
        return " | ".join(" ".join(item(depth) for _ in range(chance.randint(1, 3))) for _ in options)

    return "\n".join(f"{name} ::= {choice(2)}" for name in ("root", "one", "two"))


def language(grammar: str, longest: int) -> set[str]:
    """The texts of a grammar of at most this length, by trying until no more are found."""
    rules = parse(grammar)
    found: dict[str, set[str]] = {name: set() for name in rules}

    def joined(one: set[str], other: set[str]) -> set[str]:
        return {a + b for a in one for b in other if len(a + b) <= longest}

    def texts(node: Node) -> set[str]:
        match node:
            case CharClass(ranges):
                return {letter for letter in "ab" if any(first <= ord(letter) <= last for first, last in ranges)}
            case Ref(name):
                return found[name]
            case Or(options):
                return set().union(*map(texts, options))
            case Cat(parts):
                all_of = {""}
                for part in parts:
                    all_of = joined(all_of, texts(part))
                return all_of
            case Repeat(body, least, most):
                one, some, result = texts(body), {""}, set()
                for count in range(longest + least + 1 if most is None else most + 1):
                    result |= some if count >= least else set()
                    some = joined(some, one)
                return result
        raise TypeError(type(node))

    while True:
        more = {name: texts(body) for name, body in rules.items()}
        if more == found:
            return found["root"]
        found.update(more)


@pytest.mark.parametrize(
    ("grammar", "why"),
    [
        ("", "it has no rule root"),
        ('a ::= "b"', "it has no rule root"),
        ('root ::= "a"\nroot ::= "b"', "line 2: the rule root is defined twice"),
        ('root ::= "a"\n\n b ::= nosuch', "line 3: there is no rule nosuch"),
        ('root ::= "a', "line 1: a text or a set of characters is not closed"),
        ("root ::= [a-", "line 1: a text or a set of characters is not closed"),
        ("root ::= [b-a]", "line 1: a range of characters is in reverse"),
        ("root ::= []", "line 1: a set of characters is empty"),
        ('root ::= (\n"a"', "line 1: a parenthesis is not closed"),
        ('root ::= "a")', r"line 1: unexpected '\)'"),
        ("root ::= * x", r"line 1: unexpected '\*'"),
        ('root = "a"', "line 1: ::= is missing"),
        ('::= "a"', "line 1: a rule's name is missing"),
        (r'root ::= "\q"', r"line 1: unknown escape \\q"),
        (r'root ::= "\ud800"', r"line 1: unknown escape \\u"),
        (r'root ::= "\u12"', r"line 1: unknown escape \\u"),
        ('root ::= "a"{2,1}', "line 1: something repeats between more and fewer times"),
        ('root ::= "a"{99999}', "line 1: something repeats more than 10000 times"),
        ('root ::= "a"{}', "line 1: a number is missing"),
        ("root ::= <think>", "line 1: tokens of the model cannot be named here"),
        ("root ::= " + "(" * 60 + '"a"' + ")" * 60, "line 1: groups are nested too deeply"),
    ],
)
def test_what_is_no_grammar(grammar: str, why: str) -> None:
    with pytest.raises(BadGrammar, match=f"^{why}"):
        parse(grammar)


def test_a_grammar_that_takes_too_long_is_refused() -> None:
    stars = " ".join(("[a-c]*", "[b-d]*", '"e"*')[n * n % 3] for n in range(900))
    with pytest.raises(BadGrammar, match=r"^it is too complex$"):
        gbnf_rules(parse(f"root ::= root x | x\nx ::= {stars}"), "value")


def test_many_words() -> None:
    words = " | ".join(f'"word{n}"' for n in range(3_000))
    matcher = matcher_of(rules_of(f'root ::= ({words}) ("," root)?'))
    assert allows(matcher, "word2999")


def test_what_needs_no_cutting_is_one_terminal() -> None:
    rules = rules_of(r"root ::= item+" + "\n" + r'item ::= "- " [^\r\n]+ "\n"')
    assert rules.count("VALUE_") == 2  # used once, defined once
