"""Characters by their Unicode properties, as regular expressions name them."""

from __future__ import annotations

from engine.chat.regex.char_class import SPACE, CharClass


def characters_of(name: str) -> CharClass | None:
    """The characters of a Unicode property; None where the name is not known."""
    kind, _, value = name.rpartition("=")
    if kind in ("", "gc", "General_Category"):
        if value in ("Any", "ASCII"):
            return CharClass(((0, 0x7F if value == "ASCII" else 0x10FFFF),))
        if value == "White_Space":
            return SPACE
        short = _CATEGORIES.get(value, value)
        if short in _CATEGORIES.values():
            return CharClass((), (rf"\p{{{short}}}",))
        if not kind and value in ("Alphabetic", "Lowercase", "Uppercase", "Alpha", "Lower", "Upper"):
            return CharClass((), (rf"\p{{{value}}}",))
    if kind in ("Script", "sc", "Script_Extensions", "scx") and value in _SCRIPTS:
        return CharClass((), (rf"\p{{{kind if len(kind) < 4 else 'sc' if kind == 'Script' else 'scx'}={value}}}",))
    return None


_SCRIPTS = frozenset(
    {
        "Arabic",
        "Armenian",
        "Bengali",
        "Bopomofo",
        "Common",
        "Cyrillic",
        "Devanagari",
        "Ethiopic",
        "Georgian",
        "Greek",
        "Gujarati",
        "Gurmukhi",
        "Han",
        "Hangul",
        "Hebrew",
        "Hiragana",
        "Inherited",
        "Kannada",
        "Katakana",
        "Khmer",
        "Lao",
        "Latin",
        "Malayalam",
        "Mongolian",
        "Myanmar",
        "Oriya",
        "Sinhala",
        "Tamil",
        "Telugu",
        "Thai",
        "Tibetan",
    }
)
_CATEGORIES = {
    "Letter": "L",
    "Cased_Letter": "LC",
    "Lowercase_Letter": "Ll",
    "Uppercase_Letter": "Lu",
    "Titlecase_Letter": "Lt",
    "Modifier_Letter": "Lm",
    "Other_Letter": "Lo",
    "Mark": "M",
    "Nonspacing_Mark": "Mn",
    "Spacing_Mark": "Mc",
    "Enclosing_Mark": "Me",
    "Number": "N",
    "Decimal_Number": "Nd",
    "Letter_Number": "Nl",
    "Other_Number": "No",
    "Punctuation": "P",
    "Connector_Punctuation": "Pc",
    "Dash_Punctuation": "Pd",
    "Open_Punctuation": "Ps",
    "Close_Punctuation": "Pe",
    "Initial_Punctuation": "Pi",
    "Final_Punctuation": "Pf",
    "Other_Punctuation": "Po",
    "Symbol": "S",
    "Math_Symbol": "Sm",
    "Currency_Symbol": "Sc",
    "Modifier_Symbol": "Sk",
    "Other_Symbol": "So",
    "Separator": "Z",
    "Space_Separator": "Zs",
    "Line_Separator": "Zl",
    "Paragraph_Separator": "Zp",
    "Other": "C",
    "Control": "Cc",
    "Format": "Cf",
}
