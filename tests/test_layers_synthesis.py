"""Synthesis and its layers against loops in float64, initial values, and errors."""

from __future__ import annotations

from collections import OrderedDict
from itertools import product

import numpy as np
import pytest
import torch

from codec.arch import parse_layer
from codec.errors import NotationError, UsageError
from codec.layers import DifferenceConv2d, Synthesis, SynthesisConv2d


def reference_layer(layer: SynthesisConv2d, x: np.ndarray) -> np.ndarray:
    """conv(x), or conv(x) + x, of x (B, C, H, W) with replicated edges, one tap at a time."""
    weight, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
    k = weight.shape[-1]
    padded = np.pad(x, [(0, 0), (0, 0), (k // 2, k // 2), (k // 2, k // 2)], "edge")
    out = np.zeros((x.shape[0], weight.shape[0], *x.shape[2:])) + bias[:, None, None]
    for v, u in np.ndindex(k, k):
        window = padded[:, :, v : v + x.shape[2], u : u + x.shape[3]]
        out += np.einsum("oi,bihw->bohw", weight[:, :, v, u], window)
    return out + x if layer.kind == "residual" else out


def make(input_ft: int, layers: list[str], **flags: bool) -> Synthesis:
    torch.manual_seed(0)
    synthesis = Synthesis(input_ft, layers, **flags).double()
    for parameter in synthesis.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return synthesis


@pytest.mark.parametrize("kernel_size", [1, 3, 5])
@pytest.mark.parametrize("kind", ["linear", "residual"])
@pytest.mark.parametrize("size", [(6, 7), (1, 1), (2, 1)])
def test_layer_equals_loops(kernel_size, kind, size):
    torch.manual_seed(0)
    layer = SynthesisConv2d(3, 3 if kind == "residual" else 4, kernel_size, kind=kind).double()
    torch.nn.init.normal_(layer.weight)
    torch.nn.init.normal_(layer.bias)
    x = torch.randn(2, 3, *size).double()
    np.testing.assert_allclose(
        layer(x).detach().numpy(), reference_layer(layer, x.numpy()), rtol=1e-11, atol=1e-12
    )


@pytest.mark.parametrize("stabiliser", [True, False])
@pytest.mark.parametrize("randomness", [True, False])
def test_synthesis_equals_its_layers_one_after_another(stabiliser, randomness):
    layers = ["8-1-linear-relu", "3-3-linear-none", "3-3-residual-relu", "3-5-residual-none"]
    synthesis = make(
        6, layers, flag_linear_stabiliser=stabiliser, flag_common_randomness=randomness
    )
    x = torch.randn(2, 6, 5, 7).double()
    expected = x.numpy()
    for conv, relu in zip(synthesis.main_branch[::2], (1, 0, 1, 0), strict=True):
        expected = reference_layer(conv, expected)
        # The non-linearity follows the residual sum.
        expected = np.maximum(expected, 0) if relu else expected
    if stabiliser:
        seen = 3 if randomness else 6
        weight = synthesis.stabiliser_branch.weight.detach().numpy()[:, :, 0, 0]
        bias = synthesis.stabiliser_branch.bias.detach().numpy()[:, None, None]
        assert weight.shape == (3, seen)
        expected = expected + np.einsum("oi,bihw->bohw", weight, x[:, :seen].numpy()) + bias
    np.testing.assert_allclose(synthesis(x).detach().numpy(), expected, rtol=1e-11, atol=1e-11)


def test_parsed_layers_are_the_same_as_text():
    texts = ["8-1-linear-relu", "3-3-residual-none"]
    with pytest.raises(UsageError, match="8 come in, so 3 cannot go out"):
        Synthesis(4, texts)
    texts[1] = "8-3-residual-none"
    from_text, x = make(4, texts), torch.randn(1, 4, 3, 3).double()
    from_layers = make(4, [parse_layer(text) for text in texts])
    assert torch.equal(from_text(x), from_layers(x))


def test_initial_values():
    torch.manual_seed(0)
    synthesis = Synthesis(10, ["64-3-linear-relu", "64-3-residual-none", "2-1-linear-none"])
    wide, residual, last = synthesis.main_branch[::2]
    stabiliser = synthesis.stabiliser_branch
    assert not residual.weight.any()
    assert not any(bias.any() for bias in synthesis.get_param("bias").values())
    for layer, fan_in, out in ((wide, 90, 64), (last, 64, 2), (stabiliser, 10, 2)):
        bound = 1 / (out**2 * fan_in**0.5)
        assert 0.8 * bound < layer.weight.abs().max().item() <= bound
    assert wide.weight.std().item() * 64**2 * 90**0.5 == pytest.approx(3**-0.5, rel=0.02)
    before = wide.weight.clone()
    wide.reset_parameters()
    assert not torch.equal(wide.weight, before)


def test_units_of_a_pointwise_first_layer_start_with_one_weight_for_all_inputs():
    texts = ["64-1-linear-relu", "2-1-linear-none"]
    torch.manual_seed(0)
    weight = Synthesis(10, texts).main_branch[0].weight
    assert torch.equal(weight, weight[:, :1].expand_as(weight))
    assert 0.08 < weight.abs().max().item() <= 0.1
    assert weight.min().item() < -0.05
    with_noise = Synthesis(10, texts, flag_common_randomness=True).main_branch[0].weight
    assert with_noise.abs().max().item() <= 1 / (64**2 * 10**0.5)


def test_a_difference_layer_may_be_the_first():
    synthesis, x = Synthesis(3, ["3-3-difference-none"]), torch.randn(1, 3, 4, 4)
    assert torch.equal(synthesis(x), x + synthesis.stabiliser_branch(x))


def test_residual_layer_starts_as_identity():
    layer, x = SynthesisConv2d(3, 3, 3, kind="residual"), torch.randn(1, 3, 4, 4)
    assert torch.equal(layer(x), x)


def test_get_param_gives_ordered_copies():
    synthesis = make(4, ["5-1-linear-relu", "3-1-linear-none", "3-3-residual-none"])
    everything = synthesis.get_param()
    assert isinstance(everything, OrderedDict)
    assert list(everything) == [name for name, _ in synthesis.named_parameters()]
    assert list(synthesis.get_param("weight")) == [
        "stabiliser_branch.weight",
        "main_branch.0.weight",
        "main_branch.2.weight",
        "main_branch.4.weight",
    ]
    assert len(synthesis.get_param("weight")) + len(synthesis.get_param("bias")) == len(everything)
    everything["main_branch.0.weight"].zero_()
    assert synthesis.main_branch[0].weight.all()
    assert not any(tensor.requires_grad for tensor in everything.values())
    with pytest.raises(UsageError, match="'weight', 'bias' or all"):
        synthesis.get_param("gain")


def test_gradients():
    synthesis = make(4, ["3-1-linear-relu", "2-3-linear-none", "2-3-residual-none"])
    names = list(synthesis.get_param())
    values = [value.requires_grad_() for value in synthesis.get_param().values()]
    x = torch.randn(1, 4, 3, 3).double().requires_grad_()

    def run(a, *tensors):
        named = dict(zip(names, tensors, strict=True))
        return torch.func.functional_call(synthesis, named, (a,))

    assert torch.autograd.gradcheck(run, (x, *values))


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([], "at least one layer"),
        (["12-3x3-adaptive-relu"], "layer 1 is a temporal"),
        (["3-3-residual-none"], "4 come in, so 3 cannot go out"),
    ],
)
def test_wrong_layers_are_refused(layers, message):
    with pytest.raises(UsageError, match=message):
        Synthesis(4, layers)


@pytest.mark.parametrize(
    "text", ["8-2-linear-relu", "8-1-linear", "8-1-lin-relu", "0-1-linear-none", "8-1-linear-tanh"]
)
def test_descriptions_that_do_not_parse_are_refused(text):
    with pytest.raises(NotationError, match="\\^"):
        Synthesis(4, [text])


def test_wrong_arguments_are_refused():
    with pytest.raises(UsageError, match="input_ft 5 is odd"):
        Synthesis(5, ["3-1-linear-none"], flag_common_randomness=True)
    with pytest.raises(UsageError, match="odd kernel"):
        SynthesisConv2d(3, 3, 2)
    with pytest.raises(UsageError, match="linear or residual"):
        SynthesisConv2d(3, 3, 3, kind="skip")
    with pytest.raises(UsageError, match=r"expects \(B, 4, H, W\), got \(1, 3, 2, 2\)"):
        Synthesis(4, ["3-1-linear-none"])(torch.zeros(1, 3, 2, 2))


def test_a_difference_layer_adds_weighted_differences_to_the_centre():
    torch.manual_seed(0)
    layer = DifferenceConv2d(2, 3).double()
    x = torch.randn(1, 2, 4, 5).double()
    np.testing.assert_array_equal(layer(x).detach(), x)
    torch.nn.init.normal_(layer.weight)
    weight = layer.weight.detach().numpy()
    padded = np.pad(x[0].numpy(), [(0, 0), (1, 1), (1, 1)], "edge")
    expected = x[0].numpy().copy()
    places = [(v, u) for v in range(3) for u in range(3) if (v, u) != (1, 1)]
    for (o, i), (k, (v, u)) in product(np.ndindex(2, 2), enumerate(places)):
        expected[o] += weight[o, i, k] * (padded[i, v : v + 4, u : u + 5] - x[0, i].numpy())
    np.testing.assert_allclose(layer(x)[0].detach(), expected, atol=1e-12)
    flat = torch.full((1, 2, 4, 5), 0.7).double()
    np.testing.assert_allclose(layer(flat).detach(), flat, atol=1e-12)


@pytest.mark.parametrize("texts", [["4-1-linear-none"], ["6-1-linear-relu", "4-1-linear-relu"]])
def test_a_balanced_synthesis_makes_zero_of_zeros(texts):
    synthesis = make(3, ["5-1-linear-relu", *texts], is_balanced=True)
    zeros, x = torch.zeros(1, 3, 2, 2).double(), torch.randn(1, 3, 2, 2).double()
    assert synthesis(zeros).abs().max() < 1e-12
    assert synthesis(x).abs().max() > 0.1
    names = [name for name, _ in synthesis.named_parameters() if name.endswith("bias")]
    assert len(names) == len(texts), "neither the last layer nor the stabiliser has a bias"
