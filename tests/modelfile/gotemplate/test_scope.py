"""Variables that hide each other and go."""

from hypothesis import given
from hypothesis import strategies as st

from modelfile.gotemplate.scope import Scope


def value(scope: Scope[int], name: str) -> int | None:
    cell = scope.find(name)
    return None if cell is None else cell.value


def test_hiding_and_dropping() -> None:
    scope = Scope(0)
    scope.declare("$x", 1)
    mark = scope.mark()
    scope.declare("$x", 2)
    assert value(scope, "$x") == 2
    scope.drop(mark)
    assert value(scope, "$x") == 1
    assert value(scope, "$") == 0
    assert value(scope, "$y") is None


def test_two_of_the_same_name_are_two_places() -> None:
    scope = Scope(0)
    scope.declare("$x", 1)
    scope.declare("$x", 2)
    scope.newest(2).value = 7
    assert value(scope, "$x") == 2


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers())), st.data())
def test_like_a_list_searched_from_the_end(declared: list[tuple[str, int]], data: st.DataObject) -> None:
    scope = Scope(-1)
    for name, number in declared:
        scope.declare(name, number)
    kept = data.draw(st.integers(0, len(declared)))
    scope.drop(1 + kept)
    for name in "abc":
        assert value(scope, name) == dict(declared[:kept]).get(name)
