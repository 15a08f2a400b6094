"""Vectors and Hermitian matrices over the channels, plane by plane in real numbers.

Real planes are several times quicker than complex numbers, and need no matrix per bin:

- a vector over C channels has 2C planes, re and im of each channel: (N, 2C, [S,] T)
- a Hermitian matrix has C^2: the diagonal, then re and im of each entry above it in the order
  of `itertools.combinations`: (N, C^2, [S,] [T])

The gradient with respect to a Hermitian matrix is that of its C^2 real numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import torch
from torch import Tensor

__all__ = [
    "combine",
    "correlate",
    "invert",
    "multiply",
    "outer_gradient",
    "pairs",
    "products",
    "real_matrix",
]


def pairs(channels: int) -> list[tuple[int, int, int]]:
    """Row, column and first plane of the entries above the diagonal."""
    entries = combinations(range(channels), 2)
    return [(c, d, channels + 2 * n) for n, (c, d) in enumerate(entries)]


def products(x: Tensor) -> Tensor:
    """The Hermitian matrices x x^H, (N,2C,...) -> (N,C^2,...)."""
    channels = x.shape[1] // 2
    re, im = x[:, 0::2].unbind(1), x[:, 1::2].unbind(1)
    out = x.new_empty(x.shape[0], channels**2, *x.shape[2:])
    for c in range(channels):
        torch.mul(re[c], re[c], out=out[:, c]).addcmul_(im[c], im[c])
    for c, d, k in pairs(channels):
        torch.mul(re[c], re[d], out=out[:, k]).addcmul_(im[c], im[d])
        torch.mul(im[c], re[d], out=out[:, k + 1]).addcmul_(re[c], im[d], value=-1)
    return out


def multiply(matrix: Sequence[Tensor], x: Tensor) -> Tensor:
    """Hermitian matrices, C^2 planes (N,1,...) that broadcast, times vectors (N,2C,...)."""
    channels = x.shape[1] // 2
    shape = torch.broadcast_shapes(matrix[0].shape[2:], x.shape[2:])
    out = x.new_empty(x.shape[0], 2 * channels, *shape)
    for c in range(channels):
        torch.mul(matrix[c], x[:, 2 * c : 2 * c + 2], out=out[:, 2 * c : 2 * c + 2])
    for c, d, k in pairs(channels):
        re, im = matrix[k], matrix[k + 1]
        c_re, c_im, d_re, d_im = (slice(i, i + 1) for i in (2 * c, 2 * c + 1, 2 * d, 2 * d + 1))
        out[:, 2 * c : 2 * c + 2].addcmul_(re, x[:, 2 * d : 2 * d + 2])
        out[:, 2 * d : 2 * d + 2].addcmul_(re, x[:, 2 * c : 2 * c + 2])
        out[:, c_re].addcmul_(im, x[:, d_im], value=-1)
        out[:, c_im].addcmul_(im, x[:, d_re])
        out[:, d_re].addcmul_(im, x[:, c_im])
        out[:, d_im].addcmul_(im, x[:, c_re], value=-1)
    return out


def real_matrix(matrix: Tensor) -> Tensor:
    """Real matrices that do the same to re and im: (N,C^2,S) -> (N,2C*S,2C)."""
    rows = 2 * round(matrix.shape[1] ** 0.5)
    identity = torch.eye(rows, dtype=matrix.dtype, device=matrix.device)
    columns = identity.expand(len(matrix), -1, -1)[:, :, None]
    return multiply(matrix[..., None].split(1, 1), columns).flatten(1, 2)


def outer_gradient(h: Tensor, w: Tensor) -> Tensor:
    """Gradient of Re(h^H R w) with respect to R, (N,2C,S,T) and (N,2C,1,T) -> (N,C^2,S,T)."""
    channels = h.shape[1] // 2
    out = h.new_empty(h.shape[0], channels**2, *h.shape[2:])
    a, b = h[:, 0::2].unbind(1), h[:, 1::2].unbind(1)  # re and im of h
    p, q = w[:, 0::2].unbind(1), w[:, 1::2].unbind(1)  # re and im of w
    for c in range(channels):
        torch.mul(a[c], p[c], out=out[:, c]).addcmul_(b[c], q[c])
    for c, d, k in pairs(channels):
        re, im = out[:, k], out[:, k + 1]
        torch.mul(a[c], p[d], out=re).addcmul_(b[c], q[d])
        re.addcmul_(a[d], p[c]).addcmul_(b[d], q[c])
        torch.mul(b[c], p[d], out=im).addcmul_(a[c], q[d], value=-1)
        im.addcmul_(a[d], q[c]).addcmul_(b[d], p[c], value=-1)
    return out


def invert(matrix: Tensor) -> Tensor:
    """Inverse of positive definite matrices, (N,C^2,T)."""
    if matrix.shape[1] == 1:
        return matrix.reciprocal()
    if matrix.shape[1] > 4:
        return _invert_by_elimination(matrix)
    # two channels: the adjugate over the determinant
    first, second, re, im = matrix.unbind(1)
    factor = (first * second).addcmul_(re, re, value=-1).addcmul_(im, im, value=-1).reciprocal_()
    out = torch.empty_like(matrix)
    torch.mul(second, factor, out=out[:, 0])
    torch.mul(first, factor, out=out[:, 1])
    torch.mul(matrix[:, 2:], factor.neg_()[:, None], out=out[:, 2:])
    return out


def _invert_by_elimination(matrix: Tensor) -> Tensor:
    """Gauss-Jordan elimination written out over the few channels, vectorised over the rest.

    Positive definite matrices need no pivoting.
    """
    channels = round(matrix.shape[1] ** 0.5)
    zero = torch.zeros_like(matrix[:, 0])
    rows = [[torch.complex(zero, zero)] * (2 * channels) for _ in range(channels)]
    for c in range(channels):
        rows[c][c] = torch.complex(matrix[:, c], zero)
        rows[c][channels + c] = torch.complex(zero + 1, zero)
    for c, d, k in pairs(channels):
        rows[c][d] = torch.complex(matrix[:, k], matrix[:, k + 1])
        rows[d][c] = rows[c][d].conj()
    for k in range(channels):
        rows[k] = [entry / rows[k][k] for entry in rows[k]]
        for i in set(range(channels)) - {k}:
            factor = rows[i][k]
            rows[i] = [left - factor * above for left, above in zip(rows[i], rows[k])]
    planes = [rows[c][channels + c].real for c in range(channels)]
    for c, d, _ in pairs(channels):
        planes += [rows[c][channels + d].real, rows[c][channels + d].imag]
    return torch.stack(planes, dim=1)


# -- sums over sources and frames ---------------------------------------------------------

# Matrix products of float32 may be set to fewer bits (`torch.set_float32_matmul_precision`),
# those of float64 never are: in single precision the few terms are written out.


def combine(matrix: Tensor, planes: Tensor) -> Tensor:
    """Weighted sums of planes, (N,i,k) and (N,k,T) -> (N,i,T)."""
    if planes.dtype == torch.float64:
        return torch.bmm(matrix, planes)
    out = matrix[:, :, :1] * planes[:, :1]
    for k in range(1, planes.shape[1]):
        out.addcmul_(matrix[:, :, k : k + 1], planes[:, k : k + 1])
    return out


def correlate(u: Tensor, v: Tensor) -> Tensor:
    """Inner products over the frames, (N,i,T) and (N,j,T) -> (N,i,j)."""
    if u.dtype == torch.float64:
        return torch.bmm(u, v.mT)
    return torch.stack([(plane[:, None] * v).sum(-1) for plane in u.unbind(1)], dim=1)
