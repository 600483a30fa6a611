"""The layout of tables, as recorded from Ollama's command."""

from cli.human import section, table


def test_a_table() -> None:
    rows = [
        ("tinychat:latest", "860615c19043", "4.4 MB", "About a minute ago"),
        ("tiny-q4km:latest", "8a9409dfa153", "2.6 MB", "About a minute ago"),
    ]
    assert table(("NAME", "ID", "SIZE", "MODIFIED"), rows) == (
        "NAME                ID              SIZE      MODIFIED           \n"
        "tinychat:latest     860615c19043    4.4 MB    About a minute ago    \n"
        "tiny-q4km:latest    8a9409dfa153    2.6 MB    About a minute ago    \n"
    )


def test_a_section() -> None:
    rows = [("stop", '"<|im_end|>"'), ("temperature", "0"), ("alone",)]
    assert section("Parameters", rows) == (
        "  Parameters\n"
        '    stop           "<|im_end|>"    \n'
        "    temperature    0               \n"
        "    alone          \n"
        "\n"
    )


def test_characters_that_are_two_cells_wide() -> None:
    assert section("T", [("天空", "a"), ("sky", "b")]) == "  T\n    天空    a    \n    sky     b    \n\n"
