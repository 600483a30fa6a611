"""JSON schema string formats (`format`) as ECMA 262 regular expressions; formats not listed are annotations only."""

from __future__ import annotations

_HOUR, _MINUTE = "([01][0-9]|2[0-3])", "[0-5][0-9]"
_YEAR = "[1-9][0-9]{3}"
_LEAP_YEAR = "([1-9][0-9](0[48]|[2468][048]|[13579][26])|([2468][048]|[13579][26])00)"
_DAY = "((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|1[0-9]|2[0-8]))"
_DATE = f"({_YEAR}-{_DAY}|{_LEAP_YEAR}-02-29)"
_TIME = rf"{_HOUR}:{_MINUTE}:{_MINUTE}(\.[0-9]{{1,9}})?(Z|[+-]{_HOUR}:{_MINUTE})"
_BYTE = "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_IPV4 = rf"({_BYTE}\.){{3}}{_BYTE}"
_GROUP = "[0-9a-fA-F]{1,4}"
_LABEL = "[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
_HOST = rf"{_LABEL}(\.{_LABEL})*"
_ATOM = "[a-zA-Z0-9!#$%&'*+/=?^_`{|}~-]+"
_URI_CHAR = "([a-zA-Z0-9._~!$&'()*+,;=:@-]|%[0-9a-fA-F]{2})"
_NAME_CHAR = "([a-zA-Z0-9._~!$&'()*+,;=-]|%[0-9a-fA-F]{2})"
_TAIL = rf"(\?({_URI_CHAR}|[/?])*)?(#({_URI_CHAR}|[/?])*)?"


def _ipv6() -> str:
    """Eight groups, or fewer around `::`."""
    ways = [f"({_GROUP}:){{7}}{_GROUP}", "::"]
    for before in range(8):
        head = f"({_GROUP}:){{{before - 1}}}{_GROUP}" if before else ""
        after = 7 - before
        tail = f"({_GROUP}(:{_GROUP}){{0,{after - 1}}})?" if after else ""
        ways.append(f"{head}::{tail}")
    return "|".join(ways)


def _duration() -> str:
    """An ISO 8601 duration as in RFC 3339: units in order, none left out in between."""
    time = "([0-9]{1,9}H([0-9]{1,9}M([0-9]{1,9}S)?)?|[0-9]{1,9}M([0-9]{1,9}S)?|[0-9]{1,9}S)"
    date = "([0-9]{1,9}Y([0-9]{1,9}M([0-9]{1,9}D)?)?|[0-9]{1,9}M([0-9]{1,9}D)?|[0-9]{1,9}D)"
    return f"P({date}(T{time})?|T{time}|[0-9]{{1,9}}W)"


_PATH = f"(/{_URI_CHAR}*)*"

FORMATS: dict[str, str] = {
    name: f"^({pattern})$"
    for name, pattern in {
        "date": _DATE,
        "time": _TIME,
        "date-time": f"{_DATE}T{_TIME}",
        "duration": _duration(),
        "email": rf"{_ATOM}(\.{_ATOM})*@{_HOST}",
        "hostname": _HOST,
        "ipv4": _IPV4,
        "ipv6": _ipv6(),
        "uuid": "[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}",
        "uri": rf"[a-zA-Z][a-zA-Z0-9+.-]*:(//{_NAME_CHAR}+(:[0-9]{{1,5}})?{_PATH}|{_URI_CHAR}+{_PATH}){_TAIL}",
        "json-pointer": "(/([^/~]|~[01])*)*",
    }.items()
}
FORMATS |= {"url": FORMATS["uri"], "ip": f"{FORMATS['ipv4']}|{FORMATS['ipv6']}"}
