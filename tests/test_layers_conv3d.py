"""Conv3d against loops in float64, and its output sizes, initial values and errors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from codec.errors import UsageError
from codec.layers import Conv3d

NUMPY_MODES = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def reference(layer: Conv3d, x: np.ndarray, pad: tuple[int, ...]) -> np.ndarray:
    """Cross-correlation of x (B, C, T, H, W), one output sample at a time."""
    weight = layer.weight.detach().numpy()
    padded = np.pad(x, [(0, 0), (0, 0), *((p, p) for p in pad)], NUMPY_MODES[layer.padding_mode])
    sizes = [
        (n - d * (k - 1) - 1) // s + 1
        for n, k, d, s in zip(
            padded.shape[2:], weight.shape[2:], layer.dilation, layer.stride, strict=True
        )
    ]
    out = np.zeros((x.shape[0], weight.shape[0], *sizes))
    per_group_in, per_group_out = weight.shape[1], weight.shape[0] // layer.groups
    for o in range(weight.shape[0]):
        first = (o // per_group_out) * per_group_in
        for place in np.ndindex(*sizes):
            cut = tuple(
                slice(p * s, p * s + d * (k - 1) + 1, d)
                for p, s, d, k in zip(
                    place, layer.stride, layer.dilation, weight.shape[2:], strict=True
                )
            )
            window = padded[(slice(None), slice(first, first + per_group_in), *cut)]
            out[(slice(None), o, *place)] = (window * weight[o]).sum((1, 2, 3, 4))
    bias = 0 if layer.bias is None else layer.bias.detach().numpy()[:, None, None, None]
    return out + bias


@given(
    kernel=st.tuples(*[st.integers(1, 3)] * 3),
    stride=st.tuples(*[st.integers(1, 3)] * 3),
    dilation=st.tuples(*[st.integers(1, 2)] * 3),
    pad=st.tuples(*[st.integers(0, 2)] * 3),
    groups=st.sampled_from([1, 2, 4]),
    mode=st.sampled_from(sorted(NUMPY_MODES)),
    bias=st.booleans(),
)
@settings(deadline=None, max_examples=40, derandomize=True)
def test_equals_loops(kernel, stride, dilation, pad, groups, mode, bias):
    torch.manual_seed(0)
    layer = Conv3d(4, 8, kernel, stride, pad, dilation, groups, bias, mode).double()
    x = torch.randn(2, 4, 5, 6, 7).double()
    out = layer(x).detach().numpy()
    np.testing.assert_allclose(out, reference(layer, x.numpy(), pad), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("mode", sorted(NUMPY_MODES))
def test_same_and_valid(mode):
    torch.manual_seed(0)
    x = torch.randn(1, 2, 9, 10, 11).double()
    same = Conv3d(2, 2, (5, 3, 1), padding="same", dilation=2, padding_mode=mode).double()
    assert same(x).shape == x.shape
    np.testing.assert_allclose(
        same(x).detach().numpy(), reference(same, x.numpy(), (4, 2, 0)), rtol=1e-11, atol=1e-12
    )
    valid = Conv3d(2, 2, (5, 3, 1), padding="valid", dilation=2, padding_mode=mode).double()
    assert valid(x).shape == (1, 2, 1, 6, 11)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize("mode", sorted(NUMPY_MODES))
def test_same_with_even_kernels(mode):
    """The odd sample of padding comes last: as without padding on an input that has it already."""
    torch.manual_seed(0)
    x = torch.randn(1, 2, 4, 5, 6).double()
    same = Conv3d(2, 3, (2, 4, 3), padding="same", padding_mode=mode).double()
    pads = [(0, 0), (0, 0), (0, 1), (1, 2), (1, 1)]
    padded = np.pad(x.numpy(), pads, NUMPY_MODES[mode])
    np.testing.assert_allclose(
        same(x).detach().numpy(), reference(same, padded, (0, 0, 0)), rtol=1e-11, atol=1e-12
    )


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
def test_same_fits_or_is_refused():
    """A reflected axis has one sample less to give than it is long."""
    layer = Conv3d(1, 1, (1, 1, 4), padding="same", padding_mode="reflect")
    assert layer(torch.zeros(1, 1, 1, 1, 3)).shape == (1, 1, 1, 1, 3)
    with pytest.raises(UsageError, match="reflect padding of 2 does not fit width 2"):
        layer(torch.zeros(1, 1, 1, 1, 2))
    assert Conv3d(1, 1, 2, padding="same")(torch.zeros(1, 1, 1, 1, 1)).shape == (1, 1, 1, 1, 1)


def test_depthwise_case():
    torch.manual_seed(0)
    layer = Conv3d(6, 6, 3, padding="same", groups=6).double()
    assert layer.weight.shape == (6, 1, 3, 3, 3)
    x = torch.randn(1, 6, 4, 5, 5).double()
    np.testing.assert_allclose(
        layer(x).detach().numpy(), reference(layer, x.numpy(), (1, 1, 1)), rtol=1e-11, atol=1e-12
    )
    changed = x.clone()
    changed[:, 2] += 1
    assert torch.equal(
        (layer(x) != layer(changed)).any(-1).any(-1).any(-1)[0].nonzero()[0], torch.tensor([2])
    )


def test_unbatched_input():
    torch.manual_seed(0)
    layer, x = Conv3d(2, 3, 3, padding=1), torch.randn(2, 4, 5, 6)
    torch.testing.assert_close(layer(x), layer(x[None])[0])


@pytest.mark.parametrize("groups", [1, 4, 16])
def test_initial_distribution_is_uniform(groups):
    torch.manual_seed(0)
    layer = Conv3d(16, 256, (3, 5, 1), groups=groups)
    bound = (groups / (16 * 15)) ** 0.5
    for tensor in (layer.weight, layer.bias):
        values = tensor.detach().flatten() / bound
        assert values.abs().max() <= 1
        assert values.abs().max() > 0.97
        assert values.std().item() == pytest.approx(3**-0.5, rel=0.08)
    quarters = torch.histc(layer.weight / bound, 4, -1, 1) / layer.weight.numel()
    assert quarters.tolist() == pytest.approx([0.25] * 4, abs=0.02)


def test_gradients():
    torch.manual_seed(0)
    layer = Conv3d(2, 2, 3, padding="same", groups=2, padding_mode="replicate").double()
    x = torch.randn(1, 2, 3, 3, 3).double().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda a, w, b: torch.func.functional_call(layer, {"weight": w, "bias": b}, (a,)),
        (x, layer.weight.detach().requires_grad_(), layer.bias.detach().requires_grad_()),
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kernel_size": 3, "padding": "same", "stride": 2}, "needs stride 1"),
        ({"kernel_size": 3, "padding": "full"}, "'same', 'valid'"),
        ({"kernel_size": 3, "padding": -1}, "padding is -1"),
        ({"kernel_size": 3, "padding": None}, "padding is None"),
        ({"kernel_size": 2.5}, "kernel_size is 2.5"),
        ({"kernel_size": (3, 3)}, "three of them"),
        ({"kernel_size": 0}, "at least 1"),
        ({"kernel_size": 3, "groups": 3}, "must divide"),
        ({"kernel_size": 3, "padding_mode": "mirror"}, "replicate"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(UsageError, match=message):
        Conv3d(4, 4, **arguments)


def test_wrong_inputs_are_refused():
    with pytest.raises(UsageError, match=r"expects \(B, 4, T, H, W\)"):
        Conv3d(4, 4, 3)(torch.zeros(1, 3, 5, 5, 5))
    with pytest.raises(UsageError, match=r"reflect padding of 2 does not fit time 2"):
        Conv3d(4, 4, 5, padding="same", padding_mode="reflect")(torch.zeros(1, 4, 2, 9, 9))
    with pytest.raises(UsageError, match=r"circular padding of 3 does not fit height 2"):
        Conv3d(4, 4, 3, padding=3, padding_mode="circular")(torch.zeros(1, 4, 9, 2, 9))
    with pytest.raises(UsageError, match="width 2 padded by 0 is smaller"):
        Conv3d(4, 4, 3)(torch.zeros(1, 4, 3, 3, 2))
    with pytest.raises(UsageError, match="does not fit time 0"):
        Conv3d(4, 4, 1)(torch.zeros(1, 4, 0, 3, 2))
