"""SOAP for networks of some thousand parameters, where the calls cost more than the arithmetic."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

MAX_PRECONDITION_SIZE = 256


class Soap:
    """Adam in the eigenbases of Shampoo's preconditioner.

    For each axis of a tensor, G is the moving mean of the gradient contracted with itself over all
    other axes. Gradients are rotated into the eigenbases of all G, Adam makes its step there, and
    that is rotated back. The first step only measures. Bases come of an eigendecomposition then,
    and afterwards of one power iteration with QR every `precondition_every` steps, sorted by
    estimated eigenvalue. Vectors are not rotated, which makes it Adam for them; axes of length 1
    need no rotation and those over 256 get none.

    The steps are those of pytorch-optimizer's SOAP, which serves as the plain twin in the tests.

    Source: Vyas et al., "SOAP: Improving and Stabilizing Shampoo using Adam" (2024), algorithm 3.
    """

    def __init__(
        self,
        parameters: Sequence[nn.Parameter],
        *,
        betas: tuple[float, float],
        weight_decay: float,
        precondition_every: int,
        eps: float = 1e-8,
    ) -> None:
        self.parameters = list(parameters)
        self.betas, self.weight_decay, self.eps = betas, weight_decay, eps
        self.precondition_every, self.steps = precondition_every, 0
        self.vectors = [p for p in self.parameters if p.ndim == 1]
        self.tensors = [_Rotated(p) for p in self.parameters if p.ndim > 1]
        self.moments = [torch.zeros_like(_joined(self.vectors)) for _ in range(2)]

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self, lr: float) -> None:
        """Change every parameter; all must have gradients."""
        if self.steps:
            first, second = self.betas
            correction = math.sqrt(1 - second**self.steps) / (1 - first**self.steps)
            self._step_vectors(lr * correction)
            for tensor in self.tensors:
                tensor.update(self.betas, lr * correction, self.eps)
            torch._foreach_mul_(self.parameters, 1 - lr * self.weight_decay)
        for tensor in self.tensors:
            tensor.measure(self.betas[1])
            if self.steps == 0:
                tensor.decompose()
            elif self.steps % self.precondition_every == 0:
                tensor.refine()
        self.steps += 1

    def state(self) -> dict[str, Tensor]:
        """Copies of all moments and bases, and the number of steps."""
        state = {f"vectors/{i}": moment.clone() for i, moment in enumerate(self.moments)}
        for k, tensor in enumerate(self.tensors):
            state |= {f"{k}/{name}": t.clone() for name, t in tensor.state().items()}
        return state | {"steps": torch.tensor(self.steps)}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Go on with what `state` gave, for parameters of the same shapes."""
        self.steps = int(state["steps"])
        self.moments = [state[f"vectors/{i}"].clone() for i in range(2)]
        for k, tensor in enumerate(self.tensors):
            own = {n.removeprefix(f"{k}/"): t for n, t in state.items() if n.startswith(f"{k}/")}
            tensor.load(own)

    def adopt(self, other: Soap, sources: Mapping[nn.Parameter, nn.Parameter]) -> None:
        """Go on with what another one knows of the sources of some parameters, nothing of others.

        A source may have shorter axes: then it is the beginning of its parameter.
        """
        if other.steps == 0:
            return
        self.steps = other.steps
        moments, rotated = other._moments_by_vector(), {t.parameter: t for t in other.tensors}
        for number, own in enumerate(self.moments):
            parts = own.split([p.numel() for p in self.vectors])
            for vector, part in zip(self.vectors, parts, strict=True):
                if vector in sources:
                    part.copy_(moments[sources[vector]][number])
        for tensor in self.tensors:
            tensor.adopt(rotated.get(sources.get(tensor.parameter)))

    def _moments_by_vector(self) -> dict[nn.Parameter, tuple[Tensor, ...]]:
        sizes = [vector.numel() for vector in self.vectors]
        parts = (moment.split(sizes) for moment in self.moments)
        return dict(zip(self.vectors, zip(*parts, strict=True), strict=True))

    def _step_vectors(self, rate: float) -> None:
        if not self.vectors:
            return
        gradient = _joined([p.grad for p in self.vectors])
        mean, square = self.moments
        mean.lerp_(gradient, 1 - self.betas[0])
        square.lerp_(gradient.square(), 1 - self.betas[1])
        change = mean / (square.sqrt() + self.eps)
        parts = change.split([p.numel() for p in self.vectors])
        torch._foreach_add_(self.vectors, list(parts), alpha=-rate)


def _joined(vectors: Sequence[Tensor]) -> Tensor:
    return torch.cat(list(vectors)).detach() if vectors else torch.zeros(0)


def _eigenbasis(gram: Tensor) -> Tensor:
    """Eigenvectors as columns, largest eigenvalue first; the identity where none are found."""
    for matrix in (gram, gram.double()):
        try:
            vectors = torch.linalg.eigh(matrix).eigenvectors
        except torch.linalg.LinAlgError:  # repeated or denormal eigenvalues; or not finite ones
            continue
        return vectors.flip(1).to(gram.dtype).contiguous()
    return torch.eye(len(gram), dtype=gram.dtype, device=gram.device)


class _Rotated:
    """A tensor of two or more axes, seen without those of length 1, with its bases and moments."""

    def __init__(self, parameter: nn.Parameter) -> None:
        self.parameter = parameter
        self.shape = [size for size in parameter.shape if size > 1] or [1]
        self.mean, self.square = (parameter.new_zeros(self.shape) for _ in range(2))
        self.grams: list[Tensor | None] = [
            parameter.new_zeros(size, size) if size <= MAX_PRECONDITION_SIZE else None
            for size in self.shape
        ]
        self.bases: list[Tensor | None] = []

    @property
    def gradient(self) -> Tensor:
        return self.parameter.grad.reshape(self.shape)

    def update(self, betas: tuple[float, float], rate: float, eps: float) -> None:
        """One step of Adam in the bases."""
        gradient = self.gradient
        self.mean.lerp_(gradient, 1 - betas[0])
        self.square.lerp_(self._rotate(gradient).square(), 1 - betas[1])
        change = self._rotate(self.mean) / (self.square.sqrt() + eps)
        back = self._rotate(change, is_back=True)
        self.parameter.add_(back.reshape(self.parameter.shape), alpha=-rate)

    def measure(self, beta: float) -> None:
        """Take the gradient into the moving means that the bases come of."""
        gradient = self.gradient
        for axis, gram in enumerate(self.grams):
            if gram is not None:
                rows = gradient.movedim(axis, 0).reshape(self.shape[axis], -1)
                gram.lerp_(rows @ rows.T, 1 - beta)

    def decompose(self) -> None:
        """Bases from scratch, largest eigenvalue first."""
        self.bases = [None if gram is None else _eigenbasis(gram) for gram in self.grams]

    def refine(self) -> None:
        """One power iteration for every basis; the second moments follow its order."""
        for axis, gram in enumerate(self.grams):
            if gram is not None:
                product = gram @ self.bases[axis]
                order = (self.bases[axis] * product).sum(dim=0).argsort(descending=True)
                self.square = self.square.index_select(axis, order)
                self.bases[axis] = torch.linalg.qr(product[:, order]).Q.contiguous()

    def state(self) -> dict[str, Tensor]:
        """Moments, moving means and bases."""
        state = {"mean": self.mean, "square": self.square}
        for axis in range(len(self.shape)):
            if self.grams[axis] is not None:
                state[f"gram/{axis}"] = self.grams[axis]
                if self.bases:
                    state[f"basis/{axis}"] = self.bases[axis]
        return state

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Inverse of `state`."""
        self.mean, self.square = state["mean"].clone(), state["square"].clone()
        axes = range(len(self.shape))
        self.grams = [None if g is None else state[f"gram/{a}"].clone()
                      for a, g in zip(axes, self.grams, strict=True)]  # fmt: skip
        if any(name.startswith("basis/") for name in state):
            self.bases = [state.get(f"basis/{axis}") for axis in axes]

    def adopt(self, source: _Rotated | None) -> None:
        """Begin with what is known of a tensor that is as large, or is the beginning of this."""
        self.bases = [None if g is None else torch.eye(len(g)).to(g) for g in self.grams]
        if source is None or len(source.shape) != len(self.shape):
            return
        corner = tuple(slice(size) for size in source.shape)
        self.mean[corner], self.square[corner] = source.mean, source.square
        for own, other in ((self.grams, source.grams), (self.bases, source.bases)):
            for mine, known in zip(own, other, strict=True):
                if mine is not None and known is not None:
                    mine[: len(known), : len(known)] = known

    def _rotate(self, values: Tensor, *, is_back: bool = False) -> Tensor:
        """Every axis times its basis, or its transpose on the way back."""
        for basis in self.bases:
            # The first axis is contracted and comes back as the last: after all, they are in order.
            rows = values.reshape(values.shape[0], -1).T
            if basis is not None:
                rows = rows @ (basis.T if is_back else basis)
            values = rows.reshape(*values.shape[1:], -1)
        return values
