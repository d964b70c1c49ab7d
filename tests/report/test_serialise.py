"""Reports as JSON: strict, and with errors that say which field is wrong."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from fastcheck.errors import InputError, InputTypeError
from fastcheck.report import Report, Verdict, Worst


def strict(text):
    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.fixture
def data(report, tensor):
    return report(tensor("W1"), tensor("b1", (10,))).to_dict()


def test_a_report_comes_back_equal(report, tensor):
    found = report(
        tensor("W1", notes=("One.",), reason="Fine."),
        tensor("b1", (10,), worst=None, verdict=Verdict.INCONCLUSIVE),
        notes=("Two.",),
    )
    assert Report.from_json(found.to_json()) == found
    assert Report.from_dict(found.to_dict()) == found
    assert Report.from_json(found.to_json().encode()) == found


def test_tensors_keep_their_order(report, tensor):
    names = ["z", "a", "m"]
    found = report(*(tensor(name) for name in names))
    assert list(Report.from_json(found.to_json()).tensors) == names


def test_non_finite_numbers_are_strings_in_strict_json(report, tensor):
    broken = tensor("W", worst=Worst((0, 0), math.nan, -math.inf, math.inf))
    text = report(broken, loss=math.nan).to_json()
    found = strict(text)
    assert found["loss"] == "nan"
    assert found["tensors"]["W"]["worst"] == {
        "index": [0, 0],
        "analytic": "nan",
        "numeric": "-inf",
        "error_bar": "inf",
    }
    back = Report.from_json(text)
    assert math.isnan(back.loss)
    assert back.tensors["W"].worst.numeric == -math.inf


def test_numpy_numbers_become_plain_ones(report, tensor):
    found = report(
        tensor("W", (np.int64(2),), checked=np.int64(2), worst=Worst((np.intp(1),), *np.ones(3))),
        seconds=np.float32(0.5),
    )
    assert strict(found.to_json())["tensors"]["W"]["worst"]["index"] == [1]
    assert strict(found.to_json())["seconds"] == 0.5


def test_one_line_on_request(report, tensor):
    assert "\n" not in report(tensor()).to_json(indent=None)


def test_the_schema_is_written(data):
    assert data["schema"] == 1


def test_another_schema_is_refused_with_the_version_that_wrote_it(data):
    with pytest.raises(InputError) as error:
        Report.from_dict(data | {"schema": 2, "fastcheck_version": "9.1"})
    assert str(error.value) == (
        "`data` has report schema 2, and this fastcheck reads schema 1; "
        "read it with the fastcheck that wrote it (version 9.1)."
    )


def test_a_dict_without_schema_is_no_report():
    with pytest.raises(InputError) as error:
        Report.from_dict({})
    assert str(error.value) == (
        "`data` lacks schema; give what `Report.to_dict` or `Report.to_json` returned, whole."
    )


def test_all_missing_fields_are_named(data):
    del data["loss"], data["notes"]
    with pytest.raises(InputError, match=r"^`data` lacks loss, notes; give what"):
        Report.from_dict(data)


def test_a_missing_field_of_a_tensor_is_named_with_its_place(data):
    del data["tensors"]["b1"]["shape"], data["tensors"]["b1"]["step"]
    with pytest.raises(InputError) as error:
        Report.from_dict(data)
    assert str(error.value) == (
        "`data` lacks tensors['b1'].shape, tensors['b1'].step; "
        "give what `Report.to_dict` or `Report.to_json` returned, whole."
    )


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("verdict", "maybe", "'maybe'"),
        ("loss", "2.3", "'2.3'"),
        ("loss", None, "None"),
        ("loss_calls", 1.5, "1.5"),
        ("loss_calls", True, "True"),
        ("notes", "a note", "'a note'"),
        ("notes", [1], "[1]"),
        ("method", 3, "3"),
        ("tensors", [], "[]"),
        ("fastcheck_version", "9" * 80, None),
    ],
)
def test_an_impossible_field_is_named(data, name, value, shown):
    if shown is None:
        assert Report.from_dict(data | {name: value}).fastcheck_version == value
        return
    with pytest.raises(InputError) as error:
        Report.from_dict(data | {name: value})
    assert str(error.value) == (
        f"`data` has {name} = {shown}, which no report holds; "
        "give what `Report.to_dict` or `Report.to_json` returned, unedited."
    )


def test_an_impossible_field_inside_is_named_with_its_place(data):
    data["tensors"]["W1"]["worst"]["index"] = ["x" * 90]
    with pytest.raises(InputError) as error:
        Report.from_dict(data)
    assert str(error.value).startswith("`data` has tensors['W1'].worst.index = ['xxxxx")
    assert "x..., which no report holds" in str(error.value)


def test_unknown_fields_are_let_pass(data):
    assert Report.from_dict(data | {"colour": "green"}).passed


@pytest.mark.parametrize(("data", "found"), [([], "list"), (None, "NoneType"), ("{}", "str")])
def test_what_is_not_a_dict_is_refused(data, found):
    with pytest.raises(InputTypeError) as error:
        Report.from_dict(data)
    assert str(error.value) == (
        f"`data` must be a dict, not a {found}; "
        "give what `Report.to_dict` or `Report.to_json` returned."
    )


def test_a_tensor_that_is_not_a_dict_is_refused(data):
    data["tensors"]["W1"] = 7
    with pytest.raises(InputTypeError) as error:
        Report.from_dict(data)
    assert str(error.value) == (
        "`data` has tensors['W1'] = a int, not a dict; "
        "give what `Report.to_dict` or `Report.to_json` returned."
    )


def test_text_that_is_not_json_is_refused():
    with pytest.raises(InputError, match=r"^`text` is not JSON \(Expecting value: line 1"):
        Report.from_json("PASS  7,960 of 7,960")


def test_a_path_is_not_json_text(tmp_path):
    with pytest.raises(InputTypeError, match=r"^`text` must be the JSON itself .*\.read_text\(\)"):
        Report.from_json(tmp_path / "report.json")
