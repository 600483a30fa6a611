"""Values and their types."""

import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from modelfile.convert import ConvertError
from modelfile.convert.tensor import LazyTensor, cast, constant, join, stack
from tests.modelfile.convert.checkpoints import bfloat16

matrices = arrays.arrays(np.float32, (2, 3), elements=st.floats(-60000, 60000, width=32))


@given(matrices)
def test_types(values: np.ndarray) -> None:
    half = cast(values, Type.F32, Type.F16)
    assert half.dtype == np.float16
    assert np.array_equal(cast(half, Type.F16, Type.F32), half.astype(np.float32))
    upper = bfloat16(values)
    assert np.array_equal(cast(upper, Type.BF16, Type.F32).view(np.uint32), upper.astype(np.uint32) << 16)
    assert cast(values, Type.F32, Type.F32) is values


def test_a_value_too_large_for_a_half() -> None:
    with pytest.raises(ConvertError, match="a value is too large for F16"):
        cast(np.array([1e5], np.float32), Type.F32, Type.F16)


def test_stack_and_join_read_part_by_part() -> None:
    first, second = constant([1.0, 2.0]), constant([3.0, 4.0])
    assert stack([first, second]).shape == (2, 2)
    assert stack([first, second]).read().tolist() == [[1, 2], [3, 4]]
    assert join([first, second]).read().tolist() == [1, 2, 3, 4]
    assert len(join([first, second]).stored_as(Type.F16).parts) == 2
    with pytest.raises(ConvertError, match="different shapes or types"):
        stack([first, constant([1.0])])
    with pytest.raises(ConvertError, match="different shapes or types"):
        join([first, first.stored_as(Type.F16)])


def test_calculations_are_in_f32() -> None:
    half = LazyTensor(Type.F16, (2,), (lambda: np.array([1, 2], np.float16),))
    added = half.compute(lambda values: values + 1)
    assert (added.type, added.read().tolist(), added.read().dtype) == (Type.F32, [2, 3], np.float32)
    assert half.map(lambda values: values[::-1]).read().tolist() == [2, 1]
