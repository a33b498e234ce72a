"""Lists of films: every line is checked, and named by its number when it cannot be."""

import json
from dataclasses import replace

import pytest

from longtake.config import SampleConfig, to_dict
from longtake.errors import BatchError
from longtake.server.batch_list import read_list
from longtake.server.settings import Limits
from longtake.server.studio import open_studio

DEFAULTS = SampleConfig(width=64, height=64, frames=17, steps=4)


@pytest.fixture
def studio(tmp_path, tiny):
    folder = tmp_path / "tiny"
    folder.mkdir()
    (folder / "model.json").write_text(json.dumps(to_dict(tiny)))
    return open_studio(str(folder), Limits())


@pytest.fixture
def read(tmp_path, studio):
    def read(text, name="films.jsonl"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_list(path, studio, DEFAULTS)

    return read


def test_the_same_films_as_json_as_a_table_and_as_options_are_the_same_requests(read):
    line = {"prompt": "a red ball", "seed": 7, "size": "96x64", "seconds": 1, "name": "one"}
    (from_json,) = read(json.dumps(line))
    (from_csv,) = read("name,prompt,seed,size,seconds\none,a red ball,7,96x64,1\n", "films.csv")
    assert replace(from_csv, line=1) == from_json
    assert from_json.request.settings == replace(DEFAULTS, width=96, seed=7, frames=17)
    assert from_json.name == "one"


def test_a_prompt_a_line_takes_everything_else_from_the_options(read):
    first, second = read("a red ball\n\n  a blue ball, and more\n", "films.txt")
    assert [(e.line, e.name, e.request.prompt) for e in (first, second)] == [
        (1, "0001", "a red ball"),
        (3, "0003", "a blue ball, and more"),
    ]
    assert second.request.settings == DEFAULTS


def test_a_table_knows_quotes_empty_cells_and_a_prompt_that_is_a_number(read):
    entries = read('prompt,seed,frames\n"a red ball, rolling",,\n12,3,5\n', "films.csv")
    assert [e.request.prompt for e in entries] == ["a red ball, rolling", "12"]
    assert [e.request.settings.frames for e in entries] == [17, 5]


def test_a_job_is_named_by_name_request_and_model(read):
    one, other = read('{"prompt": "a ball"}\n{"prompt": "a ball"}')
    (again,) = read('{"prompt": "a ball", "seed": 0}')
    assert one.job("m") == again.job("m")
    assert len({one.job("m"), other.job("m"), one.job("n")}) == 3


@pytest.mark.parametrize(
    ("text", "name", "said"),
    [
        ("", "films.jsonl", "films.jsonl is empty"),
        (" \n\n", "films.txt", "films.txt is empty"),
        ("prompt,seed\n", "films.csv", "films.csv is empty"),
        ('{"prompt": "a"}\n{"prompt": "a",}', "films.jsonl", "line 2 of films.jsonl is no JSON"),
        ('{"prompt": "a"}\n["b"]', "films.jsonl", "line 2 of films.jsonl is no JSON object"),
        ('{"prompt": "a"}\na blue ball', "films.txt", "line 2 of films.txt is no JSON"),
        ('\n{"prompt": "a", "sed": 1}', "films.jsonl", "line 2 of films.jsonl: sed: unknown field"),
        ('{"prompt": ""}', "films.jsonl", "line 1 of films.jsonl: prompt: "),
        ('{"prompt": "a", "size": "100x64"}', "films.jsonl", "the nearest is 96"),
        ('{"prompt": "a", "frames": 1601}', "films.jsonl", "line 1"),
        ('{"prompt": "a", "model": "other"}', "films.jsonl", "line 1 of films.jsonl: model: "),
        ('{"prompt": "a", "input_reference": "aGk="}', "films.jsonl", "no picture"),
        ('{"prompt": "a", "name": "../a"}', "films.jsonl", "line 1 of films.jsonl: name: "),
        ('{"prompt": "a", "name": 3}', "films.jsonl", "line 1 of films.jsonl: name: "),
        ("prompt,seed\na,b\n", "films.csv", "line 2 of films.csv: seed: "),
        ("prompt,seed\na\n", "films.csv", "line 2 of films.csv has not 2 cells"),
        ("prompt,seed\na, b, 3\n", "films.csv", "line 2 of films.csv has not 2 cells"),
        ("seed,seed\n1,2\n", "films.csv", "names a field twice"),
        ('prompt\n"a\n', "films.csv", "films.csv is no CSV"),
        (b"a red ball\n\xff\n", "films.txt", "line 2 of films.txt is not UTF-8"),
    ],
)
def test_a_line_that_cannot_be_made_is_named_by_its_number(read, text, name, said):
    with pytest.raises(BatchError) as error:
        read(text, name)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_two_films_of_one_name_are_refused_with_both_lines(read):
    with pytest.raises(BatchError, match=r"lines 1 and 3 of films\.jsonl both make A\.mp4"):
        read('{"prompt": "a", "name": "a"}\n{"prompt": "b"}\n{"prompt": "c", "name": "A"}')


def test_a_list_that_is_missing_is_said_in_a_line(tmp_path, studio):
    with pytest.raises(BatchError, match="cannot read the list .*: No such file"):
        read_list(tmp_path / "none.txt", studio, DEFAULTS)
