"""Errors by fields: their line, places, placeholders, copies and pickles."""

import ast
import copy
import copyreg
import pickle
import re
import traceback
from pathlib import Path

import pytest
import torch

import infield
from infield import InfieldError
from infield.core.errors import ArgumentError, as_argument
from infield.physics.operators.refusal import ForwardModelError

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = ("src/infield/core", "physics", "priors", "posterior", "datasets")
FLAG = re.compile(r"(?<![\w-])--[a-z]")


@pytest.mark.parametrize(
    "fields, line",
    [
        (
            {"where": "m.zarr", "found": "3 axes", "expected": "2", "remedy": "cut"},
            "m.zarr: found 3 axes, expected 2; cut",
        ),
        ({"found": "3 axes", "expected": "2"}, "found 3 axes, expected 2"),
        ({"where": "m.zarr", "expected": "2"}, "m.zarr: expected 2"),
        ({"where": "m.zarr", "found": "a run", "remedy": "remove it"}, "m.zarr: found a run; remove it"),
        ({"where": "m.zarr", "found": "a", "expected": "b", "remedy": "(c)"}, "m.zarr: found a, expected b (c)"),
        ({"found": None, "expected": 0}, "found None, expected 0"),
        ({"where": Path("a/b"), "found": torch.tensor(0.5)}, "a/b: found 0.5"),  # as an f-string has it
        ({}, ""),
    ],
)
def test_the_line_of_fields(fields, line):
    assert str(InfieldError(**fields)) == line
    assert InfieldError(**fields).args == (line,)


def test_a_plain_message_is_the_line():
    error = InfieldError("{sampler}: it does not fit, {0} %s")
    assert str(error) == "{sampler}: it does not fit, {0} %s"  # nothing is declared, so braces stay
    assert isinstance(error, ValueError)
    assert str(InfieldError("no prior", where="p.ckpt", remedy="train one")) == "p.ckpt: no prior; train one"
    assert (error.where, error.found, error.expected, error.remedy, error.parameters) == ("", "", "", "", {})


@pytest.mark.parametrize("fields", [{"found": "a"}, {"expected": "b"}])
def test_a_message_excludes_findings(fields):
    with pytest.raises(TypeError, match="expected one of them"):
        InfieldError("a message", **fields)


def test_the_public_name_is_this_class():
    assert infield.InfieldError is infield.core.errors.InfieldError


@pytest.mark.parametrize(
    "value, text",
    [
        ("faps", 'sampler="faps"'),
        ('a"b\\', 'sampler="a\\"b\\\\"'),
        (3, "sampler=3"),
        (0, "sampler=0"),
        (True, "sampler=True"),
        (("z", "x"), "sampler=('z', 'x')"),
        (None, "sampler"),
    ],
)
def test_placeholders_are_arguments_in_python(value, text):
    assert as_argument("sampler", value) == text
    error = InfieldError(
        where="{sampler}", found="{x} {sampler}", remedy="use {sampler}", parameters={"sampler": value}
    )
    assert str(error) == f"{text}: found {{x}} {text}; use {text}"


def test_placeholders_are_rendered_by_the_caller():
    error = InfieldError(found="a", remedy="state {u_tau} and {nu}, not {rho}", parameters=["u_tau", "nu"])
    assert error.parameters == {"u_tau": None, "nu": None}
    assert (
        error.render(lambda name, value: f"<{name} {value}>") == "found a; state <u_tau None> and <nu None>, not {rho}"
    )


def test_within_puts_a_place_first_once():
    inner = ForwardModelError(
        where="'noise'", found="a", expected="b", remedy="{sampler}", parameters={"sampler": "snap"}
    )
    outer = inner.within(Path("m.zarr"))
    assert type(outer) is ForwardModelError and outer is not inner
    assert str(outer) == "m.zarr: 'noise': found a, expected b; sampler=\"snap\""
    assert (outer.where, outer.found, outer.expected, outer.remedy) == ("m.zarr: 'noise'", "a", "b", "{sampler}")
    assert outer.parameters == {"sampler": "snap"}
    assert str(inner) == "'noise': found a, expected b; sampler=\"snap\""  # the first one is as it was
    assert outer.args == (str(outer),)
    assert str(outer.within("m.zarr")) == str(outer)
    assert str(outer.within("m")) == "m: " + str(outer)  # another place that begins alike
    assert str(InfieldError(where="m", found="a").within("m")) == "m: found a"
    assert str(InfieldError("a message").within("m")) == "m: a message"


def test_a_copy_shares_nothing_after_a_task_of_dask_has_failed():
    pickling_support = pytest.importorskip("tblib.pickling_support")
    before = dict(copyreg.dispatch_table)
    try:
        pickling_support.install(InfieldError)  # as distributed does of an error that comes back from a task
        inner = InfieldError(where="a", found="b")
        assert vars(copy.copy(inner)) is vars(inner)  # what would go wrong
        assert str(inner.within("m")) == "m: a: found b"
        assert str(inner) == "a: found b"
    finally:
        copyreg.dispatch_table.clear()
        copyreg.dispatch_table.update(before)


def test_within_keeps_the_chain_of_causes():
    with pytest.raises(InfieldError) as caught:
        try:
            try:
                raise KeyError("y")
            except KeyError as error:
                raise InfieldError(where="'y'", found="nothing") from error
        except InfieldError as error:
            raise error.within("m.zarr") from error
    chain, cause = [], caught.value
    while cause is not None:
        chain.append(str(cause))
        cause = cause.__cause__
    assert chain == ["m.zarr: 'y': found nothing", "'y': found nothing", "'y'"]
    assert "KeyError" in "".join(traceback.format_exception(caught.value))


def test_within_of_the_same_place_is_no_cause_of_itself():
    with pytest.raises(InfieldError) as caught:
        try:
            raise InfieldError(where="m.zarr", found="a")
        except InfieldError as error:
            raise error.within("m.zarr") from error
    assert caught.value.__cause__ is not caught.value and caught.value.__cause__.__cause__ is None


def test_texts_and_remedies_are_added():
    error = InfieldError(where="f", found="a", expected="b")
    assert str(error.followed_by(" (slice 3)")) == "f: found a, expected b (slice 3)"
    assert error.followed_by(" (slice 3)").expected == "b (slice 3)"
    one = error.with_remedy("remove it")
    assert (one.remedy, str(one)) == ("remove it", "f: found a, expected b; remove it")
    assert str(one.with_remedy("or wait")) == "f: found a, expected b; remove it; or wait"
    assert str(InfieldError("message").followed_by("!")) == "message!"


@pytest.mark.parametrize("kind", [InfieldError, ArgumentError, ForwardModelError])
def test_pickles_and_copies_keep_every_field(kind):
    error = kind(where="w", found="f", expected="e", remedy="use {p}", parameters={"p": ("z", "x")})
    plain = kind("message", where="w", remedy="r")
    for one in (error, plain, error.within("m"), plain.followed_by("x")):
        for other in (pickle.loads(pickle.dumps(one)), copy.copy(one), copy.deepcopy(one)):
            assert type(other) is kind and vars(other) == vars(one) and str(other) == str(one)
            assert other.args == one.args


def flags(code: str) -> list[str]:
    """Strings of a module that hold a command-line flag."""
    texts = (node.value for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Constant))
    return [text for text in texts if isinstance(text, str) and FLAG.search(text)]


def undeclared(code: str) -> list[str]:
    """Placeholders `{name}` in the fields of errors, under no `parameters`; and parameters without a placeholder."""
    wrong = []
    for node in ast.walk(ast.parse(code)):
        given = {k.arg: k.value for k in node.keywords} if isinstance(node, ast.Call) else {}
        if not given.keys() & {"where", "found", "expected", "remedy", "parameters"}:
            continue
        if not getattr(node.func, "id", "").endswith(("Error", "ForwardModelError")):
            continue
        texts = [*node.args, *(v for k, v in given.items() if k != "parameters")]
        words = [
            c.value for t in texts for c in ast.walk(t) if isinstance(c, ast.Constant) and isinstance(c.value, str)
        ]
        named = {name for word in words for name in re.findall(r"\{(\w+)\}", word)}
        entry = given.get("parameters")
        entries = getattr(entry, "keys", getattr(entry, "elts", []))
        declared = {c.value for c in entries if isinstance(c, ast.Constant)}
        constants = any(isinstance(t, ast.Name) and t.id.isupper() for t in texts)  # a text that stands elsewhere
        wrong += sorted(named - declared) + ([] if constants else sorted(declared - named))
    return wrong


def modules() -> list[Path]:
    return [path for room in LIBRARY for path in sorted((ROOT / room).rglob("*.py"))]


def test_no_string_of_the_library_holds_a_command_line_flag():
    paths = [path for path in modules() if flags(path.read_text())]
    assert not paths and len(modules()) > 150


def test_flags_are_found_where_they_are():
    assert flags('raise InfieldError(f"{path}: name it (--order)")')
    assert flags('"""With `--redshifts FILE`."""')
    assert not flags('"a -- b, 1--2, well--known, ---"')
    assert flags((ROOT / "pipelines/commands/reconstruct.py").read_text())


def test_placeholders_and_parameters_belong_together():
    assert not [(path, wrong) for path in modules() if (wrong := undeclared(path.read_text()))]


def test_undeclared_placeholders_are_found():
    assert undeclared('InfieldError(where="{order}", found="a")') == ["order"]
    assert undeclared('InfieldError(found="a", remedy=f"{{order}} {b}", parameters=["ordre"])') == ["order", "ordre"]
    assert not undeclared('InfieldError(found="a", remedy=f"{{order}} {b}", parameters={"order": b})')
    assert not undeclared('InfieldError(found="{a}")'.replace("{a}", "a"))


def parsed_messages(code: str) -> list[int]:
    """Lines at which the text of a caught error is searched: `str(error).startswith(...)`, `in str(error)`."""
    lines = []
    for handler in (n for n in ast.walk(ast.parse(code)) if isinstance(n, ast.ExceptHandler) and n.name):
        texts = {f"str({handler.name})", f"{handler.name}.args[0]"}
        for node in ast.walk(handler):
            if isinstance(node, ast.Compare) and any(isinstance(op, ast.In | ast.NotIn | ast.Eq) for op in node.ops):
                searched = [*node.comparators, node.left]
            elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") in ("startswith", "endswith", "find"):
                searched = [node.func.value]
            else:
                continue
            lines += [node.lineno for one in searched if ast.unparse(one) in texts]
    return lines


def test_nobody_parses_a_message():
    rooms = [*modules(), *sorted((ROOT / "pipelines").rglob("*.py"))]
    of_torch = "torchvision_remedy.py"  # the one that it reads is torch's, which has no fields
    assert not [path for path in rooms if path.name != of_torch and parsed_messages(path.read_text("utf-8"))]


def test_parsed_messages_are_found():
    code = "try:\n    f()\nexcept E as error:\n    raise error if {} else E()"
    assert parsed_messages(code.format("str(error).startswith(str(path))")) == [4]
    assert parsed_messages(code.format("'full' in str(error)")) == [4]
    assert not parsed_messages(code.format("error.where == 'full'"))


def without_fields(code: str) -> list[int]:
    """Lines of errors that are one sentence: without `where`, `found` and `expected`, or with these in the sentence."""
    lines = []
    for node in (n for n in ast.walk(ast.parse(code)) if isinstance(n, ast.Call)):
        if getattr(node.func, "id", "") not in ("InfieldError", "ForwardModelError", "ArgumentError"):
            continue
        words = "".join(c.value for a in node.args for c in ast.walk(a) if isinstance(getattr(c, "value", None), str))
        of_argparse = ast.unparse(node).startswith("InfieldError(message, remedy=")  # says the place itself
        keywords = {k.arg for k in node.keywords} & {"where", "found", "expected", None}  # None: fields by `**`
        if (not keywords and not of_argparse) or re.search(r"\bfound\b|\bexpected\b|; ", words):
            lines.append(node.lineno)
    return lines


def test_every_error_has_fields():
    rooms = [*modules(), *sorted((ROOT / "pipelines").rglob("*.py"))]
    assert not [(path.name, lines) for path in rooms if (lines := without_fields(path.read_text("utf-8")))]


def test_errors_of_one_sentence_are_found():
    assert without_fields('raise InfieldError(f"{path}: found 3, expected 2; leave one out")') == [1]
    assert without_fields('raise InfieldError("found 3, expected 2", where=path)') == [1]
    assert not without_fields('raise InfieldError("the disk is full", where=path, remedy="make room")')
