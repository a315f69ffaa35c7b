"""Every encoder family against the plain transformers model: states, gradients, levels, poolers, loading."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModel

from data_utils.errors import UserError
from mt_dnn.batches.batch import Batch, Share
from mt_dnn.encoders.encoder import EMBEDDINGS, Encoder, Level
from mt_dnn.encoders.load import load_encoder
from mt_dnn.encoders.packed import PACKED_FAMILIES
from tests.tiny import FAMILIES, SHAPE
from tests.wild import wild_encoder

# transformers computes the softmax of attention in float32 all the same, so the tolerances are those of its rounding.
in_double = pytest.mark.usefixtures("in_float64")

PACKED = PACKED_FAMILIES
PADDED = ("deberta-v2", "mpnet", "modernbert", "distilbert")
RAGGED, EVEN, SINGLE = (7, 3, 12, 5), (6, 6, 6), (4,)
OWN = {family: {"pad_token_id": 1} for family in ("roberta", "xlm-roberta", "mpnet")}


def config_of(family: str, **changes: Any) -> dict[str, Any]:
    shape = {**SHAPE, "num_hidden_layers": 3, "vocab_size": 60, **FAMILIES[family], **OWN.get(family, {})}
    if family == "distilbert":
        own = {"hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"}
        shape = {**{key: value for key, value in shape.items() if key not in own}, "n_layers": 3}
    if family == "modernbert":
        shape |= {"cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3}
    return {"model_type": family, **shape, **changes}


def fresh(
    family: str, *, attention: str = "auto", pooler: str = "pretrained", scalar_mix: bool = False, **changes: Any
) -> Encoder:
    torch.manual_seed(0)
    settings = config_of(family, **changes)
    encoder = load_encoder(config=settings, attention=attention, pooler=pooler, scalar_mix=scalar_mix)
    with torch.no_grad():  # biases that start at zero would hide errors
        for parameter in encoder.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return encoder.eval()


def make_batch(lengths: tuple[int, ...] = RAGGED) -> Batch:
    sizes = torch.tensor(lengths)
    total = int(sizes.sum())
    generator = torch.Generator().manual_seed(1)
    return Batch(
        task="any",
        input_ids=torch.randint(5, 60, (total,), generator=generator),
        token_type_ids=torch.randint(0, 2, (total,), generator=generator),
        position_ids=torch.cat([torch.arange(length) for length in lengths]),
        offsets=torch.cat([torch.zeros(1, dtype=torch.int64), sizes.cumsum(0)]),
        labels=None,
        longest=max(lengths),
        share=Share.undivided(len(lengths)),
    )


def plain(model: Any, batch: Batch, **options: Any) -> Any:
    """What transformers makes of the batch, padded in the ordinary way; (T, H), or that of all levels."""
    ids = torch.full((batch.size, batch.longest), model.config.pad_token_id or 0)
    types, mask = torch.zeros_like(ids), torch.zeros_like(ids)
    for i, (start, stop) in enumerate(zip(batch.offsets[:-1], batch.offsets[1:], strict=True)):
        ids[i, : stop - start], mask[i, : stop - start] = batch.input_ids[start:stop], 1
        types[i, : stop - start] = batch.token_type_ids[start:stop]
    takes_types = getattr(model.config, "type_vocab_size", 0) > 1
    inputs = {"token_type_ids": types} if takes_types else {}
    output = model(input_ids=ids, attention_mask=mask, **inputs, **options)
    if output.hidden_states is None:
        return output.last_hidden_state[mask.bool()]
    return [state[mask.bool()] for state in output.hidden_states]


def reload(encoder: Encoder, folder: Path) -> Any:
    """The saved encoder as plain transformers reads it."""
    encoder.save(folder)
    return AutoModel.from_pretrained(folder, dtype=torch.float32).eval()


def gradients(model: Any, output: Tensor) -> dict[str, Tensor]:
    weights = torch.linspace(-1, 1, output.numel()).view_as(output)
    (output * weights).sum(-1).mean().backward()  # the size of a loss: a mean over tokens
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@in_double
@pytest.mark.parametrize("lengths", [RAGGED, EVEN, SINGLE])
@pytest.mark.parametrize("family", PACKED + PADDED)
def test_equal_to_plain_transformers(family: str, lengths: tuple[int, ...], tmp_path: Path) -> None:
    encoder, batch = fresh(family), make_batch(lengths)
    assert encoder.attention == ("packed" if family in PACKED else "padded")
    reference = reload(encoder, tmp_path)
    ours, theirs = encoder(batch), plain(reference, batch)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
    own, others = gradients(encoder.model, ours), gradients(reference, theirs)
    assert len(others) >= 20 and own.keys() == others.keys()
    for name, gradient in others.items():
        torch.testing.assert_close(own[name], gradient, atol=1e-5, rtol=1e-5)


LEVELS: list[Level] = [0, EMBEDDINGS, 1, 2, 3]


@in_double
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("family", PACKED + PADDED)
def test_unperturbed_pass_is_the_clean_pass(family: str, level: Level) -> None:
    encoder, batch = fresh(family).double(), make_batch()
    clean = encoder(batch)
    assert clean.dtype == torch.float64
    resumed = encoder.resume(encoder.upto(level, batch), level, batch)
    assert torch.equal(resumed, clean)
    own = gradients(encoder, clean)
    encoder.zero_grad()
    again = gradients(encoder, resumed)
    assert own.keys() == again.keys()
    for name, gradient in own.items():
        torch.testing.assert_close(again[name], gradient, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("scalar_mix", [False, True])
@pytest.mark.parametrize("attention", ["auto", "padded"])
@pytest.mark.parametrize("family", PACKED + PADDED)
def test_level_embeddings_is_the_output_of_the_whole_embedding_module(
    family: str, attention: str, scalar_mix: bool, tmp_path: Path
) -> None:
    """δ is added to the output of that module of the plain model; its positions and LayerNorm do not run again."""
    encoder, batch = fresh(family, attention=attention, scalar_mix=scalar_mix).double(), make_batch()
    delta = 0.3 * torch.randn(27, encoder.hidden_size, dtype=torch.float64)
    changed = encoder.resume(encoder.upto(EMBEDDINGS, batch) + delta, EMBEDDINGS, batch)
    reference = reload(encoder, tmp_path).double()
    module = getattr(reference, "embeddings_project", reference.embeddings)  # ELECTRA's small embeddings
    clean = plain(reference, batch)
    module.register_forward_hook(lambda _, __, output: output + batch.pad(delta))
    if encoder.mix is None:
        expected = plain(reference, batch)
    else:
        expected = encoder.mix(plain(reference, batch, output_hidden_states=True))
    torch.testing.assert_close(changed, expected, atol=1e-10, rtol=1e-10)
    assert (changed - clean).abs().max() > 0.01


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("family", ("bert", "electra", "deberta-v2", "modernbert"))
def test_perturbation_stays_in_its_example(family: str, level: Level) -> None:
    encoder, batch = fresh(family), make_batch()
    state = encoder.upto(level, batch).detach()
    assert state.shape[0] == 27
    delta = torch.zeros_like(state)
    delta[7:10] = torch.randn(3, state.shape[1])  # the second example
    change = encoder.resume(state + delta, level, batch) - encoder.resume(state, level, batch)
    moved = change.abs().sum(1) > 1e-4
    assert moved[7:10].all() and not moved[:7].any() and not moved[10:].any()


@in_double
@pytest.mark.parametrize("family", [family for family in PACKED + PADDED if family != "modernbert"])
def test_a_student_keeps_some_blocks(family: str, tmp_path: Path) -> None:
    """The whole encoder that goes on from level 1 at level 2 leaves the same block out."""
    whole, batch = fresh(family), make_batch()
    whole.save(tmp_path / "whole")
    student = load_encoder(name=str(tmp_path / "whole"), blocks=(0, 2)).eval()
    expected = whole.resume(whole.upto(1, batch), 2, batch)
    assert (student.num_layers, len(student.blocks)) == (2, 2)
    torch.testing.assert_close(student(batch), expected, atol=1e-5, rtol=0)
    assert not torch.allclose(whole(batch), expected, atol=1e-2)
    torch.testing.assert_close(plain(reload(student, tmp_path / "student"), batch), expected, atol=1e-5, rtol=0)


def test_blocks_that_cannot_be_left_out(tmp_path: Path) -> None:
    for family, kept, words in (
        ("bert", (0, 3), "encoder.blocks: 3, but the encoder has blocks 0 to 2"),
        ("modernbert", (0, 2), "encoder.blocks: blocks of a 'modernbert' encoder differ"),
    ):
        fresh(family).save(tmp_path / family)
        with pytest.raises(UserError, match=words):
            load_encoder(name=str(tmp_path / family), blocks=kept)


def test_level_zero_is_the_word_table_only() -> None:
    encoder, batch = fresh("bert"), make_batch()
    table = encoder.model.embeddings.word_embeddings.weight
    assert torch.equal(encoder.upto(0, batch), table[batch.input_ids])


@in_double
def test_deberta_convolution_between_blocks() -> None:
    encoder, batch = fresh("deberta-v2", conv_kernel_size=3, conv_act="gelu"), make_batch()
    clean = encoder(batch)
    reference = gradients(encoder, clean)
    encoder.zero_grad()
    resumed = encoder.resume(encoder.upto(1, batch), 1, batch)
    assert torch.equal(clean, resumed)
    again = gradients(encoder, resumed)
    for name, gradient in reference.items():
        torch.testing.assert_close(again[name], gradient, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("level", [-1, 4])
@pytest.mark.parametrize("family", ("bert", "mpnet"))
def test_level_that_does_not_exist(family: str, level: int) -> None:
    encoder, batch = fresh(family), make_batch()
    with pytest.raises(UserError, match="levels 0-3"):
        encoder.upto(level, batch)
    with pytest.raises(UserError, match="levels 0-3"):
        encoder.resume(torch.zeros(27, 32), level, batch)


@in_double
def test_the_accelerator_path_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    from mt_dnn.encoders import attention

    encoder, batch = fresh("bert"), make_batch()
    sequence_by_sequence = encoder(batch)
    monkeypatch.setattr(attention, "_sequence_by_sequence", attention._padded)
    torch.testing.assert_close(encoder(batch), sequence_by_sequence, atol=1e-5, rtol=0)


@in_double
@pytest.mark.parametrize(("lengths", "calls"), [((3, 3, 5, 5, 5, 2), 3), ((4, 4, 4), 1), ((7, 2, 7), 3)])
def test_neighbours_of_the_same_length_share_a_call(
    lengths: tuple[int, ...], calls: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mt_dnn.encoders import attention

    encoder, batch = fresh("bert"), make_batch(lengths)
    seen: list[tuple[int, ...]] = []
    fused = attention.F.scaled_dot_product_attention

    def counted(query: Tensor, *args: Any, **options: Any) -> Tensor:
        seen.append(tuple(query.shape[::2]))  # sequences and tokens
        return fused(query, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(attention.F, "scaled_dot_product_attention", counted)
        together = encoder(batch)
    assert len(seen) == calls * encoder.num_layers
    assert sum(count * length for count, length in seen) == sum(lengths) * encoder.num_layers
    torch.testing.assert_close(together, plain(encoder.model, batch), atol=1e-12, rtol=1e-12)


@in_double
def test_forced_padding_gives_the_same() -> None:
    batch = make_batch()
    for family in PACKED:
        padded = fresh(family, attention="padded")
        assert padded.attention == "padded"
        torch.testing.assert_close(padded(batch), fresh(family)(batch), atol=1e-5, rtol=0)


@in_double
def test_the_packed_model_still_works_by_itself() -> None:
    encoder, batch = fresh("bert"), make_batch()
    torch.testing.assert_close(plain(encoder.model, batch), encoder(batch), atol=1e-5, rtol=0)


@pytest.mark.parametrize("attention", ["packed", "padded"])
def test_attention_dropout_acts_in_training_only(attention: str) -> None:
    batch = make_batch()
    encoder = load_encoder(config=config_of("bert"), attention=attention, dropout=0.0, attention_dropout=0.5)
    assert not torch.equal(encoder.train()(batch), encoder(batch))
    assert torch.equal(encoder.eval()(batch), encoder(batch))
    without = load_encoder(config=config_of("bert"), attention=attention, dropout=0.0, attention_dropout=0.0)
    assert torch.equal(without.train()(batch), without(batch))


@pytest.mark.parametrize("family", PADDED)
def test_dropout_can_be_set_in_every_family(family: str) -> None:
    encoder = load_encoder(config=config_of(family), dropout=0.0, attention_dropout=0.0)
    batch = make_batch()
    torch.testing.assert_close(encoder.train()(batch), encoder.eval()(batch), atol=1e-6, rtol=0)


def test_pooler_of_the_family_is_the_transformers_pooler(tmp_path: Path) -> None:
    encoder, batch = fresh("bert"), make_batch()
    reference = reload(encoder, tmp_path)
    again, hidden = load_encoder(name=str(tmp_path)).eval(), encoder(batch)
    assert again.pooler_source == "pretrained" and again.pooler is None
    expected = torch.stack([reference.pooler(part[None])[0] for part in hidden.split(list(RAGGED))])
    torch.testing.assert_close(again.pool(hidden, batch), expected)


@pytest.mark.parametrize("lengths", [RAGGED, EVEN, SINGLE])
@pytest.mark.parametrize(
    ("pooler", "of_one"),
    [
        ("cls", lambda part, _: part[0]),
        ("mean", lambda part, _: part.mean(0)),
        ("max", lambda part, _: part.max(0).values),
        ("attention", lambda part, query: (part @ query).softmax(0) @ part),
    ],
)
def test_poolers_read_each_sequence(pooler: str, of_one: Any, lengths: tuple[int, ...]) -> None:
    encoder, batch = fresh("bert", pooler=pooler), make_batch(lengths)
    weights = {name: parameter for name, parameter in encoder.named_parameters() if "pooler" in name}
    assert encoder.pooler_source == pooler and list(weights) == ["pooler.weight"] * (pooler == "attention")
    query = weights["pooler.weight"][0] if weights else None
    hidden = torch.randn(sum(lengths), 32) - 3  # below 0, so that a padded token would be the largest
    expected = torch.stack([of_one(part, query) for part in hidden.split(list(lengths))])
    torch.testing.assert_close(encoder.pool(hidden, batch), expected)


def test_fresh_pooler_where_the_checkpoint_has_none(tmp_path: Path) -> None:
    fresh("bert", pooler="mean").save(tmp_path)
    encoder = load_encoder(name=str(tmp_path))
    assert encoder.pooler_source == "fresh" and encoder.pooler is None
    dense = encoder.pooler_dense
    assert 0.01 < dense.weight.std() < 0.03 and not dense.bias.any()
    electra = fresh("electra")
    assert electra.pooler_source == "fresh" and electra.pool(torch.randn(27, 32), make_batch()).shape == (
        4,
        32,
    )


def test_fresh_replaces_a_pretrained_pooler(tmp_path: Path) -> None:
    old = fresh("bert")
    old.save(tmp_path)
    encoder = load_encoder(name=str(tmp_path), pooler="fresh")
    assert encoder.pooler_source == "fresh" and not encoder.pooler_dense.bias.any()
    assert not torch.equal(encoder.pooler_dense.weight, old.pooler_dense.weight)


@in_double
@pytest.mark.parametrize("family", PACKED + PADDED)
def test_scalar_mix_is_that_of_the_states_that_transformers_gives(family: str, tmp_path: Path) -> None:
    encoder, batch = fresh(family, pooler="mean", scalar_mix=True), make_batch()
    assert encoder.mix is not None and encoder.depth_of("mix.weights") == 4
    reference = reload(encoder, tmp_path)
    with torch.no_grad():
        encoder.mix.weights.copy_(torch.tensor([1.0, -1.0, 0.5, 2.0]))
        encoder.mix.scale.fill_(1.5)
    states = torch.stack(plain(reference, batch, output_hidden_states=True))  # the first is that of the embeddings
    shares = 1.5 * encoder.mix.weights.detach().softmax(0)
    expected = torch.einsum("l,lth->th", shares, states)
    torch.testing.assert_close(encoder(batch), expected, atol=1e-5, rtol=0)
    ours, theirs = gradients(encoder, encoder(batch)), gradients(reference, expected)
    assert ours["mix.weights"].abs().min() > 0 and ours["mix.scale"].item() != 0
    for name, gradient in theirs.items():
        torch.testing.assert_close(ours[f"model.{name}"], gradient, atol=1e-5, rtol=1e-3)
    with pytest.raises(UserError, match=r"level 1: encoder\.scalar_mix"):
        encoder.resume(encoder.upto(1, batch), 1, batch)


@in_double
@pytest.mark.parametrize("family", ["bert", "electra"])
def test_packed_scalar_mix_is_the_padded_one(family: str) -> None:
    packed, padded = (fresh(family, attention=how, scalar_mix=True) for how in ("packed", "padded"))
    padded.load_state_dict(packed.state_dict())
    torch.testing.assert_close(packed(make_batch()), padded(make_batch()), atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", PACKED + PADDED)
def test_every_weight_is_stored_once(family: str) -> None:
    encoder = fresh(family)
    storages = [tensor.data_ptr() for tensor in encoder.state_dict().values()]
    assert len(storages) == len(set(storages))


def test_depths() -> None:
    depth = {family: fresh(family).depth_of for family in PACKED + PADDED}
    assert depth["bert"]("model.embeddings.word_embeddings.weight") == 0
    assert depth["bert"]("model.encoder.layer.2.output.dense.weight") == 3
    assert depth["bert"]("model.pooler.dense.weight") == 4
    assert depth["electra"]("model.embeddings_project.weight") == 0
    assert depth["electra"]("pooler.weight") == 4
    assert depth["deberta-v2"]("model.encoder.LayerNorm.weight") == 0
    assert depth["mpnet"]("model.encoder.relative_attention_bias.weight") == 0
    assert depth["modernbert"]("model.layers.0.mlp.Wi.weight") == 1
    assert depth["modernbert"]("model.final_norm.weight") == 4
    for family, function in depth.items():
        assert {function(name) for name, _ in fresh(family).named_parameters()} == {0, 1, 2, 3, 4}


@pytest.mark.parametrize(
    ("family", "positions"),
    [("bert", 64), ("roberta", 62), ("mpnet", 62), ("electra", 64), ("deberta-v2", None)],
)
def test_usable_positions(family: str, positions: int | None) -> None:
    encoder = fresh(family)
    assert encoder.max_positions == positions
    longest = make_batch((positions or 80,))
    assert encoder(longest).shape == (positions or 80, 32)


def test_weights_that_are_missing_are_named(tmp_path: Path) -> None:
    fresh("bert").save(tmp_path)
    file = tmp_path / "model.safetensors"
    tensors = load_file(file)
    del tensors["encoder.layer.1.output.dense.weight"]
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"lacks 1 weights: encoder\.layer\.1\.output\.dense\.weight"):
        load_encoder(name=str(tmp_path))


def test_weights_in_excess_are_listed(tmp_path: Path) -> None:
    fresh("bert").save(tmp_path)
    file = tmp_path / "model.safetensors"
    save_file({**load_file(file), "cls.predictions.bias": torch.zeros(60)}, file, metadata={"format": "pt"})
    assert load_encoder(name=str(tmp_path)).ignored_weights == ["cls.predictions.bias"]


DAMAGES = ["cut off", "other shape", "objects", "cut off bin", "not a state", "no weights"]
DAMAGES += ["broken config", "unknown family"]


def damage(folder: Path, kind: str) -> None:
    file = folder / "model.safetensors"
    if kind == "cut off":
        file.write_bytes(file.read_bytes()[:2000])
    elif kind == "other shape":
        wrong = {"embeddings.word_embeddings.weight": torch.zeros(9, 32)}
        save_file({**load_file(file), **wrong}, file, metadata={"format": "pt"})
    elif kind in ("objects", "cut off bin", "not a state"):
        content: Any = load_file(file) if kind == "cut off bin" else {"weights": ["not", "tensors"]}
        torch.save({"run": pytest.raises} if kind == "objects" else content, folder / "pytorch_model.bin")
        if kind == "cut off bin":
            (folder / "pytorch_model.bin").write_bytes((folder / "pytorch_model.bin").read_bytes()[:2000])
        file.unlink()
    elif kind == "no weights":
        file.unlink()
    else:
        (folder / "config.json").write_text("{broken" if kind == "broken config" else '{"model_type": "nonesuch"}')


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_encoder_is_one_clear_line(kind: str, tmp_path: Path) -> None:
    fresh("bert").save(tmp_path)
    damage(tmp_path, kind)
    with pytest.raises(UserError) as caught:
        load_encoder(name=str(tmp_path))
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)
    assert kind != "objects" or "never run" in str(caught.value)
    assert kind != "no weights" or "model.safetensors" in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "/nonesuch/encoder"}, "no such folder"),
        ({"name": "nonesuch-encoder-of-nobody"}, "the hub cannot be reached .*; give a folder or package:"),
        ({"config": {"hidden_size": 8}}, "model_type is missing"),
        ({"config": {"model_type": "brt"}}, "did you mean 'bert'"),
        ({"config": config_of("bert") | {"hiden_size": 8}}, "did you mean 'hidden_size'"),
        ({"config": config_of("bert") | {"num_attention_heads": 5}}, "encoder.config: "),
        ({"config": config_of("mpnet"), "attention": "packed"}, "bert, roberta, xlm-roberta, electra"),
        ({"config": {"model_type": "albert", "hidden_size": 8, "num_attention_heads": 2}}, "not supported"),
    ],
)
def test_what_cannot_be_had_is_one_clear_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        load_encoder(**options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("family", FAMILIES)
def test_weights_under_old_names_of_a_task_model_are_saved_under_the_names_of_the_encoder(
    family: str, tmp_path: Path
) -> None:
    encoder = load_encoder(name=str(wild_encoder(tmp_path / "wild", family)))
    encoder.save(tmp_path / "saved")
    again, saved = load_encoder(name=str(tmp_path / "saved")), load_file(tmp_path / "saved" / "model.safetensors")
    assert saved.keys() <= encoder.model.state_dict().keys()
    for name, value in encoder.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[name], value), name
