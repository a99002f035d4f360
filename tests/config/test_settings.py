"""Each setting's parsing, bounds and words; the checks of settings against each other."""

import math

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from nanogpt.config import (
    Config,
    config_from_toml,
    config_to_toml,
    resolve,
    sampling_settings,
    settings,
    with_settings,
)
from nanogpt.config.setting import Setting
from nanogpt.errors import SettingError

quickly = hypothesis_settings(max_examples=50, deadline=None)  # a busy machine is no failure
ALL = [*settings().values(), *sampling_settings().values()]
NUMBERS = [setting for setting in ALL if setting.value_type in (int, float)]

anything = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.lists(st.integers()), st.binary(max_size=4)
)


@pytest.mark.parametrize("setting", ALL, ids=lambda setting: f"{setting.section}.{setting.name}")
def test_every_default_is_within_its_own_bounds_and_explained(setting: Setting) -> None:
    assert setting.parse(setting.default) == setting.default
    assert setting.help


@pytest.mark.parametrize("setting", NUMBERS, ids=lambda setting: f"{setting.section}.{setting.name}")
def test_bounds_hold_at_the_edge_and_just_outside(setting: Setting) -> None:
    step = 1 if setting.value_type is int else math.ulp(1.0)
    for edge, inside in ((setting.low, 0), (setting.high, 0), (setting.above, 1), (setting.below, -1)):
        if edge is None:
            continue
        away = 1 if edge in (setting.low, setting.above) else -1
        assert setting.parse(setting.value_type(edge + inside * step)) == edge + inside * step
        with pytest.raises(SettingError, match=rf"{setting.name}=.*has to be .*{setting.bounds.split()[0]}"):
            setting.parse(setting.value_type(edge if inside else edge - away * max(step, abs(edge) * 1e-9)))


@quickly
@given(setting=st.sampled_from(ALL), value=anything)
def test_parsing_gives_a_legal_value_of_the_settings_type_or_one_line_that_names_it(
    setting: Setting, value: object
) -> None:
    try:
        parsed = setting.parse(value)
    except SettingError as refused:
        text = str(refused)
        assert (refused.setting, text.startswith(f"{setting.name}="), text.isprintable()) == (setting.name, True, True)  # noqa: PT017
        return
    if parsed is None:
        assert setting.optional
        return
    assert type(parsed) is setting.value_type
    assert setting.parse(parsed) == parsed
    if isinstance(parsed, float):
        assert math.isfinite(parsed)
    if setting.choices:
        assert parsed in setting.choices


@quickly
@given(st.sampled_from([s for s in ALL if s.value_type is int]), st.integers(0, 10**6))
def test_a_whole_number_is_read_the_same_from_a_flag_and_from_a_file(setting: Setting, value: int) -> None:
    try:
        expected = setting.parse(value)
    except SettingError:
        return
    assert setting.parse(str(value)) == setting.parse(float(value)) == setting.parse(f" {value} ") == expected


def test_every_whole_number_has_bounds_on_both_sides() -> None:
    assert [setting.name for setting in ALL if setting.value_type is int and None in (setting.low, setting.high)] == []


def test_large_whole_numbers_keep_every_digit() -> None:
    assert settings()["seed"].parse(str(2**63 - 1)) == 2**63 - 1


@pytest.mark.parametrize(("text", "value"), [("1e3", 1000), ("2_000", 2000), ("1.0", 1)])
def test_whole_numbers_may_be_written_as_python_writes_them(text: str, value: int) -> None:
    assert settings()["max_iters"].parse(text) == value


@pytest.mark.parametrize("value", ["1.5", "nan", "inf", "-inf", "", "four", "True", True, [4]])
def test_what_is_no_whole_number_is_refused(value: object) -> None:
    with pytest.raises(SettingError, match=r"n_layer=.*a whole number"):
        settings()["n_layer"].parse(value)


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", math.nan, math.inf, "1e999"])
def test_numbers_that_are_not_finite_are_refused(value: object) -> None:
    with pytest.raises(SettingError, match=r"learning_rate=.*(finite|has to be)"):
        settings()["learning_rate"].parse(value)
    with pytest.raises(SettingError, match=r"grad_clip="):
        settings()["grad_clip"].parse(value)


def test_an_int_is_taken_where_a_float_is_expected() -> None:
    dropout = settings()["dropout"].parse(0)
    assert (dropout, type(dropout)) == (0.0, float)


@pytest.mark.parametrize(
    ("text", "value"), [("True", True), ("yes", True), ("1", True), ("FALSE", False), ("no", False)]
)
def test_true_and_false_have_their_usual_spellings(text: str, value: bool) -> None:
    assert settings()["bias"].parse(text) is value


def test_choices_ignore_case_and_suggest_the_nearest() -> None:
    assert settings()["dtype"].parse("BFloat16") == "bfloat16"
    with pytest.raises(SettingError, match=r"one of auto, float32, bfloat16, float16.*Did you mean bfloat16\?"):
        settings()["dtype"].parse("bfloat")


@pytest.mark.parametrize("written", [True, "true", "True"])
def test_compile_takes_a_boolean_too(written: object) -> None:
    """TOML and JSON have booleans, and nanoGPT's flag is one."""
    assert settings()["compile"].parse(written) == "true"


def test_a_value_with_control_characters_is_shown_harmless() -> None:
    with pytest.raises(SettingError) as caught:
        settings()["dtype"].parse("\x1b[2Jfloat32\n")
    assert str(caught.value).isprintable()
    with pytest.raises(SettingError) as caught:
        with_settings(Config(), {"device": "cpu\x1b[2J"})
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("none", ["none", "None", "", None])
def test_an_optional_setting_can_be_left_open_and_no_other(none: object) -> None:
    assert settings()["min_lr"].parse(none) is None
    with pytest.raises(SettingError):
        settings()["learning_rate"].parse(none)


def test_names_are_unique_and_sections_are_those_of_the_configuration() -> None:
    values = Config().values()
    assert list(values) == list(settings())
    assert {setting.section for setting in settings().values()} == {
        "model", "data", "optimizer", "schedule", "evaluation", "checkpoint", "system",
    }  # fmt: skip


def test_heads_have_to_share_the_width_equally() -> None:
    with pytest.raises(SettingError, match=r"n_embd=130 is not divisible by n_head=4.*try n_embd=128") as caught:
        resolve(flags={"n_embd": 130, "n_head": 4})
    assert caught.value.setting == "n_embd"


@quickly
@given(n_embd=st.integers(1, 3000), n_head=st.integers(1, 64))
def test_the_width_that_is_suggested_instead_works(n_embd: int, n_head: int) -> None:
    try:
        resolve(flags={"n_embd": n_embd, "n_head": n_head})
    except SettingError as error:
        suggested = int(str(error).rpartition("=")[2])
        resolve(flags={"n_embd": suggested, "n_head": n_head})


def test_the_lowest_learning_rate_is_at_most_the_highest() -> None:
    with pytest.raises(SettingError, match=r"min_lr=0.01: has to be at most learning_rate=0.001"):
        with_settings(Config(), {"min_lr": 0.01})
    assert with_settings(Config(), {"min_lr": 1e-3}).values()["min_lr"] == 1e-3


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:0", "cuda:11", "mps"])
def test_devices_that_can_be_asked_for(device: str) -> None:
    assert with_settings(Config(), {"device": device}).system.device == device


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "cuda0", "", "cpu:0"])
def test_other_devices_are_refused(device: str) -> None:
    with pytest.raises(SettingError, match="has to be auto, cpu, cuda, cuda:N or mps") as caught:
        with_settings(Config(), {"device": device})
    assert caught.value.setting == "device"


def test_a_text_that_is_not_utf_8_is_refused() -> None:
    with pytest.raises(SettingError, match=r"wandb_run_name='\\udcff': has to be text in UTF-8"):
        with_settings(Config(), {"wandb_run_name": "\udcff"})


def test_what_is_left_open_follows_the_other_settings() -> None:
    config = with_settings(Config(), {"learning_rate": 0.02})
    assert config.schedule.learning_rate(2000, 0.02, 2000) == 0.002
    assert with_settings(config, {"min_lr": 0}).schedule.learning_rate(2000, 0.02, 2000) == 0.0


def test_an_iteration_sees_batch_times_accumulation_times_context() -> None:
    values = {"batch_size": 3, "gradient_accumulation_steps": 5, "block_size": 7}
    assert with_settings(Config(), values).tokens_per_iteration == 3 * 5 * 7


def test_a_configuration_cannot_be_changed_in_place() -> None:
    with pytest.raises(AttributeError):
        Config().model.block_size = 5  # type: ignore[misc]
    assert resolve(flags={"beta1": 0.5}).config != Config()


def test_bounds_are_written_out() -> None:
    assert settings()["batch_size"].bounds == "at least 1 and at most 1,000,000"
    assert settings()["dropout"].bounds == "at least 0 and below 1"


@pytest.mark.parametrize(
    "other",
    [{"ema_decay": "0.9"}, {"max_norm": "2"}, {"dtype": "float16"}, {"noise_interval": "5"}, {"lora_rank": "4"}],
)
def test_sharding_refuses_what_needs_all_weights_in_one_process(other):
    base = {"gradient_accumulation_steps": "2", "init_from": "some-run"}
    with pytest.raises(SettingError, match=rf"{next(iter(other))}=.* not with sharding=fsdp.*use "):
        resolve(flags=base | other | {"sharding": "fsdp"})


def test_more_processes_than_sequences_are_refused_when_they_are_to_be_started():
    """Not before: torchrun does not use the setting, so that a run that it trained may have any number."""
    asked = {"batch_size": "3", "gradient_accumulation_steps": "2"}
    resolve(flags=asked | {"processes": "6"}).config.check_processes()
    config = resolve(flags=asked | {"processes": "7"}).config
    assert config_from_toml(config_to_toml(config)) == config
    with pytest.raises(SettingError, match=r"processes=7: a step has 6 sequences, .* use at most 6"):
        config.check_processes()
