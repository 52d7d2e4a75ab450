# SPDX-License-Identifier: Apache-2.0
"""Suggested rules: what is found, what is not guessed, and that nothing else is touched."""

from collections.abc import Callable, Collection, Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vllm_ascend_bringup.formats.base import Shape
from vllm_ascend_bringup.recipes.rules import Rule, rename_all
from vllm_ascend_bringup.recipes.suggest import Suggestion, suggest_rules

HIDDEN, INNER, KV, VOCAB = 64, 160, 16, 1000
SHAPES: Mapping[str, Shape] = {
    "self_attn.q_proj": (HIDDEN, HIDDEN),
    "self_attn.k_proj": (KV, HIDDEN),
    "self_attn.v_proj": (KV, HIDDEN),
    "self_attn.o_proj": (HIDDEN, HIDDEN),
    "mlp.gate_proj": (INNER, HIDDEN),
    "mlp.up_proj": (INNER, HIDDEN),
    "mlp.down_proj": (HIDDEN, INNER),
    "input_layernorm": (HIDDEN,),
    "post_attention_layernorm": (HIDDEN,),
}
FUSED: Mapping[str, Shape] = {
    "self_attn.qkv_proj": (HIDDEN + 2 * KV, HIDDEN),
    **{name: shape for name, shape in SHAPES.items() if name[-6] not in "qkv"},
}
HEAD = "lm_head.weight"

Names = dict[str, Shape | None]


def layers(prefix: str, shapes: Mapping[str, Shape] = SHAPES, count: int = 3) -> Names:
    return {
        f"{prefix}.{layer}.{name}.weight": shape
        for layer in range(count)
        for name, shape in shapes.items()
    }


def llama(shapes: Mapping[str, Shape] = SHAPES) -> Names:
    """Llama's names without the head."""
    ends: Names = {"model.embed_tokens.weight": (VOCAB, HIDDEN), "model.norm.weight": (HIDDEN,)}
    return layers("model.layers", shapes) | ends


def renamed(names: Names, *changes: tuple[str, str]) -> Names:
    """``names`` with each change made everywhere."""
    result: Names = {}
    for name, shape in names.items():
        for old, new in changes:
            name = name.replace(old, new)
        result[name] = shape
    assert len(result) == len(names)
    return result


def check(
    found: Suggestion, keys: Names, wanted: Names, taken: Collection[str] = ()
) -> dict[str, str]:
    """What must hold of any suggestion. Returns the rules: text -> to."""
    names = rename_all(found.rules, [*keys, *taken], "test")
    assert found.matched == {
        key: new for key in keys if (new := names[key]) in wanted and (key in found.matched)
    }
    assert len(set(found.matched.values())) == len(found.matched)
    for key, name in found.matched.items():
        assert None in (keys[key], wanted[name]) or keys[key] == wanted[name]
    assert all(rule.apply(key) == key for rule in found.rules for key in taken)
    for key in found.unmatched_keys:
        assert names[key] == key or names[key] not in wanted
    assert sorted([*found.matched, *found.unmatched_keys]) == sorted(keys)
    assert sorted([*found.matched.values(), *found.unmatched_wanted]) == sorted(wanted)
    return {rule.text: str(rule.to) for rule in found.rules}


def all_found(keys: Names, wanted: Names, taken: Collection[str] = ()) -> dict[str, str]:
    found = suggest_rules(keys, wanted, taken)
    rules = check(found, keys, wanted, taken)
    assert found.unmatched_keys == ()
    assert len(found.matched) == len(keys)
    return rules


def prefix(old: str, new: str) -> tuple[Rule, ...]:
    return (Rule(prefix=old, to=new),)


# What is found


def test_another_prefix_of_the_body() -> None:
    keys = renamed(llama(), ("model.", "model.language_model."))
    found = suggest_rules(keys, llama(), [HEAD])
    assert found.rules == prefix("model.language_model.", "model.")
    assert found.matched == {key: key.replace("language_model.", "") for key in keys}
    assert found.unmatched_keys == found.unmatched_wanted == ()


def test_the_head_under_the_same_prefix() -> None:
    wanted = llama() | {HEAD: (VOCAB, HIDDEN)}
    keys: Names = {f"wrapped.{name}": shape for name, shape in wanted.items()}
    assert suggest_rules(keys, wanted).rules == prefix("wrapped.", "")
    check(suggest_rules(keys, wanted), keys, wanted)


def test_the_head_inside_the_body() -> None:
    keys = renamed(llama(), ("model.", "model.language_model."))
    keys["model.language_model.lm_head.weight"] = (VOCAB, HIDDEN)
    assert len(all_found(keys, llama() | {HEAD: (VOCAB, HIDDEN)})) == 2


GPT2 = (
    ("model.layers.", "transformer.h."), (".self_attn.", ".attn."),
    (".input_layernorm.", ".ln_1."), (".post_attention_layernorm.", ".ln_2."),
    ("model.embed_tokens.", "transformer.wte."), ("model.norm.", "transformer.ln_f."),
)  # fmt: skip


def test_names_of_gpt2() -> None:
    rules = all_found(renamed(llama(), *GPT2), llama(), [HEAD])
    assert rules == {old: new for new, old in GPT2}


def test_fused_qkv_under_another_name() -> None:
    wanted = llama(FUSED)
    keys = renamed(wanted, *GPT2, (".qkv_proj.", ".c_attn."))
    assert all_found(keys, wanted, [HEAD]) == {
        **{old: new for new, old in GPT2}, ".c_attn.": ".qkv_proj.",
    }  # fmt: skip


def test_names_of_the_first_llama() -> None:
    table = (
        ("self_attn.", "attention."), ("q_proj", "wq"), ("k_proj", "wk"), ("v_proj", "wv"),
        ("o_proj", "wo"), ("mlp.", "feed_forward."), ("gate_proj", "w1"), ("down_proj", "w2"),
        ("up_proj", "w3"), ("input_layernorm", "attention_norm"), ("model.", ""),
        ("post_attention_layernorm", "ffn_norm"), ("embed_tokens", "tok_embeddings"),
    )  # fmt: skip
    keys = renamed(llama(), *table) | {"output.weight": (VOCAB, HIDDEN)}
    assert len(all_found(keys, llama() | {HEAD: (VOCAB, HIDDEN)})) == 13


def test_the_same_name_means_two_things() -> None:
    """c_proj of attention and of the MLP; and each rule says which it means."""
    wanted = llama(FUSED)
    keys = renamed(wanted, *GPT2, ("attn.o_proj", "attn.c_proj"), ("mlp.down_proj", "mlp.c_proj"))
    rules = all_found(keys, wanted)
    assert rules[".mlp.c_proj."] == ".mlp.down_proj."


VISION: Names = {
    "vision_tower.embeddings.class_embedding": (32,),
    "vision_tower.embeddings.patch_embedding.weight": (32, 3, 2, 2),
    **layers("vision_tower.encoder.layers"),
    "vision_tower.pre_layrnorm.weight": (32,),
    "vision_tower.post_layernorm.weight": (32,),
}
LANGUAGE = [f"language_model.{name}" for name in (*llama(), HEAD)]


def test_llava_without_its_inner_name() -> None:
    wanted = renamed(VISION, ("vision_tower.", "vision_tower.vision_model."))
    taken = [*LANGUAGE, "multi_modal_projector.linear_1.weight"]
    found = suggest_rules(VISION, wanted, taken)
    assert found.rules == prefix("vision_tower.", "vision_tower.vision_model.")
    check(found, VISION, wanted, taken)


def test_two_towers_at_once() -> None:
    body = renamed(llama(), ("model.", "model.language_model."))
    keys = body | renamed(VISION, ("vision_tower.", "model.visual."))
    wanted = renamed(llama(), ("model.", "language_model.model."))
    wanted |= renamed(VISION, ("vision_tower.", "visual."))
    assert len(all_found(keys, wanted)) == 2


def test_a_suffix() -> None:
    wanted: Names = {
        f"encoder.{layer}.{name}.weight": (4,) for layer in range(3) for name in ("before", "after")
    }
    found = suggest_rules(renamed(wanted, (".weight", ".gamma")), wanted)
    assert found.rules == (Rule(suffix=".gamma", to=".weight"),)
    assert found.unmatched_keys == found.unmatched_wanted == ()


def test_all_experts_under_another_prefix() -> None:
    experts = (f"{layer}.mlp.experts.{expert}" for layer in range(61) for expert in range(256))
    wanted: Names = {
        f"model.layers.{expert}.{name}.weight": SHAPES[f"mlp.{name}"]
        for expert in experts
        for name in ("gate_proj", "up_proj", "down_proj")
    }
    keys = renamed(wanted, ("model.", "model.language_model."))
    found = suggest_rules(keys, wanted, [HEAD])
    assert found.rules == prefix("model.language_model.", "model.")
    assert len(found.matched) == len(set(found.matched.values())) == 61 * 256 * 3


def test_a_lone_name_by_its_shape() -> None:
    wanted = llama()
    keys = renamed(
        wanted, *GPT2, ("attn.q_proj", "attn.zeta"), ("transformer.wte", "transformer.eta")
    )
    rules = all_found(keys, wanted)
    assert rules["transformer.eta."] == "model.embed_tokens."


def test_one_more_layer_than_wanted_stays() -> None:
    """As an MTP layer: the rule that the embedding proves is right for the others."""
    keys = renamed(llama(), ("model.", "wrapped."))
    extra = {
        name: shape for name, shape in layers("wrapped.layers", count=4).items() if ".3." in name
    }
    found = suggest_rules(keys | extra, llama())
    check(found, keys | extra, llama())
    assert found.rules == prefix("wrapped.", "model.")
    assert found.unmatched_keys == tuple(extra)


def test_more_layers_than_wanted_are_another_model() -> None:
    """Nothing but their leaves speaks for them."""
    found = suggest_rules(layers("visual.blocks", count=4), layers("model.layers"))
    assert found.rules == ()
    assert found.matched == {}


def test_fewer_layers_than_wanted() -> None:
    keys = renamed(layers("model.layers", count=2), ("model.", "wrapped."))
    found = suggest_rules(keys, llama())
    check(found, keys, llama())
    assert found.unmatched_keys == ()
    assert len(found.unmatched_wanted) == len(llama()) - len(keys)


def test_unknown_shapes_match_by_name() -> None:
    keys = renamed(llama(), *GPT2)
    wanted: Names = dict.fromkeys(llama())
    assert len(all_found(keys, wanted)) == 6


def test_two_differences_in_one_rule() -> None:
    keys: Names = {"a.same.b.q_proj.weight": (1, 2)}
    assert all_found(keys, {"c.same.d.q_proj.weight": (1, 2)}) == {"a.same.b.": "c.same.d."}


def test_parts_that_occur_in_several_combinations() -> None:
    """Two names of the MLP times three of its weights: five rules, not six."""
    mlp = {name: shape for name, shape in SHAPES.items() if name.startswith("mlp")}
    wanted = layers("left", mlp) | layers("right", mlp)
    table = (("gate_proj", "w1"), ("up_proj", "w3"), ("down_proj", "w2"))
    keys = renamed(layers("left", mlp), ("mlp", "ffn"), *table)
    keys |= renamed(layers("right", mlp), ("mlp", "feed_forward"), *table)
    assert len(all_found(keys, wanted)) == 5


def test_rules_do_not_need_their_order_where_they_can() -> None:
    table = (("self_attn.o_proj", "self_attn.output_proj"), ("mlp.down_proj", "ffn.output_proj"))
    rules = all_found(renamed(llama(), *table, ("mlp.", "ffn.")), llama())
    assert rules[".self_attn.output_proj."] == ".self_attn.o_proj."


def test_one_leaf_at_two_depths() -> None:
    norms = {"attention.output.LayerNorm": (8,), "output.LayerNorm": (8,)}
    wanted = layers("model.layer", norms)
    assert len(all_found(renamed(wanted, ("model.", "bert.encoder.")), wanted)) == 1


def test_a_pair_tells_which_parents_correspond() -> None:
    keys: Names = dict.fromkeys(["a.q.weight", "b.q.weight", "b.lone.weight"], (8,))
    wanted: Names = dict.fromkeys(["d.q.weight", "c.q.weight", "d.lone.weight"], (8,))
    assert all_found(keys, wanted) == {"a.": "c.", "b.": "d."}


def test_the_number_of_layers_tells_which_parents_correspond() -> None:
    def q(prefix: str, count: int) -> Names:
        return layers(prefix, {"q": (8,)}, count)

    rules = all_found(q("a", 2) | q("b", 3), q("c", 3) | q("d", 2))
    assert rules == {"a.": "d.", "b.": "c."}


def test_the_same_leaf_says_more_than_a_synonym() -> None:
    keys: Names = dict.fromkeys(["far.away.attn.o_proj.weight", "near.attn.dense.weight"], (8, 8))
    found = suggest_rules(keys, {"m.attn.o_proj.weight": (8, 8)})
    assert found.matched == {"far.away.attn.o_proj.weight": "m.attn.o_proj.weight"}


def test_a_later_rule_would_touch_what_an_earlier_one_made() -> None:
    """b must move on before a becomes b."""
    wanted: Names = {"x.b.w.weight": (1, 2), "x.c.w.weight": (3, 4)}
    keys: Names = {"x.a.w.weight": (1, 2), "x.b.w.weight": (3, 4)}
    assert list(all_found(keys, wanted)) == ["x.b.", "x.a."]


# What is left alone


@pytest.mark.parametrize("shape", [(3, 4), (5, 6), None])
def test_nothing_in_common(shape: Shape | None) -> None:
    found = suggest_rules({"a.b.weight": (3, 4)}, {"x.y.weight": shape}, ["a.c.weight"])
    assert found == Suggestion((), {}, ("a.b.weight",), ("x.y.weight",))


@pytest.mark.parametrize(
    ("keys", "wanted"),
    [
        (("a.one.weight", "a.two.weight"), ("a.x.weight", "a.y.weight")),
        (("a.x.weight", "b.x.weight"), ("c.x.weight", "d.x.weight")),
        (("a.x.weight", "b.x.weight"), ("c.x.weight",)),
        (("a.x.weight",), ("b.x.weight", "c.x.weight")),
        (("m.0.attn.dense.weight", "m.0.attn.wo.weight"), ("m.0.self_attn.o_proj.weight",)),
    ],
)
def test_equal_candidates_are_not_guessed(keys: tuple[str, ...], wanted: tuple[str, ...]) -> None:
    found = suggest_rules(dict.fromkeys(keys, (8, 8)), dict.fromkeys(wanted, (8, 8)))
    assert found == Suggestion((), {}, keys, wanted)


def test_w1_and_w2_of_qwen_are_not_guessed() -> None:
    """Its gate is w2: of Llama's meaning there is no sign without w3."""
    wanted = llama(FUSED)
    table = (("gate_proj", "w2"), ("up_proj", "w1"), ("down_proj", "c_proj"))
    keys = renamed(wanted, *GPT2, (".qkv_proj.", ".c_attn."), *table)
    found = suggest_rules(keys, wanted, [HEAD])
    check(found, keys, wanted, [HEAD])
    assert {key.split(".")[-2] for key in found.unmatched_keys} == {"w1", "w2"}
    assert {name.split(".")[-2] for name in found.unmatched_wanted} == {"gate_proj", "up_proj"}


@pytest.mark.parametrize(
    "norms",
    [
        ("post_attention_layernorm", "post_feedforward_layernorm"),
        ("input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm"),
    ],
)
def test_norms_that_mean_something_else(norms: tuple[str, ...]) -> None:
    """After attention (OLMo 2), or more than two (Gemma 2)."""
    wanted = layers("model.layers", dict.fromkeys(norms, (HIDDEN,)))
    keys = layers("transformer.h", dict.fromkeys(("ln_1", "ln_2"), (HIDDEN,)))
    assert suggest_rules(keys, wanted).matched == {}


@pytest.mark.parametrize("other", ["q_norm", "k_norm"])
def test_a_word_of_both_sides_is_no_other_word(other: str) -> None:
    """Left over beside each other and equal in shape, but the model has a word for it."""
    keys: Names = {"model.layers.0.q_norm.weight": (8,)}
    wanted: Names = {"model.layers.0.k_norm.weight": (8,)}
    assert len(suggest_rules(keys, wanted).matched) == 1
    assert suggest_rules(keys, wanted, [f"visual.blocks.0.{other}.weight"]).matched == {}
    used: Names = {"model.q_norm.weight": (9,)}
    assert suggest_rules(keys, wanted | used).matched == {}


def test_an_unknown_shape_is_no_evidence() -> None:
    wanted: Names = {"model.one.weight": None}
    assert suggest_rules({"model.two.weight": (8,)}, wanted).matched == {}


@pytest.mark.parametrize(
    ("wanted", "taken"), [({"b.weight": (9,)}, []), ({}, ["b.weight"]), ({"b.weight": (9,)}, ["c"])]
)
def test_a_rule_is_narrowed_for_a_key_it_must_not_touch(wanted: Names, taken: list[str]) -> None:
    """Without its prefix, the last key would take a name of another shape, or that is taken."""
    right: Names = {"a.x.weight": (1,), "a.y.weight": (2,)}
    keys: Names = {f"outer.{name}": shape for name, shape in right.items()}
    keys["outer.b.weight"] = (5,)
    found = suggest_rules(keys, right | wanted, taken)
    check(found, keys, right | wanted, taken)
    assert found.rules == prefix("outer.a.", "a.")


def test_a_name_that_belongs_to_another_key() -> None:
    """p. to m. would be shorter, and give p.y the name that m.y has but for one prefix."""
    keys: Names = dict.fromkeys(["p.a.weight", "p.b.weight", "p.y.weight", "q.m.y.weight"], (8,))
    wanted: Names = dict.fromkeys(["m.a.weight", "m.b.weight", "m.y.weight"], (8,))
    found = suggest_rules(keys, wanted)
    check(found, keys, wanted)
    assert found.unmatched_keys == ("p.y.weight",)


def test_shapes_that_differ_in_one_layer() -> None:
    wanted: Names = {"model.layers.0.q.weight": (8, 8), "model.layers.1.q.weight": (4, 8)}
    keys: Names = {"body.layers.0.q.weight": (8, 8), "body.layers.1.q.weight": (8, 8)}
    found = suggest_rules(keys, wanted)
    check(found, keys, wanted)
    assert found.rules == ()


def test_equal_names_need_no_rules() -> None:
    found = suggest_rules(llama(), llama())
    assert found == Suggestion((), {name: name for name in llama()}, (), ())


def test_a_right_name_of_a_wrong_shape_is_no_match() -> None:
    found = suggest_rules({"a.weight": (1, 2)}, {"a.weight": (2, 1)})
    assert found == Suggestion((), {}, ("a.weight",), ("a.weight",))


def test_taken_keys_that_a_rule_would_change() -> None:
    """The other tower says .attn. too and is right: no rule without regex tells them apart."""
    wanted = layers("model.layers", {name: SHAPES[name] for name in SHAPES if "attn." in name})
    keys = renamed(wanted, (".self_attn.", ".attn."))
    assert all_found(keys, wanted) == {".attn.": ".self_attn."}
    taken = list(layers("visual.blocks", {f"attn.{name}_proj": (1,) for name in "qkvo"}))
    assert suggest_rules(keys, wanted, taken).rules == ()
    assert suggest_rules(renamed(keys, ("model.layers.", "h.")), wanted, taken).rules == ()
    found = suggest_rules(keys, wanted, ["visual.blocks.0.attn.q_proj.weight"])
    check(found, keys, wanted, ["visual.blocks.0.attn.q_proj.weight"])
    assert {key.split(".")[-2] for key in found.unmatched_keys} == {"q_proj"}


# Whatever the names are

WORDS = st.sampled_from(
    ["model", "h", "layers", "attn", "self_attn", "mlp", "w1", "w2", "w3", "norm", "ln_1", "c_proj",
     "o_proj", "x", "0", "1", "2"]
)  # fmt: skip
NAMES = st.lists(WORDS, min_size=1, max_size=5).map(".".join)
LEAVES = st.sampled_from(["weight", "bias", "gamma"])
SHAPE = st.sampled_from([(2,), (2, 3), (3, 2), None])
TENSORS = st.dictionaries(
    st.builds("{}.{}".format, NAMES, LEAVES) | NAMES, SHAPE, min_size=1, max_size=14
)


def changes() -> st.SearchStrategy[Callable[[str], str]]:
    """A random rule: a prefix or a substring becomes something else."""
    prefixes = st.builds(lambda old, new: Rule(prefix=f"{old}.", to=f"{new}."), NAMES, NAMES)
    added = st.builds(lambda old, new: Rule(prefix=f"{old}.", to=f"{new}.{old}."), WORDS, NAMES)
    middle = st.builds(lambda old, new: Rule(substring=f".{old}.", to=f".{new}."), NAMES, NAMES)
    rules = st.one_of(prefixes, added, middle)
    return rules.map(lambda rule: lambda key: str(rule.apply(key)))


@settings(max_examples=300, deadline=None)
@given(TENSORS, st.lists(changes(), max_size=3), st.sets(NAMES, max_size=4), st.integers(0, 3))
def test_the_promises_hold(
    wanted: Names, renames: list[Callable[[str], str]], others: set[str], strange: int
) -> None:
    keys: Names = {}
    for number, (name, shape) in enumerate(wanted.items()):
        for change in renames:
            name = change(name)
        keys[name] = (7, 7) if number < strange else shape
    taken = others - keys.keys() - wanted.keys()
    found = suggest_rules(keys, wanted, taken)
    check(found, keys, wanted, taken)
    assert all(rule.regex is None and not rule.drop for rule in found.rules)


@settings(max_examples=100, deadline=None)
@given(TENSORS, st.sampled_from(["outer", "outer.inner"]))
def test_a_prefix_before_distinct_shapes_is_found(wanted: Names, outer: str) -> None:
    wanted = {name: (number, 5) for number, name in enumerate(wanted)}
    keys: Names = {f"{outer}.{name}": shape for name, shape in wanted.items()}
    assert suggest_rules(keys, wanted).rules == prefix(f"{outer}.", "")
