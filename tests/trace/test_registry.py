# ruff: noqa: E501
"""Every traced NumPy function gives NumPy's own value, and its graph that of other parameters."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import overrides

from fastcheck.params import ParamTree
from fastcheck.trace.registry import CONSTANT_ONLY, REFUSED, TRACED, named
from fastcheck.trace.surface import dotted, surface, table, version
from fastcheck.trace.tape import Untraceable
from fastcheck.trace.tracer import trace

from .conftest import traced

# x: (3, 4), s: (3, 3), v: (4,), t: (2, 3, 4); all parameters.
CALLS = """
np.reshape(x, (4, 3)) | np.reshape(x, (2, -1), order='F') | np.reshape(x.T, -1, order='A')
np.ravel(x) | np.ravel(x.T) | np.ravel(x.T, order='K') | np.ravel(x, order='F')
np.transpose(x) | np.transpose(t, (1, 2, 0)) | np.permute_dims(t, (2, 0, 1))
np.swapaxes(t, 0, 2) | np.matrix_transpose(t) | np.moveaxis(t, 0, -1) | np.moveaxis(t, [0, 1], [1, 2])
np.rollaxis(t, 2) | np.rollaxis(t, 0, 3) | np.squeeze(x[None, :, None]) | np.squeeze(x[None], axis=0)
np.expand_dims(x, (0, 2)) | np.broadcast_to(v, (3, 4)) | np.broadcast_arrays(x, v)
np.atleast_1d(x[0, 0]) | np.atleast_2d(v) | np.atleast_3d(v) | np.atleast_3d(x) | np.atleast_2d(v, x)
np.flip(x) | np.flip(t, (0, 2)) | np.fliplr(x) | np.flipud(x) | np.rot90(x) | np.rot90(x, -1)
np.roll(x, 2) | np.roll(x, (1, -1), axis=(0, 1)) | np.shape(x) | np.ndim(x) | np.size(x) | np.size(x, 1)
np.iscomplexobj(x) | np.isrealobj(x) | np.result_type(x, np.float32).itemsize
np.sum(x) | np.sum(x, axis=0) | np.sum(x, axis=(0, 1), keepdims=True) | np.sum(x, initial=2.0)
np.sum(x, where=x > 0) | np.sum(x > 0, axis=1) | np.sum(x, dtype=np.float64) | np.sum(t, axis=(0, -1))
np.prod(x, axis=1) | np.prod(x, initial=2.0) | np.prod(x, axis=0, where=x > 0)
np.max(x, axis=1, keepdims=True) | np.max(t, axis=(0, 2)) | np.max(x, initial=0.5)
np.amax(x) | np.min(x, axis=0) | np.amin(x, axis=-1) | np.min(x, axis=0, initial=1, where=x > 0)
np.mean(x) | np.mean(x, 0) | np.mean(x, axis=1, where=x > -9) | np.mean(t, axis=(0, 1))
np.var(x, axis=1, ddof=1) | np.var(x) | np.var(x, axis=0, correction=1) | np.std(x, 0) | np.std(x)
np.average(x, axis=1) | np.average(x, axis=1, weights=v ** 2) | np.average(x, weights=x ** 2)
np.ptp(x, axis=0) | np.cumsum(x) | np.cumsum(x, axis=1) | np.cumprod(x, axis=0) | np.cumprod(x)
np.diff(x) | np.diff(x, n=2, axis=0) | np.argmax(x, axis=1) | np.argmin(x) | np.argmax(x, 0, keepdims=True)
np.any(x > 0.5, axis=0) | np.all(x > -0.2, axis=1, keepdims=True) | np.count_nonzero(x > 0)
np.argsort(x, axis=0) | np.argsort(x) | np.sort(x) | np.sort(x, axis=None) | np.median(x, axis=1)
np.median(x) | np.median(v) | np.where(x > 0, x, 0) | np.where(x > 0) | np.where(v, v, 1)
np.clip(x, -0.5, 0.5) | np.clip(x, None, v) | np.clip(x, min=0) | np.clip(x, a_min=0, a_max=None)
np.select([x > 1, x > 0], [x, x ** 2], -x) | np.nan_to_num(x) | np.nan_to_num(x / (x > 0))
np.tril(x) | np.triu(x, 1) | np.tril(t, -1) | np.round(x, 1) | np.around(x) | np.fix(x * 3)
np.sinc(x) | np.real(x) | np.copy(x.T) | np.searchsorted(np.arange(4.0), v) | np.searchsorted(s[0], v)
[c := x.copy(), np.copyto(c, v)][0] | [c := x.copy(), np.copyto(c, v, where=x > 0)][0]
np.array_equal(x, x) | np.isclose(x, x + 1e-9) | np.allclose(x, v)
np.take(x, [0, 2, 0], axis=1) | np.take(x, [[5, -1]]) | np.take(v, [7, 9], mode='wrap')
np.lib.stride_tricks.sliding_window_view(x, (2, 2)) | np.take(v, 9, mode='clip')
np.lib.stride_tricks.sliding_window_view(t, 2, axis=1) | np.take_along_axis(x, np.argsort(x, 1), axis=1)
[c := x.copy(), np.put_along_axis(c, np.array([[1], [0], [2]]), 9.0, 1)][0]
[c := s.copy(), np.fill_diagonal(c, 2.0)][0] | [c := x.copy(), np.fill_diagonal(c, v[:3])][0]
np.compress([True, False, True], x, axis=0) | np.compress(v > 0, x, 1) | np.extract(x > 0, x)
np.delete(x, 1, axis=1) | np.delete(x, [0, 5]) | np.diagonal(t, 1, 1, 2) | np.diagonal(s)
np.trace(s) | np.trace(t, axis1=1, axis2=2) | np.diag(s) | np.diag(v, -1) | np.diag(x, 1)
np.diagflat(x) | np.nonzero(x > 0) | np.flatnonzero(x > 0) | np.argwhere(x > 0)
np.concatenate([x, s], axis=1) | np.concatenate([x, v], axis=None) | np.stack([x, x], axis=-1)
np.vstack([x, v]) | np.hstack([x, s]) | np.hstack([v, v]) | np.dstack([x, x]) | np.dstack([v, v])
np.column_stack([v, v, x.T]) | np.append(x, v) | np.append(x, x, axis=0) | np.vstack(t)
np.block([[s, x], [x, s]]) | np.block([v, v]) | np.array_split(v, 3) | np.split(x, 2, axis=1)
np.split(v, [1, 3]) | np.vsplit(x, 3) | np.hsplit(x, 2) | np.hsplit(v, 2) | np.dsplit(t, [1, 3])
np.tile(x, 2) | np.tile(v, (2, 2)) | np.tile(x, (2, 1, 1)) | np.repeat(x, 2) | np.repeat(x, [1, 0, 2], 0)
np.pad(x, 1) | np.pad(x, ((1, 0), (0, 2)), constant_values=3) | np.pad(x, (1, 2), mode='reflect')
np.pad(v, 2, mode='edge') | np.pad(x, 1, mode='wrap') | np.pad(x, {0: (1, 1)}) | np.pad(x, 1, 'symmetric')
np.matmul(x, v) | np.matmul(s, x) | np.matmul(v, x.T) | np.matmul(t, v) | np.matmul(s, t)
np.matmul(t, t.transpose(0, 2, 1)) | np.matmul(v, v) | np.matmul(x > 0, v > 0)
np.dot(x, v) | np.dot(s, x) | np.dot(v, v) | np.dot(t, v) | np.dot(s, t) | np.dot(x, 2.0) | np.dot(t, x.T)
np.inner(x, v) | np.inner(x, x) | np.inner(v, v) | np.outer(v, x) | np.vdot(x, x) | np.inner(2.0, x)
np.tensordot(x, x) | np.tensordot(s, x, axes=1) | np.tensordot(t, x, axes=([1, 2], [0, 1]))
np.tensordot(x, v, axes=0) | np.tensordot(t, x, axes=(2, 1)) | np.linalg.multi_dot([s, x, v])
np.einsum('ij,j', x, v) | np.einsum('ij,kj->ik', x, x) | np.einsum('ii', s) | np.einsum('ii->i', s)
np.einsum('...ij,jk->...ik', t, x.T) | np.einsum('ij->', x) | np.einsum('ij->ji', x) | np.einsum('ba', x)
np.einsum(x, [0, 1], v, [1], [0]) | np.einsum('ij,jk,k', s, x, v) | np.einsum('i,j->ij', v, v)
np.einsum('aij,aij->a', t, t) | np.einsum('i...,i...->...', x, x) | np.einsum('ij,ij', x, x[:1])
np.einsum('iij,j->i', s[:, :, None] * v, v) | np.einsum(t, [0, 1, ...], x, [1, ...], [0, ...])
np.vecdot(x, v) | np.vecdot(x, s[:, :1], axis=0) | np.matvec(s, x.T) | np.vecmat(v, x.T)
np.linalg.solve(s + 3 * np.eye(3), x) | np.linalg.inv(s + 3 * np.eye(3)) | np.linalg.det(s)
np.linalg.norm(x) | np.linalg.norm(v, 1) | np.linalg.norm(x, axis=1) | np.linalg.norm(v, np.inf)
np.linalg.norm(x, 'fro') | np.linalg.norm(v, 3) | np.linalg.norm(v, -np.inf) | np.linalg.norm(t)
np.nansum(np.log(x), axis=1) | np.nansum(x) | np.nanmean(np.sqrt(x), axis=0, keepdims=True) | np.nanmean(x)
np.nanmax(np.log(x), axis=1) | np.nanmin(np.log(x)) | np.nanprod(np.sqrt(x), axis=0)
np.convolve(v, s[0]) | np.convolve(s[0], v, 'same') | np.convolve(v, v[:2], 'valid') | np.convolve(v, s[0], 1)
np.correlate(v, s[0]) | np.correlate(s[0], v, 'full') | np.correlate(v, v[:2], 'same')
np.correlate(v[:2], v, 'same') | np.correlate(v, np.arange(3.0), 'full') | np.convolve(np.ones(6), v, 'same')
np.kron(s, x) | np.kron(v, s) | np.kron(x, np.ones((2, 2))) | np.kron(np.eye(2), t)
np.apply_along_axis(lambda r: r / r.sum(), 1, x) | np.apply_along_axis(np.sum, 0, t)
np.apply_along_axis(lambda r, k: np.outer(r, r) * k, 1, t, 2.0) | np.apply_along_axis(np.argmax, -1, x)
np.insert(x, 0, 1, axis=1) | np.insert(x, 4, 1.0, axis=1) | np.insert(x, 1, v, axis=0) | np.insert(v, 2, x[0])
np.insert(x, [1], [[1], [2], [3]], axis=1) | np.insert(x, [0, 2, 2], 5.0, axis=0) | np.insert(x, 3, 0.5)
np.insert(x, slice(0, 3, 2), s[:, :2], axis=1) | np.insert(np.ones((2, 4)), -1, v, axis=0)
np.insert(x, 1, s[:, :2].T, axis=1) | np.insert(x, [1, 3], s[:, :2], axis=1)
x[np.unravel_index(np.argmax(x), x.shape)] | np.unravel_index(np.argmin(x, axis=1), (2, 2))
np.choose([0, 2, 1, 0], s[:, :1] * v) | np.choose(np.argmax(x, 0), [v, 2 * v, 3.0]) | np.choose([5, -1], [v[:2], v[2:]], mode='clip')
[c := x.copy(), np.put(c, [0, -1, 5], v)][0] | [c := x.T.copy(), np.put(c, [1, 14], 2.0, mode='wrap')][0]
[c := x.copy(), np.putmask(c, x > 0.3, 2 * x)][0] | [c := x.copy(), np.putmask(c, x > 0.3, [1.0, 2.0])][0]
[c := x.copy(), np.place(c, x > 0.3, 0.0)][0]
np.partition(x, 2, axis=1) | np.partition(x, [1, 2], axis=None) | np.argpartition(x, -2, axis=1)[:, -1]
np.linalg.norm(x, axis=0, keepdims=True) | np.zeros_like(x) + x | np.ones_like(x, dtype=float) * x
np.empty_like(x) * 0 | np.full_like(x, 2.0) | np.full_like(x, v[0]) | np.zeros_like(x, shape=(2, 2))
np.angle(x) | np.angle(x, deg=True) | np.imag(x) | np.isreal(x) | np.iscomplex(x) | np.real_if_close(x)
np.astype(x, np.float32) * 1.0 | np.i0(x) | np.isposinf(x / (x > 0)) | np.isneginf(-x / (x > 0))
np.array_equiv(x, x[None]) | np.array_equiv(x, t) | np.array_equiv(x, s) | np.isin(np.argmax(x, 1), [0, 2]) | np.isin([0, 1, 2], np.argmin(x, 0), invert=True)
np.trapezoid(x) | np.trapezoid(x, dx=0.5, axis=0) | np.trapezoid(x, np.cumsum(v)) | np.trapezoid(t, t ** 2, axis=1)
np.gradient(v) | np.gradient(x) | np.gradient(x, 0.5, axis=1) | np.gradient(x, [0, 1, 3.0], np.cumsum(v ** 2))
np.gradient(x, 2.0, edge_order=2) | np.gradient(v, [0, 1, 3.0, 4.0], edge_order=2) | np.gradient(t, axis=(0, 2))
np.ediff1d(x) | np.ediff1d(v, to_end=9.0, to_begin=[v[0], 1.0]) | np.diff(x, prepend=0) | np.diff(x, append=x[:1], axis=0)
np.unwrap(np.cumsum(4 * v)) | np.unwrap(9 * x, axis=0) | np.unwrap(x, 0.1, period=0.4)
np.interp(x, [0.0, 0.3, 0.8], [1.0, 3.0, 2.0]) | np.interp([0.1, 0.5, 9.0], [0.0, 0.4, 1.0], v[:3], left=v[3])
np.interp(v, np.cumsum(abs(s[0])), s[1], right=-1.0) | np.interp(0.2, [0.0, 0.4, 1.0], s[0])
np.cross(x[:, :3], s) | np.cross(s, s[0], axis=0) | np.cross(x, x[::-1], axisa=0, axisb=0, axisc=0)
np.linalg.cross(s, x[:, 1:]) | np.cov(x) | np.cov(x, rowvar=False) | np.cov(v, x[0]) | np.cov(v, bias=True) | np.cov(x, ddof=0)
np.corrcoef(x) | np.corrcoef(v, x[0]) | np.corrcoef(v) | np.corrcoef(x, rowvar=False)
np.quantile(x, 0.3) | np.quantile(x, [0.1, 0.9], axis=0) | np.quantile(t, [[0.2], [0.5]], axis=(0, 2), keepdims=True)
np.quantile(x, 0.4, method='lower') | np.quantile(x, 0.4, axis=1, method='nearest') | np.quantile(v, 0.3, method='hazen')
np.quantile(x, 0.5, method='midpoint') | np.quantile(x, [0.25, 0.75], method='median_unbiased', axis=1)
np.percentile(x, 30, axis=1) | np.percentile(x, [25, 75]) | np.median(t, axis=(0, 1)) | np.median(x, 1, keepdims=True)
np.digitize(x, [0.0, 0.4]) | np.digitize(x, [0.4, 0.0], right=True) | np.bincount([0, 2, 2, 1], weights=v) | np.bincount(np.argmax(x, 1), minlength=5)
np.polyval(v, x) | np.polyval([1.0, 2.0], v) | np.polyval(v, 2.0) | np.polyder(v) | np.polyder(v, 2) | np.polyint(v) | np.polyint(v, 2, [1.0, v[0]])
np.polyadd(v, s[0]) | np.polysub(s[0], v) | np.polymul(v, s[0]) | np.polymul([0.0, 1.0], v) | np.vander(v) | np.vander(v, 2) | np.vander(v, 3, increasing=True)
np.cumulative_sum(v) | np.cumulative_sum(x, axis=1, include_initial=True) | np.cumulative_prod(x, axis=0) | np.cumulative_prod(v, include_initial=True)
np.nanvar(np.log(x), axis=0) | np.nanstd(np.sqrt(x), ddof=1) | np.nancumsum(np.log(x), axis=1) | np.nancumprod(np.log(x))
np.nanargmax(np.log(x), axis=0) | np.nanargmin(np.log(x)) | np.var(x, axis=1, where=x > 0) | np.average(x, 0, x ** 2, returned=True)
np.average(x, axis=1, returned=True) | np.resize(x, (5, 3)) | np.resize(v, 9) | np.unstack(x) | np.unstack(x, axis=1) | np.meshgrid(v, s[0])
np.meshgrid(v, s[0], [1.0, 2.0], indexing='ij') | np.meshgrid(v, s[0], sparse=True) | np.trim_zeros(np.maximum(v, 0)) | np.trim_zeros(v * (v > 0.3), 'b')
np.can_cast(x.dtype, int) | np.common_type(x, v).__name__ == 'float64' | len(np.array2string(x)) > 0 | len(np.array_str(x)) > 0 | len(np.array_repr(x)) > 0
len(np.einsum_path('ij,j', x, v)) | x[np.ix_([0, 2], np.argsort(v))] | np.lexsort((v, s[0, 0] * v)) | np.lexsort(x)
np.ravel_multi_index((np.argmax(x, 0), [0, 1, 2, 3]), (3, 4)) | np.diag_indices_from(s) | np.tril_indices_from(x) | np.triu_indices_from(x, 1)
np.shares_memory(x, x[1:]) | np.shares_memory(x[0], x[1:]) | np.may_share_memory(x, v) | np.fft.fftshift(x) | np.fft.ifftshift(x, axes=1) | np.fft.fftshift(s, (0,))
np.piecewise(x, [x < 0, x > 0.5], [-1.0, lambda y: y ** 2, lambda y: y / y.sum()]) | np.piecewise(v, [v > 0], [lambda y, k: y * k], 3.0) | np.piecewise(v, v > 0, [1.0, 2.0])
np.apply_over_axes(np.sum, t, [0, 2]) | np.apply_over_axes(np.max, x, 1)
np.linspace(v[0], 2.0, 5) | np.linspace(v, s[0, 0], 3, axis=1) | np.linspace(0.0, v, 4, endpoint=False) | np.linspace(0.0, v[1], 4, retstep=True) | np.logspace(v[0], v, 3) | np.logspace(0.0, 1.0, 3, base=v ** 2)
np.linalg.cholesky(s @ s.T + np.eye(3)) | np.linalg.slogdet(s) | np.linalg.slogdet(s + 3 * np.eye(3))[1] | np.linalg.pinv(x) | np.linalg.pinv(x, 1e-3)
np.linalg.eigvalsh(s + s.T) | abs(np.linalg.eigh(s + s.T)[1]) | np.linalg.eigh(s + s.T, 'U').eigenvalues | np.linalg.qr(s) | np.linalg.qr(x.T, mode='complete').R
np.linalg.svd(x, compute_uv=False) | np.linalg.svd(x)[1] | abs(np.linalg.svd(x, full_matrices=False).U) | np.linalg.svdvals(x)
np.linalg.lstsq(x.T, v)[0] | np.linalg.lstsq(x.T, v, rcond=None)[1] | np.linalg.matrix_power(s, 3) | np.linalg.matrix_power(s + 3 * np.eye(3), -2) | np.linalg.matrix_power(s, 0) | np.linalg.matrix_power(s, 5)
np.linalg.cond(s) | np.linalg.cond(s, 1) | np.linalg.cond(s, -2) | np.linalg.matrix_rank(x) | np.linalg.matrix_rank(x, 1e-5) | np.linalg.tensorsolve(s, v[:3]) | np.linalg.tensorinv(s + 3 * np.eye(3), ind=1)
np.linalg.norm(x, 1) | np.linalg.norm(x, -1) | np.linalg.norm(x, np.inf) | np.linalg.norm(x, -np.inf) | np.linalg.norm(x, 2) | np.linalg.norm(x, 'nuc') | np.linalg.norm(x, -2)
np.linalg.norm(t, 1, axis=(0, 2)) | np.linalg.norm(t, 2, axis=(2, 1), keepdims=True) | np.linalg.norm(t, axis=(-1, 0)) | np.linalg.norm(v, 0) | np.linalg.norm(t, np.inf, (1, 2), True) | np.linalg.norm(v, -2) | np.linalg.norm(v, 0.5)
np.linalg.vector_norm(x) | np.linalg.vector_norm(t, axis=(0, 2), ord=1) | np.linalg.vector_norm(x, axis=1, keepdims=True, ord=3) | np.linalg.matrix_norm(t) | np.linalg.matrix_norm(x, ord=1, keepdims=True)
np.linalg.matmul(s, x) | np.linalg.outer(v, v) | np.linalg.tensordot(s, x, axes=1) | np.linalg.vecdot(x, v) | np.linalg.matrix_transpose(t) | np.linalg.diagonal(t, offset=1) | np.linalg.trace(t) | np.linalg.vecdot(x, x, axis=0)
np.modf(3 * x) | np.divmod(x, 0.3) | np.ldexp(x, 2) | np.zeros((2, 3), like=x) | np.ones(3, like=x) | np.empty(3, like=x) * 0 | np.full((3,), 2.0, like=x) | np.eye(3, like=x) | np.identity(2, like=x) | np.tri(3, like=x)
np.array([x[0, 0], 1.0], like=x) | np.asarray(x, like=v) | np.asanyarray(v, like=x) | np.ascontiguousarray(x.T, like=x) | np.asfortranarray(x, like=x) | np.asarray([1.0], like=x) | np.arange(3.0, like=x)
"""
METHODS = """
x.sum() | x.sum(0) | x.mean(axis=1) | x.max(1) | x.min() | x.std() | x.var(0) | x.argmax(1) | x.prod()
x.any() | x.all() | x.cumsum(1) | x.cumprod(0) | x.ravel() | x.flatten() | x.flatten('F') | x.T | t.mT
x.reshape(4, 3) | x.reshape((2, 6)) | x.reshape(-1) | x.transpose() | t.transpose(2, 0, 1)
t.transpose((1, 0, 2)) | x.swapaxes(0, 1) | x[None].squeeze() | x.repeat(2, axis=0) | x.take([0, 1], 1)
x.dot(v) | s.dot(x) | x.clip(0, 1) | x.clip(min=0.1) | x.round(1) | s.diagonal() | s.trace() | x.copy()
(x > 0).nonzero() | x.compress([True, False, True], axis=0) | x.item(5) | x[0, 0].item() | x.astype(float)
x.real | x.conj() | x.tolist() | list(x.flat) | x.shape | x.ndim | x.size | x.dtype.itemsize | len(x)
x.nbytes | x.itemsize | x.argsort(0) | x.searchsorted | [c := x.copy(), c.sort(0)][0] | x.argmin()
[c := x.copy(), c.fill(2.0)][0] | x.astype(np.float32) * 1.0 | x.astype(int) | x.flags.c_contiguous
x @ v | v @ x.T | -x | +x | abs(x) | x ** 2 | x ** 0.5 | x ** -1 | 2 ** x | x ** 3 | x ** v | x // 0.3
x % 0.3 | divmod(x, 0.3) | 1 / x | 1 - x | 2 * x | x / v | 1 % (x + 5) | 1 // (x + 5) | ~(x > 0)
(x > 0) & (x < 1) | (x > 0) ^ (v > 0) | x == x | x != 0 | x <= v | np.float64(2) * x | x + [1, 2, 3, 4]
np.add.reduce(x) | np.add.reduce(x, axis=1) | np.maximum.reduce(x, axis=0) | np.add.accumulate(x)
np.multiply.outer(v, v) | np.logaddexp.reduce(x, axis=1) | np.multiply.accumulate(x, axis=1)
np.add.reduceat(x, [0, 2, 1]) | np.multiply.reduceat(x, [1, 3], axis=1) | np.maximum.reduceat(v, [0, 1, 3])
[c := x.copy(), np.multiply.at(c, ([0, 0, 2], 1), v[:3])][0] | [c := x.copy(), np.maximum.at(c, [0, 0], x[1:])][0]
[c := v.copy(), np.negative.at(c, [1, 1, 1, 2])][0] | [c := v.copy(), np.power.at(c, [0, 0], 2.0)][0] | [c := x.copy(), np.divide.at(c[:, 1], [2, 0, 2], v[:3])][0]
[c := x > 0, np.logical_or.at(c, [0, 0], v > 0)][0] | [c := np.zeros(3), np.subtract.at(c, [0, 0, 1], v[:3])][0]
np.add(x, v, out=np.zeros((3, 4)), where=x > 0) | np.log(x, where=x > 0, out=np.zeros_like(x)) | np.divide(1.0, x, out=x.copy(), where=v > 0)
np.modf(x, np.zeros((3, 4)), np.zeros((3, 4))) | np.exp(x, where=True) | np.argmax(x, 1) << 1 | np.argmax(x, 1) >> 1 | 1 << np.argmax(x, 0) | divmod(1.0, x + 2)
np.logaddexp.reduce(v, keepdims=True) | np.subtract.reduce(x) | np.logical_and.reduce(x > 0, axis=1)
[c := x.copy(), np.add.at(c, ([0, 0], 1), v[:2])][0] | [c := x.copy(), np.subtract.at(c, 0, v)][0]
np.sum([v[0], v[1] ** 2]) | np.mean([x, 2 * x], axis=0) | np.max([v[0], v[1]]) | np.std([v, -v], 0)
np.array([v, v ** 2]) | np.array([[x[0, 0], 1.0], [2.0, v[0]]]) | np.asarray(x) | np.array([x.sum()])
np.ascontiguousarray(x.T) | np.asfortranarray(x) | np.array(x, ndmin=3) | np.array(v, dtype=np.float32)
sum(v) | max(v) | min(x[0]) | sorted(v)[1] | [a * b for a, b in zip(v, v)] | 3.0 in v | bool(x[0, 0] > 0)
"""


def split(text: str) -> list[str]:
    return [call.strip() for line in text.strip().splitlines() for call in line.split(" | ")]


def functions_of(call: str) -> list[str]:
    return re.findall(r"np\.(?:linalg\.|fft\.|lib\.stride_tricks\.)?\w+", call)


def existing(call: str) -> bool:
    """Some functions came with NumPy 2.0 to 2.2."""
    return all(named(name.removeprefix("np.")) for name in functions_of(call))


def outputs(result: Any) -> list[Any]:
    """All arrays in a result."""
    if isinstance(result, (tuple, list)):
        return [part for each in result for part in outputs(each)]
    return [result]


@pytest.fixture(scope="module")
def params() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(4)
    shapes = {"x": (3, 4), "s": (3, 3), "v": (4,), "t": (2, 3, 4)}
    return {name: rng.uniform(0.1, 1.4, shape) - 0.35 for name, shape in shapes.items()}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("call", [c for c in split(CALLS) + split(METHODS) if existing(c)])
def test_a_call_gives_numpy_s_value_here_and_elsewhere(call: str, params: Any) -> None:
    code = compile(call, "call", "eval")

    def loss(p: dict[str, Any]) -> Any:
        total = 1e-3 * p["x"].sum()
        for k, output in enumerate(outputs(eval(code, {"np": np, **p}))):
            if callable(output):
                continue
            total = total + np.sum(np.cos(output * (1.0 + k)))
        return total

    if "** 0.5" in call or "** v" in call:
        params = {name: abs(value) for name, value in params.items()}
    with np.errstate(all="ignore"):
        traced(loss, params, relative=1e-6 if "float32" in call else 1e-12)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("call", [c for c in split(CALLS) + split(METHODS) if existing(c)])
def test_a_call_gives_numpy_s_shapes(call: str, params: Any) -> None:
    def shapes(p: dict[str, Any]) -> list[Any]:
        with np.errstate(all="ignore"):
            found = outputs(eval(call, {"np": np, **{k: w.copy() for k, w in p.items()}}))
        return [np.shape(part) for part in found if not callable(part)]

    seen: list[Any] = []

    def loss(p: dict[str, Any]) -> Any:
        seen.append(shapes(p))
        return p["x"].sum()

    traced(loss, {name: abs(value) for name, value in params.items()})
    assert seen[0] == seen[1]


def test_every_traced_function_is_called_above() -> None:
    calls = [call for call in split(CALLS) if existing(call)]
    called = {eval(name) for call in calls for name in functions_of(call)}
    missing = {dotted(f) for f in TRACED if f not in called and "ufunc" not in dotted(f)}
    assert not missing


def test_every_function_that_a_type_may_override_is_in_exactly_one_family() -> None:
    allowed = set(overrides.get_overridable_numpy_array_functions())
    allowed |= set(overrides.get_overridable_numpy_ufuncs())
    found = surface()
    assert not found.unplaced
    families = list(found.families().values())
    assert sum(map(len, families)) == len(frozenset().union(*families))
    assert allowed <= frozenset().union(*families)


def test_the_register_names_nothing_that_numpy_does_not_let_a_type_override() -> None:
    found = surface()
    everything = frozenset().union(*found.families().values())
    assert set(TRACED) | set(REFUSED) <= everything
    assert not set(TRACED) & set(REFUSED)
    assert not {dotted(f) for f in found.traced | found.refused} & CONSTANT_ONLY


def test_a_refused_function_is_refused_with_its_reason(params: Any) -> None:
    for function, reason in REFUSED.items():
        with pytest.raises(Untraceable) as caught:
            trace(lambda x, f=function: _called(f, x), ParamTree.from_user(params["s"]))
        assert reason in str(caught.value)
        assert function.__name__ in str(caught.value)


def test_a_constant_only_function_is_refused_once_a_parameter_reaches_it(params: Any) -> None:
    def loss(x: Any) -> Any:
        return np.gcd(np.argmax(x), 3) + np.sum(x)

    with pytest.raises(Untraceable, match="gcd of an array that depends on the parameters"):
        trace(loss, ParamTree.from_user(params["s"]))
    traced(lambda x: np.gcd(np.int64(6), 9) * np.sum(x), params["s"])


def _called(function: Any, x: Any) -> Any:
    """Call a function with as many arrays as it needs; NumPy hands over before it looks at them."""
    for count in (1, 2, 3, 4):
        try:
            return function(*[x] * count)
        except TypeError:
            continue
    return function("file", x)  # np.savez


def test_the_readme_s_table_is_the_installed_numpy_s() -> None:
    text = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    found = re.search(r"<!-- surface -->\s*(.*?)\s*<!-- /surface -->", text, re.DOTALL)
    assert found, "README.md has no table between <!-- surface --> and <!-- /surface -->"
    shown = found.group(1)
    if f"| NumPy {version()} |" in shown:
        assert shown == table(), "print it anew with python -m fastcheck.trace.surface"
    else:  # another NumPy: the same families, other counts
        names = [line.split("|")[1].strip() for line in table().splitlines()[2:]]
        assert [line.split("|")[1].strip() for line in shown.splitlines()[2:]] == names
