"""Defaults, presets, files and flags, merged in this order; the record that a run keeps, read back equal."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from nanogpt.config import (
    Config,
    config_from_toml,
    config_to_toml,
    load_preset,
    preset_names,
    resolve,
    resolve_sampling,
    settings,
    with_settings,
)
from nanogpt.config.presets import preset_paths
from nanogpt.errors import SettingError, UserError
from nanogpt.models import gpt2
from nanogpt.runs.folder import run_config
from tests.narrowing import expect

quickly = hypothesis_settings(max_examples=50, deadline=None)  # a busy machine is no failure


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_configuration_needs_no_torch_and_no_numpy() -> None:
    script = "import sys, nanogpt.config; print('torch' in sys.modules, 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout == "False False\n"


# ---- where values come from


def test_later_places_win_and_each_value_knows_its_place(tmp_path: Path) -> None:
    file = write(tmp_path / "mine.toml", "n_layer = 8\ndropout = 0.3\n")
    resolved = resolve(preset="baby", file=file, flags={"dropout": "0.4"})
    model = expect(gpt2.Config, resolved.config.model)
    assert (model.bias, model.n_embd, model.n_layer, model.dropout) == (False, 384, 8, 0.4)
    places = [resolved.sources[name] for name in ("bias", "n_embd", "n_layer", "dropout")]
    assert places == ["default", "preset baby", str(file), "flag"]
    assert resolved.sources.keys() == settings().keys()


def test_nothing_given_is_the_defaults() -> None:
    resolved = resolve()
    assert resolved.config == Config()
    assert set(resolved.sources.values()) == {"default"}


def test_values_of_a_run_take_the_place_of_the_defaults() -> None:
    recorded = with_settings(Config(), {"schedule": "wsd", "gradient_accumulation_steps": 2, "seed": 7}).values()
    resolved = resolve(flags={"final_lr": 0.1, "noise_interval": 5, "seed": 8}, defaults=recorded)
    values = resolved.config.values()
    names = ("schedule", "gradient_accumulation_steps", "final_lr", "noise_interval", "seed")
    assert [values[name] for name in names] == ["wsd", 2, 0.1, 5, 8]
    assert [resolved.sources[name] for name in names] == ["default", "default", "flag", "flag", "flag"]


def test_a_value_of_a_lower_place_is_checked_only_with_the_rest(tmp_path: Path) -> None:
    """n_embd=390 fits no preset's 4 heads, but it fits those of the flag."""
    file = write(tmp_path / "wide.toml", "n_embd = 390\n")
    assert expect(gpt2.Config, resolve(file=file, flags={"n_head": 6}).config.model).n_embd == 390
    with pytest.raises(SettingError, match="not divisible"):
        resolve(file=file)


def test_a_file_can_name_its_preset_and_the_one_given_beside_it_wins(tmp_path: Path) -> None:
    file = write(tmp_path / "mine.toml", 'preset = "baby"\n')
    assert resolve(file=file).sources["n_embd"] == "preset baby"
    assert resolve(preset="gpt2", file=file).sources["n_embd"] == "preset gpt2"


@pytest.mark.parametrize("preset", ["bay", "", 7, ["baby"]])
def test_an_unknown_preset_is_refused_with_those_that_there_are(tmp_path: Path, preset: Any) -> None:
    file = write(tmp_path / "mine.json", json.dumps({"preset": preset}))
    with pytest.raises(SettingError, match=r"known presets: baby, .*gpt2-xl") as caught:
        resolve(file=file)
    assert caught.value.setting == "preset"


@pytest.mark.parametrize(("wrong", "right"), [("n_layers", "n_layer"), ("learning-rate", "learning_rate")])
def test_an_unknown_name_suggests_the_nearest(wrong: str, right: str) -> None:
    with pytest.raises(SettingError, match=rf"no setting '{wrong}'.*Did you mean {right}\?"):
        resolve(flags={wrong: 1})


def test_an_unknown_name_that_is_near_nothing_suggests_nothing() -> None:
    with pytest.raises(SettingError) as caught:
        resolve(flags={"zzzzzzzz": 1})
    assert "Did you mean" not in str(caught.value)


# ---- files


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("flat.toml", 'n_layer = 3\ndataset = "mine"\n'),
        ("sections.toml", '[model]\nn_layer = 3\n[data]\ndataset = "mine"\n'),
        ("flat.json", '{"n_layer": 3, "dataset": "mine"}'),
        ("sections.json", '{"model": {"n_layer": 3}, "data": {"dataset": "mine"}}'),
        ("run.toml", '[run]\nn_layer = "not a setting here"\n[model]\nn_layer = 3\n[data]\ndataset = "mine"\n'),
    ],
)
def test_files_are_flat_or_in_sections(tmp_path: Path, name: str, text: str) -> None:
    config = resolve(file=write(tmp_path / name, text)).config
    assert (expect(gpt2.Config, config.model).n_layer, config.data.dataset) == (3, "mine")


def test_a_file_of_python_is_refused_and_not_run(tmp_path: Path) -> None:
    trace = tmp_path / "ran"
    file = write(tmp_path / "train_gpt2.py", f"open({str(trace)!r}, 'w')\n")
    with pytest.raises(UserError, match="TOML or JSON"):
        resolve(file=file)
    assert not trace.exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("broken.toml", b"n_layer = = 3"),
        ("broken.json", b'{"n_layer": '),
        ("list.json", b"[1, 2]"),
        ("binary.toml", b"\xff\xfe\x00"),
        ("deep.json", b"[" * 100_000),
        ("long.toml", b"seed = 0x" + b"f" * 5000),
    ],
)
def test_an_unreadable_file_is_refused_in_one_line_that_names_it(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=name) as caught:
        resolve(file=tmp_path / name)
    assert len(str(caught.value).splitlines()) == 1


def test_a_missing_file_names_the_presets(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no configuration file .*--preset=NAME.*nanogpt config --presets"):
        resolve(file=tmp_path / "absent.toml")
    with pytest.raises(UserError, match="cannot read"):
        resolve(file=tmp_path)


def test_a_bad_value_in_a_file_names_its_setting(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="dropout=nan"):
        resolve(file=write(tmp_path / "mine.toml", "dropout = nan\n"))
    with pytest.raises(SettingError, match=r"n_layer=\[3\]: has to be a whole number"):
        resolve(file=write(tmp_path / "mine.toml", "n_layer = [3]\n"))


def test_an_unknown_section_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"no section 'modell'.*Did you mean model\?"):
        resolve(file=write(tmp_path / "mine.toml", "[modell]\nn_layer = 3\n"))


# ---- the record of a run

texts = st.text(st.characters(exclude_categories=["Cs"]))


@st.composite
def configurations(draw: st.DrawFn) -> Config:
    return with_settings(
        Config(),
        {
            "n_head": (n_head := draw(st.integers(1, 8))),
            "n_embd": n_head * draw(st.integers(1, 64)),
            "dropout": draw(st.floats(0, 0.99)),
            "bias": draw(st.booleans()),
            "learning_rate": draw(st.floats(1e-300, 1000)),
            "min_lr": draw(st.none() | st.just(0.0)),
            "lr_decay_iters": draw(st.none() | st.integers(0, 10**12)),
            "dataset": draw(texts),
            "sample_start": draw(texts),
            "compile": draw(st.sampled_from(["auto", "true", "false"])),
            "seed": draw(st.integers(0, 2**63 - 1)),
        },
    )


@quickly
@given(configurations())
def test_a_configuration_written_as_toml_reads_back_equal(config: Config) -> None:
    assert config_from_toml(tomllib.loads(tomli_w.dumps(config_to_toml(config)))) == config


def test_the_record_is_a_configuration_file_again(tmp_path: Path) -> None:
    config = resolve(preset="baby", flags={"min_lr": 1e-5}).config
    tables = {"run": {"torch": "2.13", "seed": "a fact, no setting"}, **config_to_toml(config)}
    assert resolve(file=write(tmp_path / "run.toml", tomli_w.dumps(tables))).config == config
    assert config_from_toml(tables) == config


@pytest.mark.parametrize("tables", [{"model": {"n_layer": 0}}, {"model": {"layers": 1}}, {"model": 3}])
def test_a_record_that_was_tampered_with_is_refused(tables: dict[str, Any]) -> None:
    with pytest.raises(SettingError):
        config_from_toml(tables)


# ---- presets

PARAMETERS = {
    # from the formula below, and as published with the weights (Radford et al. 2019; 117M there was a slip for 124M)
    "gpt2": 124_439_808,
    "gpt2-medium": 354_823_168,
    "gpt2-large": 774_030_080,
    "gpt2-xl": 1_557_611_200,
}


def parameters(preset: str, vocab_size: int) -> int:
    """Two embeddings; a block: 12 C² weights, 13 C biases and norms where there are any, else 2 C; the last norm."""
    model = expect(gpt2.Config, resolve(preset=preset).config.model)
    width, biased = model.n_embd, model.bias
    block = 12 * width**2 + (13 if biased else 2) * width
    return (vocab_size + model.block_size) * width + model.n_layer * block + (2 if biased else 1) * width


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_resolves_and_says_what_it_is(name: str) -> None:
    resolved = resolve(preset=name)
    assert load_preset(name).help
    assert {key for key, place in resolved.sources.items() if place == f"preset {name}"} == load_preset(
        name
    ).values.keys()


@pytest.mark.parametrize("name", PARAMETERS)
def test_the_gpt2_presets_have_the_published_number_of_parameters(name: str) -> None:
    assert parameters(name, vocab_size=50257) == PARAMETERS[name]


@pytest.mark.parametrize(("name", "total"), [("macbook", 804_096), ("baby", 10_745_088)])
def test_the_small_presets_make_models_of_the_known_size(name: str, total: int) -> None:

    model = with_settings(resolve(preset=name).config, {"vocab_size": 65}).model.build()
    assert model.n_parameters() == parameters(name, vocab_size=65) == total


# ---- sampling


def test_sampling_knobs_are_read_from_text_and_checked() -> None:
    knobs = resolve_sampling({"temperature": "0", "top_k": "5"}, stop=["\n"])
    assert (knobs.temperature, knobs.top_k, knobs.top_p, knobs.stop) == (0.0, 5, 1.0, ("\n",))
    with pytest.raises(SettingError, match="top_p=0: has to be above 0 and at most 1"):
        resolve_sampling({"top_p": 0})
    with pytest.raises(SettingError, match=r"'temprature'.*Did you mean temperature\?"):
        resolve_sampling({"temprature": 1})


def test_a_setting_of_a_component_that_is_not_chosen_says_whose_it_is() -> None:
    with pytest.raises(
        SettingError,
        match=r"ngram is .* architecture ensemble or modern.*architecture=gpt2: .* one of these with --architecture",
    ) as caught:
        resolve(flags={"ngram": 3})
    assert caught.value.setting == "ngram"
    with pytest.raises(SettingError, match=r"min_lr is a setting of the schedule cosine.*schedule=constant"):
        resolve(flags={"schedule": "constant", "min_lr": 0})
    with pytest.raises(SettingError, match=r"bias is a setting of the architecture gpt2"):
        resolve(flags={"architecture": "modern", "bias": True})


def test_another_component_keeps_the_values_of_the_settings_that_both_have() -> None:
    config = resolve(preset="gpt2", flags={"architecture": "modern"}).config
    assert (config.model.name, config.values()["n_embd"], config.model.block_size) == ("modern", 768, 1024)
    assert "bias" not in config.values(), "which the preset sets for gpt2"
    back = with_settings(config, {"architecture": "gpt2"})
    assert (back.values()["n_embd"], back.values()["bias"]) == (768, False)


def test_a_recorded_run_of_format_1_had_the_settings_of_all_components() -> None:
    tables = {"model": {"architecture": "gpt2", "n_layer": 2, "ngram": 2}, "optimizer": {"optimizer": "muon"}}
    config = config_from_toml(tables, format=1)
    assert (config.model.name, config.values()["n_layer"], config.optimizer.name) == ("gpt2", 2, "muon")
    with pytest.raises(SettingError, match="ngram"):
        config_from_toml(tables)


@pytest.mark.parametrize("name", ["gpt2", "modern"])
def test_a_recorded_run_of_format_1_is_a_file_of_settings_too(name: str) -> None:
    run = Path(__file__).parents[1] / "fixtures" / "version-0.1" / "home" / "runs" / name
    assert resolve(file=run / "run.toml").config == run_config(run)


def test_a_preset_of_ones_own_is_found_and_may_build_on_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NANOGPT_CONFIG_DIR", str(tmp_path))
    (tmp_path / "presets").mkdir()
    write(tmp_path / "presets" / "mine.toml", 'help = "mine"\npreset = "baby"\nn_layer = 2\n')
    assert "mine" in preset_names()
    config = resolve(preset="mine").config
    assert (config.values()["n_layer"], config.values()["n_embd"]) == (2, 384)
    write(tmp_path / "presets" / "mine.toml", 'preset = "gpt2"\narchitecture = "lstm"\nn_layer = 2\n')
    config = resolve(preset="mine").config
    assert (config.model.name, config.values()["n_layer"], config.model.block_size) == ("lstm", 2, 1024)
    write(tmp_path / "presets" / "mine.toml", 'preset = "other"\n')
    write(tmp_path / "presets" / "other.toml", 'preset = "mine"\n')
    with pytest.raises(UserError, match="builds on itself"):
        resolve(preset="mine")


def test_a_preset_is_a_file_of_settings_too() -> None:
    assert resolve(file=preset_paths()["macbook"]).config == resolve(preset="macbook").config
