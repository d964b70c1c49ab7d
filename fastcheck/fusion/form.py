"""A difference on its way through a slice, as a sum of terms: hoisted constants times a variable.

The first variable is the step h itself. What is linear only multiplies, adds or contracts the
constants, outside the kernel: the weights behind a perturbed unit become one number for each sample
and class. Only what is not linear, or sums over what a variable depends on, makes a new variable
that the kernel computes. Differences are exact all along: a ReLU is linear as long as no unit
crosses its kink, and that is checked for every copy.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import count
from typing import TypeAlias

import numpy as np

from fastcheck.fusion.dims import Dim, Joint, Label, NotFusable, Pin
from fastcheck.fusion.expression import Expression, Table, in_order
from fastcheck.fusion.hoisted import (
    Hoisted,
    Places,
    contraction,
    elementwise,
    gathered,
    known,
    number,
    product,
    renamed,
    smallest,
    total,
)

Axis: TypeAlias = Dim | Joint | None
"""What an axis of a difference follows; None where the difference is the same all along it."""
MOST_UNPINNED = 4096
_MOST_TERMS = 8
# A loop over so many elements at most is written out.
_SHORT = 16
# Pins of split axes are numbered after those of the tensor.
_FIRST_SPLIT = 1 << 20
# Numbers that come from formulae; others come from the network.
_WRITTEN_OUT = (0.5, 1.0, 2.0)
ONE = number(1.0)
# The bounds of checks are computed with rounding of their own.
_SAFE = 1.0 - 2.0**-40


@dataclass(frozen=True, eq=False)
class Term:
    """A number × Π factors × variable. No two factors have the same pins."""

    factors: tuple[Hoisted, ...]
    variable: Expression
    scale: float = 1.0

    def labels(self) -> frozenset[Label]:
        """Return the labels along which the term varies."""
        return self.variable.labels.union(*[factor.labels for factor in self.factors])

    def times(self, other: Term) -> Term:
        """Multiply two terms."""
        factors = self.factors
        for factor in other.factors:
            factors = _with(factors, factor)
        return Term(factors, self.variable * other.variable, self.scale * other.scale)


@dataclass(frozen=True, eq=False)
class Form:
    """The difference of one node: Σ terms, its axes following pins and labels."""

    axes: tuple[Axis, ...]
    terms: tuple[Term, ...]


class Algebra:
    """Makes and combines forms for one kernel.

    Attributes
    ----------
    table : Table
        Of the expressions.
    reach : float
        The bound on the arguments of polynomials that the kernel is made for.
    limits : list of (Expression, Hoisted)
        What has to stay within which bound for a copy to be the kernel's.
    """

    def __init__(self, reach: float) -> None:
        self.table = Table()
        self.reach = reach
        self.limits: list[tuple[Expression, Hoisted]] = []
        self._numbers = count()
        self._materialised: dict[Form, Expression] = {}
        self._scales: dict[float, Hoisted] = {}
        self._split_pins: dict[tuple[Pin, int], tuple[Pin, Pin]] = {}

    def label(self, size: int) -> Label:
        """Make a new label."""
        return Label(next(self._numbers), size)

    def split(self, pin: Pin, last: int) -> tuple[Pin, Pin]:
        """Return the two pins of an axis that a reshape splits, the second one of size `last`."""
        if (pin, last) not in self._split_pins:
            number = _FIRST_SPLIT + 2 * len(self._split_pins)
            self._split_pins[pin, last] = (
                Pin(number, pin.size // last, pin, last),
                Pin(number + 1, last, pin),
            )
        return self._split_pins[pin, last]

    def form(self, axes: Iterable[Axis], *terms: Term) -> Form:
        """Make a form; terms of one variable with the same factors but one are added up."""
        kept: list[Term] = []
        for term in terms:
            for place, other in enumerate(kept):
                both = _added(other, term)
                if both is not None:
                    kept[place] = both
                    break
            else:
                kept.append(term)
        if len(kept) > _MOST_TERMS:
            kept = [Term((), self._sum_of(kept))]
        return Form(tuple(axes), tuple(kept))

    def variable(self, axes: Iterable[Axis], value: Expression) -> Form:
        """Make a form of a new variable."""
        return Form(tuple(axes), (Term((), value),))

    def value(self, form: Form) -> Expression:
        """Return the difference as an expression, for what is not linear."""
        if form not in self._materialised:
            self._materialised[form] = self._sum_of(form.terms)
        return self._materialised[form]

    def _sum_of(self, terms: Iterable[Term]) -> Expression:
        summands = [self.product_of(term) for term in terms]
        if not summands:
            return self.table.constant(0.0)
        result = summands[0]
        for summand in summands[1:]:
            result = result + summand
        return result

    def product_of(self, term: Term) -> Expression:
        """Return a term as an expression; factors with few labels first, to be shared."""
        result = term.variable
        for factor in sorted(term.factors, key=lambda f: (len(f.labels), len(f.pins))):
            result = self.table.load(factor) * result
        if abs(term.scale) in _WRITTEN_OUT:
            return result * term.scale
        return self.table.load(self._hoisted(term.scale)) * result

    def _hoisted(self, scale: float) -> Hoisted:
        """Return a number that belongs to this network, 1/M say, so that its kernel does not."""
        return self._scales.setdefault(scale, number(scale))

    # -- linear operations ------------------------------------------------------------------------

    def scale(self, form: Form, factor: Hoisted, axes: Iterable[Axis] | None = None) -> Form:
        """Multiply by a constant; `axes` where it makes the difference vary along more of them."""
        if factor.known is not None and not factor.dims:
            return Form(
                form.axes if axes is None else tuple(axes),
                self.times(form, float(factor.known)).terms,
            )
        terms = [replace(term, factors=_with(term.factors, factor)) for term in form.terms]
        return Form(form.axes if axes is None else tuple(axes), tuple(terms))

    def times(self, form: Form, value: float) -> Form:
        """Multiply by a number."""
        terms = [replace(term, scale=term.scale * value) for term in form.terms]
        return Form(form.axes, tuple(terms))

    def plus(self, a: Form, b: Form) -> Form:
        """Add two differences of one shape."""
        a, b = self.unify(a, b)
        axes = [x if x is not None else y for x, y in zip(a.axes, b.axes, strict=True)]
        return self.form(axes, *a.terms, *b.terms)

    def negative(self, form: Form) -> Form:
        """Return the form with the other sign."""
        return self.times(form, -1.0)

    def minus(self, a: Form, b: Form) -> Form:
        """Subtract two differences of one shape."""
        return self.plus(a, self.negative(b))

    def contract(
        self, form: Form, other: Hoisted, over: Iterable[Label], axes: Iterable[Axis]
    ) -> Form:
        """Multiply by a constant and sum over labels."""
        summed = list(over)
        terms = [self._contracted(term, other, summed) for term in form.terms]
        return self.form(axes, *terms)

    def _contracted(self, term: Term, other: Hoisted, over: list[Label]) -> Term:
        outer = [label for label in over if self._is_hoistable(term, other, label)]
        holders = tuple(f for f in term.factors if f.labels & set(outer))
        if len({pin for f in (*holders, other) for pin in f.pins}) > 1:
            holders, outer = (), []
        rest = tuple(f for f in term.factors if f not in holders)
        joint = contraction(product(*holders), other, outer) if holders else total(other, outer)
        scale = term.scale
        for label in outer:
            if label not in other.dims and not any(label in f.dims for f in holders):
                scale *= label.size
        inner = [label for label in over if label not in outer]
        return self._summed(Term(_with(rest, joint), term.variable, scale), inner)

    @staticmethod
    def _is_hoistable(term: Term, other: Hoisted, label: Label) -> bool:
        """Whether a sum over a label concerns constants of one pin at most."""
        holders = [factor for factor in (*term.factors, other) if label in factor.dims]
        pins = {pin for holder in holders for pin in holder.pins}
        return label not in term.variable.labels and len(pins) <= 1

    def _summed(self, term: Term, over: list[Label]) -> Term:
        """Sum in the kernel, over labels that the variable or several pins depend on."""
        for label in _in_turn(term, over):
            holders = tuple(f for f in term.factors if label in f.dims)
            rest = tuple(f for f in term.factors if f not in holders)
            inner = self.product_of(Term(holders, term.variable))
            scale = term.scale if label in inner.labels else term.scale * label.size
            term = Term(rest, inner.sum(label) if label in inner.labels else inner, scale)
        return term

    # -- axes -------------------------------------------------------------------------------------

    def unify(self, *forms: Form) -> tuple[Form, ...]:
        """Give differences of one shape the same labels and pins, axis by axis.

        No label is left on two axes: z[:, None] and z[None, :] run over the samples apart.
        """
        result = list(forms)
        taken: set[Axis] = set()
        for axis in range(len(forms[0].axes)):
            result = [self._on_a_label_of_its_own(form, axis, taken) for form in result]
            follows = {form.axes[axis] for form in result} - {None}
            alike = len(follows) == 1 and (
                not is_pinned(next(iter(follows)))
                or all(form.axes[axis] is not None for form in result)
            )
            if follows and not alike:
                result = [self._unpinned(self.plain(form, (axis,)), axis) for form in result]
                result = self._one_label(result, axis)
            taken |= {dim for form in result for dim in dims_of(form.axes[axis])}
        return tuple(result)

    def _on_a_label_of_its_own(self, form: Form, axis: int, taken: set[Axis]) -> Form:
        if taken.isdisjoint(dims_of(form.axes[axis])):
            return form
        if isinstance(form.axes[axis], Joint):
            return self.plain(form, (axis,))
        label = form.axes[axis]
        if isinstance(label, Label):
            return self.relabel(form, label, self.label(label.size))
        return self.unpin(form, axis)

    def _unpinned(self, form: Form, axis: int) -> Form:
        return self.unpin(form, axis) if isinstance(form.axes[axis], Pin) else form

    def _one_label(self, forms: list[Form], axis: int) -> list[Form]:
        labels = [form.axes[axis] for form in forms]
        first = next(label for label in labels if isinstance(label, Label))
        return [
            self._run_over(form, label, first)
            if isinstance(label, Label) and label is not first
            else form
            for form, label in zip(forms, labels, strict=True)
        ]

    def _run_over(self, form: Form, old: Label, new: Label) -> Form:
        """Relabel a form; another axis of it that follows the new label gets one of its own."""
        if any(new in dims_of(axis) for axis in form.axes):
            form = self.relabel(form, new, self.label(new.size))
        return self.relabel(form, old, new)

    def unpin(self, form: Form, axis: int) -> Form:
        """Write a pinned axis out: zero but for the copy's position."""
        pin = form.axes[axis]
        assert isinstance(pin, Pin)
        label = self.label(pin.size)
        axes = tuple(label if place == axis else old for place, old in enumerate(form.axes))
        return self.scale(form, self._written_out(pin, label), axes)

    def plain(self, form: Form, axes: Iterable[int] | None = None) -> Form:
        """Let axes that were made of several follow one label each; all of them by default."""
        for axis in range(len(form.axes)) if axes is None else axes:
            joint = form.axes[axis]
            if isinstance(joint, Joint):
                form = self._merged(form, axis, joint)
        return form

    def _merged(self, form: Form, axis: int, joint: Joint) -> Form:
        new, places, stride = self.label(joint.size), {}, joint.size
        for dim, size in joint.parts:
            stride //= size
            label = dim
            if isinstance(dim, Pin):
                form = self.scale(form, self._written_out(dim, label := self.label(size)))
            if isinstance(label, Label):
                places[label] = known(np.arange(new.size) // stride % size, (new,))
        axes = tuple(new if place == axis else old for place, old in enumerate(form.axes))
        return self.gather(form, places, axes)

    def _written_out(self, pin: Pin, label: Label) -> Hoisted:
        if pin.size > MOST_UNPINNED:
            raise NotFusable(f"a pinned axis of {pin.size} would be written out")
        return known(np.eye(pin.size), (pin, label))

    def gather(self, form: Form, places: Places, axes: Iterable[Axis]) -> Form:
        """Look at a form's terms at `places` along labels; what is zero everywhere is dropped."""
        terms = []
        for term in form.terms:
            factors: tuple[Hoisted, ...] = ()
            for factor in term.factors:
                factors = _with(factors, gathered(factor, places))
            if not any(is_zero(factor) for factor in factors):
                variable = self.table.gather(term.variable, places, self.label)
                terms.append(Term(factors, variable, term.scale))
        return Form(tuple(axes), tuple(terms))

    def relabel(self, form: Form, old: Label, new: Label) -> Form:
        """Let a form run over another label of the same size."""
        if any(new in dims_of(axis) for axis in form.axes):
            raise NotFusable("two axes of one difference follow the same index")
        terms = []
        for term in form.terms:
            if new in term.labels():
                raise NotFusable("two axes of one difference follow the same index")
            factors = tuple(renamed(factor, old, new) for factor in term.factors)
            variable = self.table.substitute(term.variable, old, new, self.label)
            terms.append(Term(factors, variable, term.scale))
        return Form(tuple(_renamed(axis, old, new) for axis in form.axes), tuple(terms))

    # -- checks -----------------------------------------------------------------------------------

    def check(self, form: Form, bound: Hoisted) -> None:
        """Let the kernel refuse copies for which |form| is not at most `bound` everywhere.

        Where the form is one term, the bound is divided by the factor that varies most, so that one
        comparison for each sample stands for all units of a layer.
        """
        if not form.terms:
            return
        bound = elementwise(lambda b: np.maximum(b * _SAFE, 0.0), bound)
        if len(form.terms) > 1:
            value = self.value(form)
            self.limits.append((value, smallest(bound, bound.labels - value.labels)))
            return
        (term,) = form.terms
        best = min(
            (self._limit(term, chosen, bound) for chosen in _subsets(term.factors)),
            key=_price,
        )
        self.limits.append(best)

    def _limit(
        self, term: Term, chosen: tuple[Hoisted, ...], bound: Hoisted
    ) -> tuple[Expression, Hoisted]:
        rest = tuple(f for f in term.factors if f not in chosen)
        value = self.product_of(replace(term, factors=rest))
        if chosen:
            bound = elementwise(_quotient, bound, product(*chosen))
        return value, smallest(bound, bound.labels - value.labels)

    def check_argument(self, form: Form) -> None:
        """Let the kernel refuse copies for which the argument of a polynomial is out of reach."""
        self.check(form, number(self.reach))

    def in_reach(self, form: Form) -> Expression:
        """Return the difference as the argument of a polynomial."""
        self.check_argument(form)
        return self.value(form)


def _in_turn(term: Term, over: list[Label]) -> list[Label]:
    """Return labels with that last which most of a term runs along: it is the outermost loop.

    A layer is summed for each sample, not the samples for each unit.
    """
    if sum(label.size > _SHORT for label in over) < 2:
        return over
    weight = dict.fromkeys(over, 0)
    for node in in_order(term.variable):
        for label in node.labels & weight.keys():
            weight[label] += 1
    return sorted(over, key=lambda label: weight[label])


def dims_of(axis: Axis) -> frozenset[Dim]:
    """Return the dimensions that an axis follows."""
    if isinstance(axis, Joint):
        return axis.dims
    return frozenset() if axis is None else frozenset({axis})


def labels_of(axis: Axis) -> list[Label]:
    """Return the labels that an axis follows, in order."""
    parts = axis.parts if isinstance(axis, Joint) else ((axis, 0),)
    return [dim for dim, _ in parts if isinstance(dim, Label)]


def is_pinned(axis: Axis) -> bool:
    """Whether a copy differs at one position of an axis only, or of a part of it."""
    return axis.is_pinned if isinstance(axis, Joint) else isinstance(axis, Pin)


def _renamed(axis: Axis, old: Label, new: Label) -> Axis:
    if isinstance(axis, Joint):
        return Joint(tuple((new if dim is old else dim, size) for dim, size in axis.parts))
    return new if axis is old else axis


def is_zero(factor: Hoisted) -> bool:
    """Whether a constant is known to be zero everywhere."""
    return factor.known is not None and not factor.known.any()


def _quotient(bound: np.ndarray, factor: np.ndarray) -> np.ndarray:
    # A factor of zero moves nothing: no step is too large for it.
    return np.where(factor == 0, np.inf, bound / np.abs(np.where(factor == 0, 1.0, factor)))


def _price(limit: tuple[Expression, Hoisted]) -> tuple[bool, int, int]:
    """Rank a comparison: by what has to be hoisted for it, then by its loops in the kernel."""
    value, bound = limit
    loops = int(np.prod([label.size for label in value.labels | bound.labels], dtype=np.int64))
    return len(bound.pins) > 1, loops, bound.size()


def _subsets(factors: tuple[Hoisted, ...]) -> list[tuple[Hoisted, ...]]:
    subsets: list[tuple[Hoisted, ...]] = [()]
    for factor in factors:
        subsets += [(*subset, factor) for subset in subsets]
    return subsets


def _pins(hoisted: Hoisted) -> frozenset[Pin]:
    return frozenset(hoisted.pins)


def _with(factors: tuple[Hoisted, ...], factor: Hoisted) -> tuple[Hoisted, ...]:
    """Add a factor, joined with the one that has the same pins, if there is one."""
    if factor is ONE:
        return factors
    for place, other in enumerate(factors):
        if other.pins == factor.pins:
            return (*factors[:place], product(other, factor), *factors[place + 1 :])
    return (*factors, factor)


def _added(a: Term, b: Term) -> Term | None:
    """Return a + b as one term, if they differ in the factor of one set of pins only."""
    if a.variable is not b.variable:
        return None
    ours = {factor.pins: factor for factor in a.factors}
    theirs = {factor.pins: factor for factor in b.factors}
    every = dict.fromkeys([*ours, *theirs])
    differing = [pins for pins in every if ours.get(pins) is not theirs.get(pins)]
    if len(differing) > 1:
        return None
    if not differing:
        return Term(a.factors, a.variable, a.scale + b.scale)
    (pins,) = differing
    joint = elementwise(
        lambda x, y: a.scale * x + b.scale * y, ours.get(pins, ONE), theirs.get(pins, ONE)
    )
    rest = tuple(factor for factor in a.factors if factor.pins != pins)
    return Term(_with(rest, joint), a.variable)
