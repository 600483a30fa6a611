"""The language of Modelfiles: where values end, and what is no Modelfile."""

import pytest

from modelfile.parser import Command, Keyword, ModelfileError, parse

COMMANDS = (
    'command must be one of "from", "license", "template", "system", "adapter", "draft", "renderer", "parser", '
    '"parameter", "message", or "requires"'
)
ROLES = 'message role must be one of "system", "user", or "assistant"'


def system(text: str) -> list[str]:
    """The values of all SYSTEM commands of a text."""
    return [command.value for command in parse(f"FROM x\n{text}") if command.keyword is Keyword.SYSTEM]


def test_every_command() -> None:
    words = [keyword.value for keyword in Keyword if keyword not in (Keyword.PARAMETER, Keyword.MESSAGE)]
    text = "".join(f"{word} value of {word}\n" for word in words)
    assert parse(text) == tuple(Command(Keyword(word), f"value of {word}") for word in words)
    assert parse("FROM x\nPARAMETER top_k 5\nMESSAGE user hi there")[1:] == (
        Command(Keyword.PARAMETER, "5", "top_k"),
        Command(Keyword.MESSAGE, "hi there", "user"),
    )


def test_order_is_free_and_words_have_no_case() -> None:
    assert [command.keyword for command in parse("system s\nPaRaMeTeR top_k 1\nfrom x")] == [
        Keyword.SYSTEM,
        Keyword.PARAMETER,
        Keyword.FROM,
    ]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("SYSTEM  two  words \t\n", "two  words"),
        ("SYSTEM\ttab\tinside\t", "tab\tinside"),
        ("SYSTEM # no comment", "# no comment"),
        ("SYSTEM 'single'", "'single'"),
        (r"SYSTEM no\nescape", r"no\nescape"),
        ('SYSTEM "quoted "  \n', "quoted "),
        ('SYSTEM "a" and "b"', 'a" and "b'),
        ('SYSTEM say "hi"', 'say "hi"'),
        ('SYSTEM ""', ""),
        ('SYSTEM """"""', ""),
        ("SYSTEM ", ""),
        ("SYSTEM \n", ""),
        ('SYSTEM "two\nlines"\n', "two\nlines"),
        ('SYSTEM """\n\n a \n\n"""', "\n\n a \n\n"),
        ('SYSTEM """a "b"\nc"""   \n', 'a "b"\nc'),
        ('SYSTEM """a""""', 'a"'),
        ('SYSTEM """""\nx"""', '""\nx'),
        ('SYSTEM "abc" def\nPARAMETER top_k 1\nthird"\n', 'abc" def\nPARAMETER top_k 1\nthird'),
        ('SYSTEM """a\n""" b\n\nc"""\n', 'a\n""" b\n\nc'),
        ('SYSTEM """a\r\nb"""\r\n', "a\r\nb"),
        ("SYSTEM a\rPARAMETER top_k 1", "a"),
    ],
)
def test_where_a_value_ends(text: str, value: str) -> None:
    assert system(text) == [value]


def test_a_line_that_ends_in_quotes_ends_the_value() -> None:
    assert system('SYSTEM """a\nb"""\nSYSTEM c"""') == ["a\nb", 'c"""']


def test_control_characters_vanish_and_all_others_stay() -> None:
    assert system("SYSTEM a\x00\x01\x0b\x7fb") == ["ab"]
    kept = "family 👩‍👩‍👧, no-break\u00a0space, soft\u00adhyphen, line\u2028end, \u3000wide"
    assert system(f"SYSTEM {kept}") == [kept]


def test_comments_and_blank_lines() -> None:
    text = "# head\n   # indented\nfrom\tx\n\n# SYSTEM no\n\t# tab\r\n\r\nSYSTEM yes\n#end"
    assert parse(text) == (Command(Keyword.FROM, "x"), Command(Keyword.SYSTEM, "yes"))


def test_repeated_blanks_before_a_name() -> None:
    assert parse("FROM x\nPARAMETER  \ttop_k  1\nMESSAGE   user   hi")[1:] == (
        Command(Keyword.PARAMETER, "1", "top_k"),
        Command(Keyword.MESSAGE, "hi", "user"),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no FROM line"),
        ("# nothing\nSYSTEM x", "no FROM line"),
        ("FROM x\nSYSTEM a\n\nNONSENSE x\n", f"(line 4): {COMMANDS}"),
        ("FROM x\nSYSTEM\nhello\n", f"(line 3): {COMMANDS}"),
        ("FROM x\r\nSYSTEM\r\nhello\r\n", f"(line 3): {COMMANDS}"),
        ("FROM x\r\n\r\nBAD x", f"(line 3): {COMMANDS}"),
        ("FROM: x", f"(line 1): {COMMANDS}"),
        ("FROM2 x", f"(line 1): {COMMANDS}"),
        ("2FROM x", f"(line 1): {COMMANDS}"),
        ("ſYSTEM x", f"(line 1): {COMMANDS}"),
        ("FROM x\nMESSAGE User hi\n", f"(line 2): {ROLES}"),
        ("FROM x\nMESSAGE tool hi\n", f"(line 2): {ROLES}"),
        ("FROM x\nMESSAGE user\n", "unexpected EOF: user"),
        ("FROM x\nMESSAGE us3r hi\n", "unexpected EOF: us"),
        ("FROM x\nPARAMETER top_k\n", "unexpected EOF: top_k"),
        ("FROM x\nPARAMETER top-k 1\n", "unexpected EOF: top"),
        ("FROM x\nPARAMETER top_k", "unexpected EOF"),
        ("FROM x\nMESSAGE user", "unexpected EOF"),
        ("FROM x\nSYSTEM", "unexpected EOF"),
        ('FROM x\nSYSTEM "abc" def\n', "unexpected EOF"),
        ('FROM x\nSYSTEM """a""" b\n', "unexpected EOF"),
        ('FROM x\nSYSTEM "', "unexpected EOF"),
        ('FROM x\nSYSTEM """""', "unexpected EOF"),
    ],
)
def test_what_is_no_modelfile(text: str, message: str) -> None:
    with pytest.raises(ModelfileError) as error:
        parse(text)
    assert str(error.value) == message


def test_an_open_quote_over_many_lines_is_read_once() -> None:
    lines = "x\n" * 300_000
    assert system(f'SYSTEM """{lines}"""') == [lines]
