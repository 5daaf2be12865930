"""The layer notation `<out>-<kernel>-<type>-<none|relu>[@1/R][,key=value]` and its one parser."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from codec.errors import NotationError

KINDS = ("linear", "residual", "adaptive", "ck", "conv", "difference")  # numbers in the stream
SPATIAL_KINDS = ("linear", "residual", "difference")
TEMPORAL_KINDS = ("adaptive", "ck", "conv")
KEYS = ("res", "gate", "demod", "code", "every", "causal", "dilation", "groups")
FLAG_KEYS = ("res", "gate", "demod", "causal")
KEYS_OF_KIND = {
    "linear": (),
    "residual": (),
    "difference": (),
    "adaptive": ("res", "gate", "demod", "code", "every"),
    "ck": ("causal",),
    "conv": ("res", "gate", "dilation", "groups"),
}
MAX_OUT = 256
MAX_KERNEL = 15
MAX_TIME_KERNEL = 63
MAX_KEY = 255
BY_LEVEL = 255  # as the number of frames that share a code: one code for each prediction level


@dataclass(frozen=True)
class Layer:
    """One layer of the synthesis (linear, residual, difference) or the temporal stack (others).

    `level` is the log2 of the resolution it works at, `code` the dimension of the modulation code,
    `every` the frames that share one code (0: the whole segment; BY_LEVEL: those of a prediction
    level), `groups` 0 means depthwise.
    """

    out: int
    kernel_time: int
    kernel_space: int
    kind: str
    relu: bool
    level: int = 0
    res: bool = False
    gate: bool = False
    demod: bool = True
    code: int = 0
    every: int = 0
    causal: bool = False
    dilation: int = 1
    groups: int = 1

    @property
    def makes_units(self) -> bool:
        """Whether its outputs are hidden units: it is linear, of single pixels, with a ReLU."""
        return self.kind == "linear" and self.kernel_space == 1 and self.relu

    @property
    def is_temporal(self) -> bool:
        """Whether the layer works on the stack of frames."""
        return self.kind in TEMPORAL_KINDS

    @property
    def time_taps(self) -> int:
        """Frames that an output sees: the time kernel, of a causal layer its past half."""
        return self.kernel_time // 2 + 1 if self.causal else self.kernel_time


@dataclass(frozen=True)
class _Token:
    text: str
    start: int


def _fail(text: str, token: _Token, why: str) -> NotationError:
    marker = " " * token.start + "^" * max(1, len(token.text))
    return NotationError(f"layer {text!r}: {why}\n  {text}\n  {marker}")


def _integer(text: str, token: _Token, *, low: int, high: int, what: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", token.text) or not low <= int(token.text) <= high:
        raise _fail(text, token, f"{what} must be a whole number from {low} to {high}")
    return int(token.text)


def _tokens(part: str, offset: int, separator: str) -> list[_Token]:
    tokens, start = [], offset
    for piece in part.split(separator):
        tokens.append(_Token(piece, start))
        start += len(piece) + 1
    return tokens


def _kernel(text: str, token: _Token, kind: str) -> tuple[int, int]:
    pieces = _tokens(token.text, token.start, "x")
    if kind in SPATIAL_KINDS:
        if len(pieces) != 1:
            raise _fail(text, token, f"a {kind} layer has one kernel size, such as 3")
        pieces = [_Token("1", token.start), *pieces]
    elif len(pieces) != 2:
        raise _fail(text, token, f"the kernel of a {kind} layer is TIMExSPACE, such as 3x3")
    time = _integer(text, pieces[0], low=1, high=MAX_TIME_KERNEL, what="the time kernel")
    space = _integer(text, pieces[1], low=1, high=MAX_KERNEL, what="the kernel")
    for size, piece in ((time, pieces[0]), (space, pieces[1])):
        if size % 2 == 0:
            raise _fail(text, piece, "kernel sizes are odd")
    if kind == "difference" and space == 1:
        raise _fail(text, pieces[1], "a difference layer has a kernel of 3 at least")
    if kind == "ck" and space != 1:
        raise _fail(text, pieces[1], "a ck layer works along time: its space kernel is 1")
    return time, space


def _resolution(text: str, token: _Token) -> int:
    match = re.fullmatch(r"1/([0-9]{1,9})", token.text)
    divisor = int(match[1]) if match else 0
    if divisor not in (1, 2, 4, 8, 16, 32, 64, 128, 256):
        raise _fail(text, token, "the resolution is 1/1, 1/2, 1/4, ... 1/256")
    return divisor.bit_length() - 1


def _value(text: str, key: str, token: _Token) -> int:
    if key == "every" and token.text == "level":
        return BY_LEVEL
    high = 1 if key in FLAG_KEYS else MAX_KEY
    value = _integer(text, token, low=1 if key == "dilation" else 0, high=high, what=key)
    if key == "every" and value == BY_LEVEL:
        raise _fail(text, token, "a code for each prediction level is written every=level")
    return value


def _options(text: str, tokens: Iterable[_Token], kind: str) -> dict[str, int]:
    options: dict[str, int] = {}
    for token in tokens:
        key, equals, value = token.text.partition("=")
        if key not in KEYS_OF_KIND[kind] or not equals:
            known = ", ".join(KEYS_OF_KIND[kind]) or "none"
            raise _fail(text, token, f"keys of a {kind} layer are: {known}; written key=value")
        if key in options:
            raise _fail(text, token, f"{key} is given twice")
        options[key] = _value(text, key, _Token(value, token.start + len(key) + 1))
    return options


def parse_layer(text: str, *, num_out: int | None = None) -> Layer:
    """Parse one layer, for example `48-1-linear-relu` or `12-3x3-adaptive-relu@1/2,code=4`.

    Args:
        text: the description; `X` as output count stands for `num_out`, `X+2` for two more.
        num_out: what `X` means (picture channels, or the channels that come in).

    Raises:
        NotationError: a description that does not parse; the message points at the token.
    """
    head, *rest = text.split(",")
    body, at, resolution = head.partition("@")
    fields = _tokens(body, 0, "-")
    if len(fields) != 4:
        raise _fail(text, _Token(body, 0), "a layer has four fields: out-kernel-type-activation")
    out_token, kernel_token, kind_token, relu_token = fields
    kind = kind_token.text
    if kind not in KINDS:
        raise _fail(text, kind_token, f"the type is one of {', '.join(KINDS)}")
    if relu_token.text not in ("none", "relu"):
        raise _fail(text, relu_token, "the activation is none or relu")
    more = re.fullmatch(r"X(?:\+([0-9]{1,2}))?", out_token.text)
    if more and num_out is not None:
        out = num_out + int(more[1] or 0)
    else:
        out = _integer(text, out_token, low=1, high=MAX_OUT, what="the output count")
    time, space = _kernel(text, kernel_token, kind)
    level = _resolution(text, _Token(resolution, len(body) + 1)) if at else 0
    if at and kind in SPATIAL_KINDS and level:
        raise _fail(text, _Token(resolution, len(body) + 1), "synthesis works at full resolution")
    if kind == "ck" and relu_token.text != "none":
        raise _fail(text, relu_token, "a ck layer is linear: its activation is none")
    options = _options(text, _tokens(",".join(rest), len(head) + 1, ",") if rest else (), kind)
    flags = {key: bool(value) for key, value in options.items() if key in FLAG_KEYS}
    numbers = {key: value for key, value in options.items() if key not in FLAG_KEYS}
    return Layer(out, time, space, kind, relu_token.text == "relu", level, **flags, **numbers)


def parse_layers(texts: Iterable[str], *, num_out: int) -> tuple[Layer, ...]:
    """Parse a stack of synthesis layers; `X` is the number of picture channels."""
    return tuple(parse_layer(text, num_out=num_out) for text in texts)


def format_layer(layer: Layer) -> str:
    """The notation of a layer: `parse_layer(format_layer(x)) == x`."""
    kernel = (
        f"{layer.kernel_time}x{layer.kernel_space}" if layer.is_temporal else layer.kernel_space
    )
    text = f"{layer.out}-{kernel}-{layer.kind}-{'relu' if layer.relu else 'none'}"
    if layer.is_temporal:
        text += f"@1/{1 << layer.level}"
    default = Layer(1, 1, 1, layer.kind, False)
    for key in KEYS_OF_KIND[layer.kind]:
        value = getattr(layer, key)
        if value != getattr(default, key):
            is_by_level = key == "every" and value == BY_LEVEL
            text += f",{key}={'level' if is_by_level else int(value)}"
    return text
