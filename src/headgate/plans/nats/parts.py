"""The parts of a batch: groups that have entries in common, and have to be judged together. And bundles of parts, which
are written together because that is quicker.

This module must not know how a part is judged.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from headgate.hits import Group, marked_key
from headgate.plans.merging import Place
from headgate.plans.nats.kept import Known

MAX_PUTS: Final = 500
"""How many entries are written in one commit; the server takes 1,000."""


def places_of(group: Group) -> list[Place]:
    """The entries that judging a group may ask for."""
    hits = group.hits
    if len(hits) == 1 and group.once is None:
        limit, key, name = hits[0][:3]
        return [Place(name, limit.code, key)]
    places = [Place(hit.name, hit.limit.code, hit.key) for hit in hits]
    if group.once is not None:
        name, code, key = places[0]
        places.append(Place(name, code, marked_key(key, group.once.mark)))
    return places


def places_in(groups: Sequence[Group]) -> dict[Place, None]:
    """The entries that judging some groups may ask for, each once."""
    return dict.fromkeys(place for group in groups for place in places_of(group))


def parts_of(groups: Sequence[Group]) -> list[list[int]]:
    """The indices of groups that have entries in common, each in their order."""
    if len(groups) == 1:
        return [[0]]
    parts: dict[int, list[int]] = {}
    part_of: dict[Place, int] = {}
    for index, group in enumerate(groups):
        places = places_of(group)
        joined = sorted({part_of[place] for place in places if place in part_of})
        if not joined:
            parts[index] = [index]
            part_of.update(dict.fromkeys(places, index))
            continue
        first, *others = joined
        parts[first].append(index)
        part_of.update(dict.fromkeys(places, first))
        for other in others:
            parts[first] += parts.pop(other)
            part_of.update({place: first for place, part in part_of.items() if part == other})
    return [sorted(part) for part in parts.values()]


def bundles_of(
    parts: Sequence[Sequence[Group]], known: Known, *, is_atomic: bool
) -> dict[tuple[int, ...], list[Sequence[Group]]]:
    """Parts that are written in one commit at first, by their numbers: those that have several entries. Those for which
    others raced us of late are kept from the rest.
    """
    bundles: list[list[int]] = []
    latest: dict[bool, tuple[list[int], int]] = {}
    """The bundle of those who were raced, or not, and how many entries it has."""
    for number, part in enumerate(parts):
        places = places_in(part)
        is_raced = known.is_raced(places)
        bundle, size = latest.get(is_raced, ([], MAX_PUTS))
        if not is_atomic or not 1 < len(places) <= MAX_PUTS:
            bundles.append([number])
        elif size + len(places) <= MAX_PUTS:
            bundle.append(number)
            latest[is_raced] = bundle, size + len(places)
        else:
            bundles.append([number])
            latest[is_raced] = bundles[-1], len(places)
    return {tuple(bundle): [parts[number] for number in bundle] for bundle in bundles}
