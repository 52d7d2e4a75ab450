# SPDX-License-Identifier: Apache-2.0
"""Propose rules for a checkpoint whose keys are named unlike what the model class takes.

Numbers are one placeholder, so a template stands for all layers and experts. Templates of both
sides are paired where names and shapes leave one choice; then edits at component boundaries are
picked that turn each key into its partner. Names and shapes are all the evidence: the order of
rows in a tensor (interleaved RoPE, a fused QKV) may still differ.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import cached_property, lru_cache
from typing import Any

from vllm_ascend_bringup.errors import RecipeError
from vllm_ascend_bringup.formats.base import Shape
from vllm_ascend_bringup.recipes.rules import Rule, rename_all

_INDEX = re.compile(r"(?<![^.])[0-9]+(?![^.])")
_N = "{n}"

# Where in a model -> names of one thing there. "layer": below a number, "top": not below one.
_SYNONYMS = {
    "anywhere": (
        "layers layer h blocks block",
        "self_attn attn attention self_attention",
        "mlp feed_forward feedforward ffn block_sparse_moe",
    ),
    "top": (
        "embed_tokens wte tok_embeddings word_embeddings embed_in embed",
        "norm ln_f final_layernorm final_layer_norm final_norm norm_f layer_norm",
        "lm_head head output output_layer embed_out final_proj",
    ),
    "layer": (
        "input_layernorm ln_1 ln1 attention_norm attn_norm norm1 norm_1 self_attn_layer_norm",
        "post_attention_layernorm ln_2 ln2 ffn_norm norm2 norm_2 ffn_layer_norm"
        " pre_feedforward_layernorm",
    ),
    "self_attn": (
        "q_proj wq query",
        "k_proj wk key",
        "v_proj wv value",
        "qkv_proj qkv c_attn query_key_value W_pack wqkv Wqkv",
        "o_proj c_proj wo dense out_proj output_proj",
    ),
    "mlp": (
        "gate_proj w1",
        "up_proj w3",
        "down_proj w2 c_proj dense_4h_to_h fc2 output_proj",
        "c_fc fc1 dense_h_to_4h",
    ),
    "parameter": ("weight gamma", "bias beta"),
}
_CONCEPTS = {
    place: {name: f"<{group.split()[0]}>" for group in groups for name in group.split()}
    for place, groups in _SYNONYMS.items()
}
# These mean what the table says only if a module has each of them once: Qwen 1 calls the up
# projection w1 and the gate w2, OLMo 2 has a post_attention_layernorm but no norm before it.
_TOGETHER = (
    ("<input_layernorm>", "<post_attention_layernorm>"),
    ("<gate_proj>", "<up_proj>", "<down_proj>"),
)
_KINDS = ("prefix", "substring", "suffix", "name")

Parts = tuple[str, ...]


@dataclass(frozen=True)
class Suggestion:
    """Proposed rules and what they do. ``matched``: key -> the wanted name it gets."""

    rules: tuple[Rule, ...]
    matched: Mapping[str, str]
    unmatched_keys: tuple[str, ...]
    unmatched_wanted: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class _Template:
    """Names that differ in numbers only. ``meaning``: the parts with synonyms made equal."""

    parts: Parts
    meaning: Parts
    shapes: Mapping[Parts, Shape | None]

    def agrees(self, name: "_Template") -> bool:
        """No number that both have has two shapes."""
        other = name.shapes
        return all(_agree(shape, other.get(index)) for index, shape in self.shapes.items())

    def fits(self, name: "_Template") -> bool:
        """Each of these keys may become the ``name`` of its numbers."""
        return self.shapes.keys() <= name.shapes.keys() and self.agrees(name)

    def known_to_fit(self, name: "_Template") -> bool:
        """The same, and by shapes that are known."""
        known = None not in self.shapes.values() and None not in name.shapes.values()
        return known and self.fits(name)


@dataclass(frozen=True)
class _Edit:
    """A rule between two component boundaries. A "name" is a prefix that is the whole key."""

    kind: str
    old: str
    new: str

    def apply(self, key: str) -> str:
        if self.kind == "substring":
            return key.replace(self.old, self.new, 1)
        if self.kind == "suffix":
            return key.removesuffix(self.old) + self.new if key.endswith(self.old) else key
        return self.new + key.removeprefix(self.old) if key.startswith(self.old) else key

    @property
    def cost(self) -> tuple[Any, ...]:
        return _KINDS.index(self.kind), len(self.old) + len(self.new), self.old, self.new

    @property
    def rule(self) -> Rule:
        kind = "prefix" if self.kind == "name" else self.kind
        return Rule.model_validate({kind: self.old, "to": self.new})


@dataclass(frozen=True)
class _Task:
    """What edits are to do: templates by text, and for those with a partner its text."""

    keys: Mapping[str, _Template]
    wanted: Mapping[str, _Template]
    goals: Mapping[str, str]
    taken: Collection[str]

    @cached_property
    def partners(self) -> frozenset[str]:
        return frozenset(self.goals.values())

    def allows(self, key: str, new: str) -> bool:
        """``key`` may be called ``new`` for now: it is no one else's name."""
        goal = self.goals.get(key)
        if new == goal:
            return True
        if new in self.wanted:
            unpaired = goal is None and new not in self.partners
            return unpaired and self.keys[key].agrees(self.wanted[new])
        return new not in self.taken


def suggest_rules(
    keys: Mapping[str, Shape | None],
    wanted: Mapping[str, Shape | None],
    taken: Collection[str] = (),
) -> Suggestion:
    """Few rules that bring ``keys`` one-to-one to ``wanted`` names and leave ``taken`` as it is.

    ``keys``: what nothing takes as it is named; ``wanted``: what nothing fills. A shape of None is
    unknown. What could be two things stays unmatched.
    """
    right = {key for key in keys.keys() & wanted.keys() if _agree(keys[key], wanted[key])}
    fixed = right.union(taken)
    task = _task(keys, wanted, fixed)
    covers = (_without_idle(_cover(task, by), task) for by in (_hunks_first, _parts_first))
    edits = min(covers, key=lambda edits: _quality(edits, task))
    rules = tuple(edit.rule for edit in edits)
    matched = _verified(rules, keys, wanted, fixed)
    if matched is None:
        rules, matched = (), {key: key for key in keys if key in right}
    filled = set(matched.values())
    return Suggestion(
        rules,
        matched,
        tuple(key for key in keys if key not in matched),
        tuple(name for name in wanted if name not in filled),
    )


def _verified(
    rules: Sequence[Rule],
    keys: Mapping[str, Shape | None],
    wanted: Mapping[str, Shape | None],
    fixed: Collection[str],
) -> dict[str, str] | None:
    """Key -> its wanted name, as the rules really do it; None if they break a promise."""
    try:
        renamed = rename_all(rules, [*keys, *fixed], "suggested rules")
    except RecipeError:
        return None
    if any(rule.apply(key) != key for key in fixed for rule in rules):
        return None
    landed = {key: new for key in keys if (new := renamed[key]) is not None and new in wanted}
    matched = {key: new for key, new in landed.items() if _agree(keys[key], wanted[new])}
    return None if any(landed[key] != key for key in landed.keys() - matched) else matched


def _agree(shape: Shape | None, other: Shape | None) -> bool:
    return shape is None or other is None or shape == other


# Templates


def _task(
    keys: Mapping[str, Shape | None], wanted: Mapping[str, Shape | None], fixed: Collection[str]
) -> _Task:
    taken = _indexed({key: None for key in fixed})
    open_keys = _indexed({key: shape for key, shape in keys.items() if key not in fixed})
    names = _indexed({name: shape for name, shape in wanted.items() if name not in fixed})
    theirs, ours = _templates(open_keys, taken), _templates(names, taken)
    goals = _pairs(theirs, ours, taken)
    return _Task(theirs, ours, goals, taken.keys())


def _indexed(names: Mapping[str, Shape | None]) -> dict[str, dict[Parts, Shape | None]]:
    """Text of each template -> the numbers it occurs with -> shape."""
    found: dict[str, dict[Parts, Shape | None]] = defaultdict(dict)
    for name, shape in names.items():
        found[_INDEX.sub(_N, name)][tuple(_INDEX.findall(name))] = shape
    return dict(found)


def _templates(
    indexed: Mapping[str, Mapping[Parts, Shape | None]], beside: Iterable[str]
) -> dict[str, _Template]:
    """``beside``: further templates of the same model, to know the siblings of these."""
    meanings = {text: _meaning(text.split(".")) for text in {*indexed, *beside}}
    siblings: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for text, meaning in meanings.items():
        parent, name, _ = _split(text)
        siblings[parent][meaning[-2] if len(meaning) > 1 else ""].add(name)
    made = {}
    for text, shapes in indexed.items():
        parent, name, _ = _split(text)
        meaning = meanings[text]
        group = next((group for group in _TOGETHER if meaning[-2:-1] and meaning[-2] in group), ())
        if any(len(siblings[parent][member]) != 1 for member in group):
            meaning = (*meaning[:-2], name, meaning[-1])
        made[text] = _Template(tuple(text.split(".")), meaning, shapes)
    return made


def _split(text: str) -> tuple[str, str, str]:
    """Parent, module and parameter."""
    module, _, parameter = text.rpartition(".")
    parent, _, name = module.rpartition(".")
    return parent, name, parameter


def _meaning(parts: Sequence[str]) -> Parts:
    place, meaning = "top", []
    for part in parts[:-1]:
        if part == _N and place == "top":
            place = "layer"
        concept = _CONCEPTS[place].get(part) or _CONCEPTS["anywhere"].get(part, part)
        if concept in ("<self_attn>", "<mlp>"):
            place = concept.strip("<>")
        meaning.append(concept)
    return (*meaning, _CONCEPTS["parameter"].get(parts[-1], parts[-1]))


# Pairs

_Scores = dict[str, dict[str, tuple[Any, ...]]]


class _Parents:
    """Which module of the keys is which of the wanted names, as far as pairs show it."""

    def __init__(self) -> None:
        self._seen: dict[Parts, set[Parts]] = defaultdict(set)

    def learn(self, key: _Template, name: _Template) -> None:
        """Their parents correspond, and further up while the names mean the same."""
        i, j = len(key.parts) - 2, len(name.parts) - 2
        while i > 0 and j >= 0:
            self._seen[key.parts[:i]].add(name.parts[:j])
            if j == 0 or key.meaning[i - 1] != name.meaning[j - 1]:
                break
            i, j = i - 1, j - 1

    def agree(self, key: _Template, name: _Template) -> bool:
        """Below some module known on both sides, the way to the two is the same."""
        above, way = key.meaning[:-2], name.meaning[:-2]
        if above and above == way:
            return True
        return any(
            name.parts[: len(known)] == known and above[i:] == way[len(known) :]
            for i in range(len(above), 0, -1)
            for known in self._seen.get(key.parts[:i], ())
        )


def _pairs(
    keys: Mapping[str, _Template], wanted: Mapping[str, _Template], taken: Iterable[str]
) -> dict[str, str]:
    """Text of a key -> text of its partner, for those that have exactly one best partner."""
    parents = _Parents()
    shared = {part for text in taken for part in text.split(".")}
    known_to_keys = shared.union(*(key.parts for key in keys.values()))
    known_to_wanted = shared.union(*(name.parts for name in wanted.values()))

    def by_name(key: _Template, name: _Template) -> tuple[Any, ...] | None:
        same = _same_leaf(key.parts, name.parts)
        if not (same or _same_leaf(key.meaning, name.meaning)) or not key.fits(name):
            return None
        numbers = key.shapes.keys() == name.shapes.keys()
        likeness = _likeness(key.meaning, name.meaning), _likeness(key.parts, name.parts)
        return parents.agree(key, name), same, numbers, *likeness

    def by_shape(key: _Template, name: _Template) -> tuple[Any, ...] | None:
        # A word that both sides use means the same on both.
        foreign = len(key.parts) > 1 and len(name.parts) > 1
        foreign = foreign and key.parts[-2] not in known_to_wanted
        foreign = foreign and name.parts[-2] not in known_to_keys
        alike = foreign and key.meaning[-1] == name.meaning[-1] and parents.agree(key, name)
        return () if alike and key.known_to_fit(name) else None

    pairs: dict[str, str] = {}
    while True:
        found: dict[str, str] = {}
        for score in (by_name, by_shape):
            used = set(pairs.values())
            left = {text: key for text, key in keys.items() if text not in pairs}
            free = {text: name for text, name in wanted.items() if text not in used}
            found = found or _clear(_scores(left, free, score))
        if not found:
            return pairs
        pairs.update(found)
        for key, name in found.items():
            parents.learn(keys[key], wanted[name])


def _scores(
    keys: Mapping[str, _Template],
    wanted: Mapping[str, _Template],
    score: Callable[[_Template, _Template], tuple[Any, ...] | None],
) -> _Scores:
    return {
        text: {
            other: value
            for other, name in wanted.items()
            if (value := score(key, name)) is not None
        }
        for text, key in keys.items()
    }


def _clear(scores: _Scores) -> dict[str, str]:
    """The pairs that are the one best choice on both sides."""
    backward: _Scores = defaultdict(dict)
    for key, names in scores.items():
        for name, value in names.items():
            backward[name][key] = value
    best = {name: _one_best(choices) for name, choices in backward.items()}
    return {
        key: choice
        for key, names in scores.items()
        if (choice := _one_best(names)) is not None and best[choice] == key
    }


def _one_best(choices: Mapping[str, tuple[Any, ...]]) -> str | None:
    best = max(choices.values(), default=())
    found = [choice for choice, value in choices.items() if value == best]
    return found[0] if len(found) == 1 else None


def _same_leaf(parts: Parts, other: Parts) -> bool:
    """Same module and parameter. A number is no name for a module; some have only one name."""
    size = 3 if parts[-2:-1] == (_N,) else 2
    size = min(size, len(parts), len(other))
    return parts[-size:] == other[-size:]


@lru_cache(maxsize=1 << 16)
def _likeness(parts: Parts, other: Parts) -> float:
    return SequenceMatcher(None, parts, other, autojunk=False).ratio()


# Edits

_Hunk = tuple[int, int, int, int]
_Gain = tuple[int, int, int]


def _hunks_first(gain: _Gain) -> _Gain:
    return gain


def _parts_first(gain: _Gain) -> _Gain:
    return gain[1], gain[0], gain[2]


def _cover(task: _Task, by: Callable[[_Gain], _Gain]) -> list[_Edit]:
    """Edits in order, each the one that brings the keys nearest to their partners."""
    now = {text: text for text in task.keys}
    edits: list[_Edit] = []
    while True:
        candidates = {
            edit for key, goal in task.goals.items() for edit in _candidates(now[key], goal)
        }
        gains = {edit: gain for edit in candidates if (gain := _gain(edit, now, task))}
        ranked = sorted(
            gains, key=lambda edit: (*(-part for part in by(gains[edit])), *edit.cost)
        )  # fmt: skip
        for edit in ranked:
            after = {key: edit.apply(name) for key, name in now.items()}
            if len(set(after.values())) == len(after):
                edits, now = [*edits, edit], after
                break
        else:
            return edits


def _gain(edit: _Edit, now: Mapping[str, str], task: _Task) -> _Gain | None:
    """How many differences and differing parts fewer there are; None if it must not be.

    Last, negative: how many keys it would have changed as they were, so that it needs its place.
    """
    hunks = parts = late = 0
    for key, name in now.items():
        new = edit.apply(name)
        if new == name:
            late -= name != key and edit.apply(key) != key
            continue
        if not task.allows(key, new):
            return None
        goal = task.goals.get(key)
        if goal is None:
            landed = (new in task.wanted) - (name in task.wanted)
            hunks, parts = hunks + landed, parts + landed
            continue
        before, after = _distance(name, goal), _distance(new, goal)
        if after >= before:
            return None
        hunks, parts = hunks + before[0] - after[0], parts + before[1] - after[1]
    return None if any(edit.apply(name) != name for name in task.taken) else (hunks, parts, late)


def _distance(name: str, goal: str) -> tuple[int, int]:
    hunks = _hunks(name, goal)
    return len(hunks), sum(max(i2 - i1, j2 - j1) for i1, i2, j1, j2 in hunks)


@lru_cache(maxsize=1 << 16)
def _hunks(name: str, goal: str) -> tuple[_Hunk, ...]:
    """Where their parts differ; numbers correspond one by one."""
    hunks: list[_Hunk] = []
    i = j = 0
    for mine, other in zip(_runs(name), _runs(goal), strict=True):
        matcher = SequenceMatcher(None, mine, other, autojunk=False)
        for tag, i1, i2, j1, j2 in matcher.get_opcodes():
            if tag != "equal":
                hunks.append((i + i1, i + i2, j + j1, j + j2))
        i, j = i + len(mine) + 1, j + len(other) + 1
    return tuple(hunks)


def _runs(name: str) -> list[list[str]]:
    """The parts between numbers."""
    runs: list[list[str]] = [[]]
    for part in name.split("."):
        if part == _N:
            runs.append([])
        else:
            runs[-1].append(part)
    return runs


@lru_cache(maxsize=1 << 12)
def _candidates(name: str, goal: str) -> frozenset[_Edit]:
    """Edits that take ``name`` nearer to ``goal``: differences with what is around them."""
    parts, target = name.split("."), goal.split(".")
    found: set[_Edit] = set()
    for i1, i2, j1, j2 in _spans(_hunks(name, goal)):
        left = right = 0
        while i1 > left < j1 and parts[i1 - left - 1] == target[j1 - left - 1] != _N:
            left += 1
        while (
            i2 + right < len(parts)
            and j2 + right < len(target)
            and parts[i2 + right] == target[j2 + right] != _N
        ):
            right += 1
        for before in range(left + 1):
            for after in range(right + 1):
                start, end = i1 - before, i2 + after
                if any(parts[start:end]) and _N not in parts[start:end]:
                    found.add(_edit(parts, start, end, target[j1 - before : j2 + after]))
    return frozenset(found)


def _spans(hunks: Sequence[_Hunk]) -> Iterator[_Hunk]:
    """Each difference, those from one to a later one, and the parts of equally long ones."""
    for at, (i1, i2, j1, j2) in enumerate(hunks):
        for _, last, _, end in hunks[at:]:
            yield i1, last, j1, end
        if i2 - i1 == j2 - j1:
            for offset in range(i2 - i1):
                yield i1 + offset, i1 + offset + 1, j1 + offset, j1 + offset + 1


def _edit(parts: Sequence[str], start: int, end: int, new: Sequence[str]) -> _Edit:
    """``parts[start:end]`` become ``new``; nothing but whole parts can match it."""
    left, right = start > 0, end < len(parts)
    kind = ("name", "prefix", "suffix", "substring")[2 * left + right]
    old = ".".join([""] * left + list(parts[start:end]) + [""] * right)
    middle = ".".join(new)
    if not middle:
        return _Edit(kind, old, "." if left and right else "")
    return _Edit(kind, old, "." * left + middle + "." * right)


def _landed(edits: Sequence[_Edit], task: _Task) -> frozenset[str] | None:
    """The templates that end at a wanted name; None if one ends where it must not."""
    ends = {}
    for key in task.keys:
        name = key
        for edit in edits:
            name = edit.apply(name)
        if name != key and not task.allows(key, name):
            return None
        ends[key] = name
    if len(set(ends.values())) != len(ends):
        return None
    return frozenset(key for key, name in ends.items() if name in task.wanted and name != key)


def _without_idle(edits: Sequence[_Edit], task: _Task) -> list[_Edit]:
    """Without the edits that bring no key to its wanted name."""
    landed = _landed(edits, task)
    kept = list(edits)
    for edit in reversed(edits):
        rest = [other for other in kept if other is not edit]
        if landed is not None and (less := _landed(rest, task)) is not None and less >= landed:
            kept = rest
    return kept


def _quality(edits: Sequence[_Edit], task: _Task) -> tuple[Any, ...]:
    """Smallest for the best edits."""
    landed = _landed(edits, task) or ()
    keys = sum(len(task.keys[key].shapes) for key in landed)
    return -keys, len(edits), sorted(edit.cost for edit in edits)
