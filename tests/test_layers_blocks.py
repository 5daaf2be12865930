"""Temporal blocks against baked kernels, frame by frame, and the tensors that they transmit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from codec.errors import UsageError
from codec.layers import (
    TemporalAdaptive,
    TemporalCK,
    TemporalConv,
    apply_adaptive,
    apply_ck,
    apply_conv,
)


def randomize(block: torch.nn.Module) -> torch.nn.Module:
    """Every parameter non-zero, so that no term of the formula is hidden."""
    for parameter in block.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.5)
    return block.double()


def frame_at(x: np.ndarray, weights: np.ndarray, t: int, dilation: int = 1) -> np.ndarray:
    """Output frame t of a 3-D cross-correlation of x (T, C, H, W) with replicated edges."""
    frames, _, rows, columns = x.shape
    kt, k = weights.shape[2:4]
    pad = dilation * (k // 2)
    padded = np.pad(x, [(0, 0), (0, 0), (pad, pad), (pad, pad)], "edge")
    out = np.zeros((weights.shape[0], rows, columns))
    for j, v, u in np.ndindex(kt, k, k):
        source = min(max(t + dilation * (j - kt // 2), 0), frames - 1)
        top, left = v * dilation, u * dilation
        window = padded[source, :, top : top + rows, left : left + columns]
        out += np.tensordot(weights[:, :, j, v, u], window, axes=1)
    return out


def adaptive_frame(block: TemporalAdaptive, x: np.ndarray, t: int) -> np.ndarray:
    """Frame t of a TemporalAdaptive with its kernel modulated for that frame alone."""
    named = {name: tensor.detach().numpy() for name, tensor in block.tensors().items()}
    weights = named["weight"].copy()
    number = block.owners[t] if "codes" in named else 0
    if number:
        weights *= (1 + named["code_map"] @ named["codes"][number - 1])[:, None, None, None]
    if block.conv.demod:
        weights /= np.sqrt((weights**2).sum((1, 2, 3, 4), keepdims=True))
    out = frame_at(x, weights, t) + named["bias"][:, None, None]
    out = np.maximum(out, 0) if block.relu else out
    out = out * named["gate"][:, None, None] if "gate" in named else out
    return out + x[t] if block.residual else out


@given(
    owners=st.lists(st.integers(0, 4), min_size=1, max_size=7),
    kernels=st.sampled_from([(3, 3), (1, 3), (5, 1), (9, 3)]),
    demod=st.booleans(),
    residual=st.booleans(),
    gated=st.booleans(),
    relu=st.booleans(),
    code_dim=st.integers(0, 2),
)
@settings(deadline=None, max_examples=60, derandomize=True)
def test_adaptive_equals_kernels_baked_for_each_frame(
    owners, kernels, demod, residual, gated, relu, code_dim
):
    torch.manual_seed(0)
    block = randomize(
        TemporalAdaptive(
            3,
            dim_out=3 if residual else 2,
            time_kernel=kernels[0],
            spatial_kernel=kernels[1],
            demod=demod,
            residual=residual,
            gated=gated,
            relu=relu,
            code_dim=code_dim,
            owners=owners,
            num_codes=5,
        )
    )
    x = torch.randn(len(owners), 3, 4, 5).double()
    out = block(x).detach().numpy()
    for t in range(len(owners)):
        expected = adaptive_frame(block, x.numpy(), t)
        np.testing.assert_allclose(out[t], expected, rtol=1e-10, atol=1e-11)


def test_adaptive_tensors():
    block = TemporalAdaptive(
        4, spatial_kernel=3, time_kernel=5, dim_out=6, gated=True, code_dim=2,
        owners=(0, 2, 1), num_codes=3,
    )  # fmt: skip
    shapes = {name: tuple(tensor.shape) for name, tensor in block.tensors().items()}
    assert shapes == {
        "weight": (6, 4, 5, 3, 3), "bias": (6,), "gate": (6,), "code_map": (4, 2), "codes": (2, 2),
    }  # fmt: skip
    assert sum(p.numel() for p in block.parameters()) == sum(map(np.prod, shapes.values()))
    plain = TemporalAdaptive(4, spatial_kernel=1, time_kernel=1)
    assert set(plain.tensors()) == {"weight", "bias"}
    single = TemporalAdaptive(4, spatial_kernel=1, time_kernel=1, code_dim=3)
    assert single.tensors()["codes"].shape == (0, 3)


def test_adaptive_starts_as_identity_and_can_leave_it():
    torch.manual_seed(0)
    block = TemporalAdaptive(
        3, spatial_kernel=3, time_kernel=3, residual=True, gated=True, code_dim=2,
        owners=(0, 1, 1, 0), num_codes=2,
    )  # fmt: skip
    x, target = torch.randn(4, 3, 6, 6), torch.randn(4, 3, 6, 6)
    assert torch.equal(block(x), x)
    optimizer = torch.optim.SGD(block.parameters(), lr=0.05)
    before = {name: tensor.detach().clone() for name, tensor in block.tensors().items()}
    for _ in range(4):
        optimizer.zero_grad()
        (block(x) - target).square().sum().backward()
        optimizer.step()
    for name, tensor in block.tensors().items():
        assert not torch.equal(tensor, before[name]), name


def test_codes_that_no_frame_has_get_gradients_of_zero():
    torch.manual_seed(0)
    options = {"spatial_kernel": 1, "time_kernel": 1, "code_dim": 2, "num_codes": 5}
    x = torch.randn(3, 2, 4, 4).double()
    for owners, unused in (((0, 4, 2), [0, 2]), ((0, 0, 0), [0, 1, 2, 3])):
        block = randomize(TemporalAdaptive(2, owners=owners, **options))
        block(x).square().sum().backward()
        assert all(parameter.grad.isfinite().all() for parameter in block.parameters())
        assert (block.codes.grad == 0).all(dim=1).nonzero().flatten().tolist() == unused


@pytest.mark.parametrize("owners", [(0, 1), (0, 1, 3), (0, -1, 1), (0, 1, 2, 0)])
def test_owners_that_do_not_fit_are_refused(owners):
    block = TemporalAdaptive(
        2, spatial_kernel=1, time_kernel=1, code_dim=2, owners=owners, num_codes=3
    )
    with pytest.raises(UsageError, match=r"3 frames have codes .*, the layer has 0 to 2"):
        block(torch.zeros(3, 2, 3, 3))


@given(
    num_frames=st.integers(1, 12),
    reach=st.integers(0, 6),
    is_causal=st.booleans(),
)
@settings(deadline=None, max_examples=40, derandomize=True)
def test_ck_equals_convolution_in_time(num_frames, reach, is_causal):
    torch.manual_seed(0)
    block = randomize(TemporalCK(3, time_kernel=2 * reach + 1, is_causal=is_causal))
    taps = block.taps().detach().numpy()
    assert taps.shape == (3, 2 * reach + 1)
    assert not is_causal or not taps[:, :reach].any()
    x = torch.randn(num_frames, 3, 2, 4).double()
    out = block(x).detach().numpy()
    for c, v, u in np.ndindex(3, 2, 4):
        full = np.convolve(x[:, c, v, u].numpy(), taps[c])
        np.testing.assert_allclose(
            out[:, c, v, u], full[reach : reach + num_frames], rtol=1e-9, atol=1e-12
        )


@pytest.mark.parametrize("is_causal", [False, True])
def test_ck_taps_are_the_kernel_of_ckconv(is_causal):
    torch.manual_seed(0)
    block = randomize(TemporalCK(4, time_kernel=9, is_causal=is_causal))
    x = torch.randn(5, 4, 3, 2).double()
    # On L + 1 frames the long convolution and the taps are the same thing.
    sequences = x.permute(2, 3, 1, 0).flatten(0, 1)
    whole = block.ck(sequences).unflatten(0, (3, 2)).permute(3, 2, 0, 1)
    torch.testing.assert_close(block(x), whole, rtol=1e-9, atol=1e-11)
    assert block.tensors()["taps"].shape == (4, 5 if is_causal else 9)


def test_ck_starts_as_identity_and_can_leave_it():
    torch.manual_seed(0)
    block, x = TemporalCK(3, time_kernel=7), torch.randn(5, 3, 4, 4)
    torch.testing.assert_close(block(x), x, rtol=0, atol=0)
    assert block.taps().tolist() == [[0, 0, 0, 1, 0, 0, 0]] * 3
    (block(x) - x.roll(1, 0)).square().sum().backward()
    assert block.ck.kernel.out.weight.grad.abs().min() > 0
    assert block.ck.shortcut.grad.abs().min() > 0
    assert block.ck.mask.weight.grad is None


def test_ck_taps_out_of_reach_cost_nothing():
    torch.manual_seed(0)
    block = randomize(TemporalCK(2, time_kernel=11, num_frames=3))
    taps = block.taps()
    assert not taps[:, :3].any()
    assert not taps[:, 8:].any()
    assert taps[:, 3:8].all()


@given(
    num_frames=st.integers(1, 5),
    kernels=st.sampled_from([(3, 3), (1, 3), (5, 1)]),
    dilation=st.integers(1, 2),
    groups=st.sampled_from([1, 2, 4]),
    residual=st.booleans(),
    gated=st.booleans(),
    relu=st.booleans(),
)
@settings(deadline=None, max_examples=40, derandomize=True)
def test_conv_equals_loops_and_conv3d(num_frames, kernels, dilation, groups, residual, gated, relu):
    torch.manual_seed(0)
    block = randomize(
        TemporalConv(
            4,
            time_kernel=kernels[0],
            spatial_kernel=kernels[1],
            dilation=dilation,
            groups=groups,
            residual=residual,
            gated=gated,
            relu=relu,
        )
    )
    named = {name: tensor.detach() for name, tensor in block.tensors().items()}
    assert named["weight"].shape == (4, 4 // groups, kernels[0], kernels[1], kernels[1])
    x = torch.randn(num_frames, 4, 4, 5).double()
    branch = block.conv(x.transpose(0, 1)[None])[0].transpose(0, 1)
    branch = branch.relu() if relu else branch
    branch = branch * named["gate"][:, None, None] if gated else branch
    torch.testing.assert_close(block(x), branch + x if residual else branch)
    if groups == 1:
        bare = apply_conv(x, weight=named["weight"], bias=named["bias"], dilation=dilation)
        for t in range(num_frames):
            expected = frame_at(x.numpy(), named["weight"].numpy(), t, dilation)
            expected += named["bias"].numpy()[:, None, None]
            np.testing.assert_allclose(bare[t].numpy(), expected, rtol=1e-10, atol=1e-11)


def test_rounded_tensors_meet_the_same_mathematics():
    torch.manual_seed(0)
    x = torch.randn(5, 2, 4, 4).double()
    blocks = (
        TemporalAdaptive(
            2, spatial_kernel=3, time_kernel=3, gated=True, residual=True, code_dim=2,
            owners=(0, 2, 1, 2, 1), num_codes=3,
        ),
        TemporalCK(2, time_kernel=5, is_causal=True),
        TemporalConv(2, spatial_kernel=3, time_kernel=3, gated=True, relu=True),
    )  # fmt: skip
    for block in map(randomize, blocks):
        rounded = {name: (tensor * 8).round() / 8 for name, tensor in block.tensors().items()}
        out = block.forward_with(x, rounded)
        assert not torch.equal(out, block(x))
        if isinstance(block, TemporalCK):
            assert torch.equal(out, apply_ck(x, rounded["taps"], first_lag=0))
        elif isinstance(block, TemporalConv):
            assert torch.equal(out, apply_conv(x, **rounded, relu=True))
        else:
            bare = apply_adaptive(x, **rounded, owners=block.owners, residual=True)
            assert torch.equal(out, bare)


def test_gradients():
    torch.manual_seed(0)
    x = torch.randn(3, 2, 3, 3).double().requires_grad_()
    adaptive = randomize(
        TemporalAdaptive(
            2,
            spatial_kernel=3,
            time_kernel=3,
            gated=True,
            code_dim=2,
            owners=(1, 0, 2),
            num_codes=4,
        )
    )
    names = list(adaptive.tensors())
    values = [adaptive.tensors()[name].detach().clone().requires_grad_() for name in names]
    assert torch.autograd.gradcheck(
        lambda a, *ts: adaptive.forward_with(a, dict(zip(names, ts, strict=True))), (x, *values)
    )
    taps = torch.randn(2, 5).double().requires_grad_()
    assert torch.autograd.gradcheck(apply_ck, (x, taps))
    weight = torch.randn(2, 1, 3, 3, 3).double().requires_grad_()
    bias = torch.randn(2).double().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda a, w, b: apply_conv(a, weight=w, bias=b, groups=2, dilation=2), (x, weight, bias)
    )


@pytest.mark.parametrize(
    ("block", "options", "message"),
    [
        (TemporalAdaptive, {"time_kernel": 2}, "time_kernel is 2: it must be odd"),
        (TemporalAdaptive, {"dim_out": 5, "residual": True}, "4 come in, so 5 cannot go out"),
        (TemporalAdaptive, {"code_dim": -1}, "at least 0"),
        (TemporalAdaptive, {"num_codes": 0}, "num_codes 0 at least 1"),
        (TemporalConv, {"spatial_kernel": 4}, "odd kernels"),
        (TemporalConv, {"dim_out": 5, "residual": True}, "4 come in, so 5 cannot go out"),
    ],
)
def test_wrong_arguments_are_refused(block, options, message):
    with pytest.raises(UsageError, match=message):
        block(4, **{"spatial_kernel": 3, "time_kernel": 3, **options})


def test_wrong_shapes_are_refused():
    with pytest.raises(UsageError, match="time_kernel 4 must be odd"):
        TemporalCK(2, time_kernel=4)
    for block in (
        TemporalAdaptive(3, spatial_kernel=3, time_kernel=3),
        TemporalConv(3, spatial_kernel=3, time_kernel=3),
        TemporalCK(3, time_kernel=3),
    ):
        with pytest.raises(UsageError, match=r"expects \(T, 3, H, W\), got \(2, 4, 5, 5\)"):
            block(torch.zeros(2, 4, 5, 5))
        with pytest.raises(UsageError, match=r"expects \(T, 3, H, W\)"):
            block(torch.zeros(0, 3, 5, 5))
