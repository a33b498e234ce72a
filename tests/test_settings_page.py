"""The page of settings has every setting of every class, and is current."""

from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest

from longtake import config
from longtake.cli.settings_page import CLASSES, field_docs, settings_page
from longtake.data.rules import PrepareConfig
from longtake.official.settings import OfficialConfig
from longtake.recipes.finetune import FinetuneRecipe
from longtake.recipes.recipe import PrevizRecipe

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "settings.md"


def test_the_page_is_current():
    assert PAGE.read_text("utf-8") == settings_page(), (
        "run: python -m longtake.cli.settings_page > docs/reference/settings.md"
    )


def test_every_class_of_settings_is_on_the_page():
    found = {
        value for value in vars(config).values() if isinstance(value, type) and is_dataclass(value)
    }
    assert set(CLASSES) == found | {OfficialConfig, PrevizRecipe, FinetuneRecipe, PrepareConfig}
    assert len(CLASSES) > 5


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_setting_is_documented_in_one_sentence_or_more(cls):
    docs = field_docs(cls)
    assert list(docs) == [f.name for f in fields(cls)]
    assert all(text.endswith(".") and text[0] in "`" + text[0].upper() for text in docs.values())


def test_a_setting_shows_its_type_and_default():
    lines = settings_page().splitlines()
    assert "| `frames` | int | 81 |" in "\n".join(lines)
    samplers = [line for line in lines if line.startswith("| `sampler`")]
    assert len(samplers) == 3
    assert all(line.startswith("| `sampler` | `dpm`, `euler` | dpm |") for line in samplers)
    stages = [line for line in lines if "[TrainConfig](#trainconfig)" in line]
    assert "`steps` 4717" in stages[0]
    assert "`steps` 9189" in stages[1]
