"""Matching the names of gradients (`dW1`, `grad_w1`, `b1_grad`) to the parameters' (`W1`, `b1`)."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence

_LOSS = r"(?:j|l|e|c|f|loss|cost|error|err)"
_PREFIX = re.compile(
    rf"(?:[d∂]{_LOSS}?[_/]?[d∂]|d|g|∂|∇|nabla|grads?|gradients?|deriv|derivative)[_ ./]?",
    re.IGNORECASE,
)
_SUFFIX = re.compile(r"_?(?:grads?|gradients?)|_[gd]", re.IGNORECASE)
_LONGEST = 12  # No prefix or suffix is longer.


def match_names(
    wanted: Sequence[str | int], offered: Sequence[str | int]
) -> tuple[dict[int, int], dict[int, list[int]]]:
    """Which of `offered` is the gradient's name for each of `wanted`.

    An exact name wins over a prefix or suffix, and that over a difference in case. An offered
    name is given away once, to the parameter that it fits best.

    Returns
    -------
    matches
        Place in `wanted` → place in `offered`.
    ambiguous
        Place in `wanted` → the places in `offered` that fit it equally well.
    """
    matches: dict[int, int] = {}
    ambiguous: dict[int, list[int]] = {}
    for key, readings in (
        (_itself, lambda name: {name}),
        (_itself, _undecorated),
        (_caseless, lambda name: {_caseless(reading) for reading in {name, *_undecorated(name)}}),
    ):
        fits = _fits(wanted, offered, key, readings, matches, ambiguous)
        claims = Counter(place for places in fits.values() for place in places)
        for want, places in fits.items():
            if len(places) == 1 and claims[places[0]] == 1:
                matches[want] = places[0]
            else:
                ambiguous[want] = places
    return matches, ambiguous


def _fits(
    wanted: Sequence[str | int],
    offered: Sequence[str | int],
    key: Callable[[str | int], str | int],
    readings: Callable[[str | int], Iterable[str | int]],
    matches: dict[int, int],
    ambiguous: dict[int, list[int]],
) -> dict[int, list[int]]:
    """The unclaimed offers that fit each open want, under one way of reading a name."""
    taken = set(matches.values())
    places: defaultdict[str | int, list[int]] = defaultdict(list)
    for place, name in enumerate(offered):
        if place not in taken:
            for reading in readings(name):
                places[reading].append(place)
    return {
        want: places[key(name)]
        for want, name in enumerate(wanted)
        if want not in matches and want not in ambiguous and key(name) in places
    }


def _itself(name: str | int) -> str | int:
    return name


def _caseless(name: str | int) -> str | int:
    return name.casefold() if isinstance(name, str) else name


def _undecorated(name: str | int) -> set[str | int]:
    """What is left of `dW1` or `W1_grad` without the prefix or suffix, in every reading."""
    if isinstance(name, int):
        return set()
    cuts = range(1, min(len(name), _LONGEST + 1))
    without_prefix = {name[cut:] for cut in cuts if _PREFIX.fullmatch(name[:cut])}
    without_suffix = {name[:-cut] for cut in cuts if _SUFFIX.fullmatch(name[-cut:])}
    return {*without_prefix, *without_suffix}
