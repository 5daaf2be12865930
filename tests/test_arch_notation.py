"""The layer notation: what is written is what is read, and errors point at the wrong token."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codec.arch import Layer, format_layer, parse_layer, parse_layers
from codec.arch.notation import BY_LEVEL
from codec.errors import NotationError

ODD_SPACE = st.sampled_from(range(1, 16, 2))
ODD_TIME = st.sampled_from(range(1, 64, 2))
COUNT = st.integers(1, 256)
LEVEL = st.integers(0, 8)
BYTE = st.integers(0, 255)

LAYERS = st.one_of(
    st.builds(
        Layer,
        out=COUNT,
        kernel_time=st.just(1),
        kernel_space=ODD_SPACE,
        kind=st.sampled_from(["linear", "residual"]),
        relu=st.booleans(),
    ),
    st.builds(
        Layer,
        out=COUNT,
        kernel_time=ODD_TIME,
        kernel_space=st.just(1),
        kind=st.just("ck"),
        relu=st.just(False),
        level=LEVEL,
        causal=st.booleans(),
    ),
    st.builds(
        Layer,
        out=COUNT,
        kernel_time=ODD_TIME,
        kernel_space=ODD_SPACE,
        kind=st.just("conv"),
        relu=st.booleans(),
        level=LEVEL,
        res=st.booleans(),
        gate=st.booleans(),
        dilation=st.integers(1, 255),
        groups=BYTE,
    ),
    st.builds(
        Layer,
        out=COUNT,
        kernel_time=ODD_TIME,
        kernel_space=ODD_SPACE,
        kind=st.just("adaptive"),
        relu=st.booleans(),
        level=LEVEL,
        res=st.booleans(),
        gate=st.booleans(),
        demod=st.booleans(),
        code=BYTE,
        every=BYTE,
    ),
)


@given(LAYERS)
@settings(deadline=None, max_examples=200, derandomize=True)
def test_what_is_written_is_read_back(layer):
    assert parse_layer(format_layer(layer)) == layer


@pytest.mark.parametrize(
    ("text", "layer"),
    [
        ("48-1-linear-relu", Layer(48, 1, 1, "linear", True)),
        ("3-3-residual-none", Layer(3, 1, 3, "residual", False)),
        ("3-5-difference-none", Layer(3, 1, 5, "difference", False)),
        ("12-3x3-adaptive-relu@1/2", Layer(12, 3, 3, "adaptive", True, level=1)),
        ("12-9x1-ck-none@1/4", Layer(12, 9, 1, "ck", False, level=2)),
        ("12-9x1-ck-none@1/256,causal=1", Layer(12, 9, 1, "ck", False, level=8, causal=True)),
        (
            "5-1x7-conv-none@1/1,groups=0,dilation=2,gate=1,res=1",
            Layer(5, 1, 7, "conv", False, res=True, gate=True, dilation=2, groups=0),
        ),
        (
            "4-3x1-adaptive-none,demod=0,code=2,every=8",
            Layer(4, 3, 1, "adaptive", False, demod=False, code=2, every=8),
        ),
        (
            "4-1x1-adaptive-none@1/8,code=2,every=level",
            Layer(4, 1, 1, "adaptive", False, level=3, code=2, every=BY_LEVEL),
        ),
    ],
)
def test_examples(text, layer):
    assert parse_layer(text) == layer


def test_x_stands_for_the_channels_of_the_context():
    first, second = parse_layers(["X-1-linear-none", "7-1-linear-none"], num_out=5)
    assert (first.out, second.out) == (5, 7)


# Each bad layer with the token that is wrong between brackets.
BAD = [
    "[48-1-linear]",
    "[48-1-linear-relu-extra]",
    "[]",
    "[0]-1-linear-relu",
    "[257]-1-linear-relu",
    "[4.5]-1-linear-relu",
    "[X]-1-linear-relu",
    "[" + "9" * 5000 + "]-1-linear-relu",
    "48-[2]-linear-relu",
    "48-[17]-linear-relu",
    "48-[3x3]-linear-relu",
    "48-[]-linear-relu",
    "48-1-[lineal]-relu",
    "48-1-linear-[gelu]",
    "48-1-linear-[]",
    "48-1-linear-relu@[1/2]",
    "12-[3]-conv-none",
    "12-[3x3x3]-conv-none",
    "12-[4]x3-conv-none",
    "12-3x[4]-conv-none",
    "12-[65]x3-conv-none",
    "12-3x[17]-conv-none",
    "12-9x[3]-ck-none",
    "12-9x1-ck-[relu]",
    "12-3x3-conv-none@[1/3]",
    "12-3x3-conv-none@[1/512]",
    "12-3x3-conv-none@[2]",
    "12-3x3-conv-none@[1/" + "1" * 5000 + "]",
    "12-3x3-conv-none@[]",
    "12-3x3-conv-none@1/2,[demod=0]",
    "12-3x3-conv-none,[res]",
    "12-3x3-conv-none,[]",
    "12-3x3-conv-none,res=1,[Gate=1]",
    "12-3x3-conv-none,res=[2]",
    "12-3x3-conv-none,res=[]",
    "12-3x3-conv-none,res=[yes]",
    "12-3x3-conv-none,res=1,gate=1,[res=0]",
    "12-3x3-conv-none,dilation=[0]",
    "12-3x3-conv-none,groups=[256]",
    "12-3x3-conv-none,groups=[-1]",
    "48-1-linear-relu,[res=1]",
    "12-9x1-ck-none,[gate=1]",
    "12-9x1-ck-none,causal=[3]",
    "12-3x1-adaptive-none,[causal=1]",
    "12-3x1-adaptive-none,code=1,every=[1.5]",
    "12-3x1-adaptive-none,code=1,every=[255]",
    "12-3x1-adaptive-none,code=[level],every=level",
]


@pytest.mark.parametrize("marked", BAD, ids=lambda text: text[:40])
def test_errors_point_at_the_wrong_token(marked):
    start, end = marked.index("["), marked.index("]") - 1
    text = marked.replace("[", "").replace("]", "")
    with pytest.raises(NotationError) as caught:
        parse_layer(text)
    reason, shown, caret = str(caught.value).split("\n")
    assert reason.startswith(f"layer {text!r}: ")
    assert shown == "  " + text
    assert caret == "  " + " " * start + "^" * max(1, end - start)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("9-1-linear-none,x=1", "none"),
        ("9-1-residual-none,x=1", "none"),
        ("9-3x1-ck-none,x=1", "causal"),
        ("9-3x1-conv-none,x=1", "res, gate, dilation, groups"),
        ("9-3x1-adaptive-none,x=1", "res, gate, demod, code, every"),
    ],
)
def test_errors_name_the_keys_of_the_kind(text, known):
    with pytest.raises(NotationError, match=f"keys of a .* layer are: {known};"):
        parse_layer(text)


def test_a_difference_layer_has_something_around_its_centre():
    with pytest.raises(NotationError, match="a kernel of 3 at least"):
        parse_layer("3-1-difference-none")


@pytest.mark.parametrize("number", ["255", "0255"])
def test_the_number_that_stands_for_levels_is_not_written(number):
    with pytest.raises(NotationError, match="is written every=level"):
        parse_layer(f"4-1x1-adaptive-none,code=2,every={number}")
    assert format_layer(Layer(4, 1, 1, "adaptive", False, code=2, every=BY_LEVEL)) == (
        "4-1x1-adaptive-none@1/1,code=2,every=level"
    )


@given(st.text(st.sampled_from("0139X-x/@,=linearockvdp²"), max_size=40))
@settings(deadline=None, max_examples=200, derandomize=True)
def test_any_text_is_a_layer_or_a_clear_error(text):
    try:
        layer = parse_layer(text, num_out=3)
    except NotationError:
        return
    assert parse_layer(format_layer(layer)) == layer
