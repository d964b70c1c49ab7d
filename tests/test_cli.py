"""The command line on real files: what it prints, where, and its exit status."""

import json
import os
import subprocess
import sys

import pytest

import fastcheck
from fastcheck.cli import main
from fastcheck.commands import output

NET = """
import numpy as np
import fastcheck

X = np.linspace(-1.0, 1.0, 12).reshape(3, 4)

def loss(params):
    return float(np.sum((np.dot(params["W"], X) + params["b"]) ** 2) / 4)

def grads(params):
    residual = 2 * (np.dot(params["W"], X) + params["b"]) / 4
    return {"dW": np.dot(residual, X.T), "db": residual.sum(axis=1, keepdims=True)}

def wrong_grads(params):
    return {**grads(params), "dW": 1.01 * grads(params)["dW"]}

def params():
    return {"W": np.arange(6.0).reshape(2, 3) / 10 + 0.1, "b": np.array([[0.3], [-0.2]])}

def problem():
    return fastcheck.Problem(loss, params(), grads, name="linear", description="one layer")

def wrong():
    return fastcheck.Problem(loss, params(), wrong_grads)

def flat():
    return fastcheck.Problem(lambda p: 3.0 + 0.0 * p["x"].sum(), {"x": np.ones(3)},
                             {"x": np.zeros(3)})

def failing_loss():
    return fastcheck.Problem(lambda p: {}["the key that is not there"], params(), grads)

def with_arguments(batch):
    return problem()

def not_a_problem():
    return 3

ready = problem()
number = 7
"""


@pytest.fixture
def net(tmp_path):
    """A user's file with right and wrong problems in it."""
    file = tmp_path / "net.py"
    file.write_text(NET)
    return file


def cli(capsys, *arguments):
    """Run a command; return its status, standard output and standard error."""
    status = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


class TestCheck:
    def test_a_right_gradient_ends_with_0_and_the_report(self, capsys, net):
        status, out, err = cli(capsys, "check", f"{net}:problem")
        assert status == output.PASS == 0
        assert out.startswith("linear: one layer\n")
        assert "W" in out
        assert err == ""

    def test_a_wrong_gradient_ends_with_1(self, capsys, net):
        assert cli(capsys, "check", f"{net}:wrong")[0] == 1

    def test_an_inconclusive_check_ends_with_3(self, capsys, net):
        assert cli(capsys, "check", f"{net}:flat")[0] == 3

    def test_the_function_is_called_problem_by_default(self, capsys, net):
        assert cli(capsys, "check", net)[0] == 0

    def test_a_problem_itself_is_taken_as_well_as_a_function(self, capsys, net):
        assert cli(capsys, "check", f"{net}:ready")[0] == 0

    def test_a_loss_of_stacks_is_checked_as_one(self, capsys, tmp_path):
        file = tmp_path / "stacks.py"
        file.write_text(
            "import numpy as np\nimport fastcheck\n"
            "def losses(w):\n    return np.sum(w**2, axis=1)\n"
            "problem = fastcheck.Problem(losses, np.ones(3), 2 * np.ones(3))\n"
        )
        status, out, _ = cli(capsys, "check", file, "--batched")
        assert status == 0
        assert "engine batched" in out
        assert cli(capsys, "explain", file, "--batched")[0] == 0
        assert cli(capsys, "check", file)[0] == 2

    def test_options_reach_the_check(self, capsys, net, monkeypatch):
        seen = {}
        real = fastcheck.check

        def spy(*arguments, **options):
            seen.update(options)
            return real(*arguments, **options)

        monkeypatch.setattr(fastcheck, "check", spy)
        options = "--engine loop --step 1e-5 --method central --tolerance 1e-4 --select 2"
        status, *_ = cli(capsys, "check", net, *options.split(), "--memory", "64MB", "--seed", "3")
        assert status == 0
        assert seen == {
            "engine": "loop",
            "step": 1e-5,
            "method": "central",
            "tolerance": 1e-4,
            "select": 2,
            "memory": "64MB",
            "seed": 3,
            "device": "auto",
            "precision": "float64",
            "batched": False,
        }

    def test_json_holds_the_report(self, capsys, net, tmp_path):
        file = tmp_path / "report.json"
        status, out, _ = cli(capsys, "check", f"{net}:wrong", "--json", file)
        report = fastcheck.Report.from_json(file.read_text())
        assert status == 1
        assert report.failed == ("W",)
        assert f"Written to {file}." in out

    def test_a_file_may_import_its_neighbours(self, capsys, net):
        (net.parent / "neighbour_of_net.py").write_text("from net import problem\n")
        assert cli(capsys, "check", f"{net.parent / 'neighbour_of_net.py'}:problem")[0] == 0


class TestBadInput:
    @pytest.mark.parametrize(
        ("target", "message"),
        [
            ("{net}:nothing", "`nothing` is not defined in {net}; it defines loss, grads,"),
            ("{net}:number", "`number` in {net} is a int: it must be a function without"),
            ("{net}:not_a_problem", "`not_a_problem` in {net} returned a int: it must be"),
            ("{net}:with_arguments", "`with_arguments` in {net} takes arguments: it must be"),
            ("{net}:two words", "'two words' is not the name of a function; write FILE.py:pro"),
            ("missing.py:problem", "`missing.py:problem`: there is no file missing.py"),
        ],
    )
    def test_it_is_named_with_the_remedy_and_ends_with_2(self, capsys, net, target, message):
        status, out, err = cli(capsys, "check", target.format(net=net))
        assert status == 2
        assert message.format(net=net) in err
        assert "Traceback" not in err
        assert out == ""

    def test_a_file_that_is_no_python_is_refused(self, capsys, tmp_path):
        (tmp_path / "notes.txt").write_text("hello")
        status, _, err = cli(capsys, "check", tmp_path / "notes.txt")
        assert status == 2
        assert "is not a Python file; give a file that ends in .py" in err

    def test_what_the_check_refuses_ends_with_2(self, capsys, net):
        status, _, err = cli(capsys, "check", net, "--memory", "lots")
        assert status == 2
        assert err.startswith("fastcheck: `memory` is 'lots'")

    def test_an_unknown_device_ends_with_2(self, capsys, net):
        status, _, err = cli(capsys, "check", net, "--device", "tpu")
        assert status == 2
        assert "`device` is 'tpu'" in err

    @pytest.mark.parametrize(
        "arguments",
        [
            (),
            ("nonsense",),
            ("check",),
            ("check", "net.py", "--step", "small"),
            ("check", "net.py", "--select", "some"),
            ("demo", "--sizes", "784"),
            ("demo", "--sizes", "784-0-10"),
            ("demo", "--batch", "many"),
        ],
    )
    def test_bad_usage_ends_with_2(self, arguments):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 2

    def test_a_json_file_that_cannot_be_written_is_refused_before_the_work(
        self, capsys, net, tmp_path
    ):
        status, out, err = cli(capsys, "check", net, "--json", tmp_path / "no" / "report.json")
        assert status == 2
        assert "`--json`: there is no folder" in err
        assert out == ""

    def test_a_json_folder_is_refused(self, capsys, net, tmp_path):
        assert "is a folder" in cli(capsys, "check", net, "--json", tmp_path)[2]


class TestUserCodeThatRaises:
    def refused(self, capsys, tmp_path, code):
        file = tmp_path / "raises.py"
        file.write_text(code)
        status, _, err = cli(capsys, "check", file)
        assert status == 2
        return err

    def test_on_import_their_own_line_is_shown_and_none_of_ours(self, capsys, tmp_path):
        err = self.refused(capsys, tmp_path, "import math\nx = math.sqrt(-1)\n")
        assert "raises.py raised ValueError:" in err
        assert "line 2, in <module>\n    x = math.sqrt(-1)" in err
        assert "importlib" not in err
        assert "usercode" not in err

    def test_in_the_function_their_own_line_is_shown(self, capsys, tmp_path):
        err = self.refused(capsys, tmp_path, "def problem():\n    return undefined_name\n")
        assert "line 2, in problem\n    return undefined_name" in err

    def test_a_syntax_error_shows_the_line(self, capsys, tmp_path):
        err = self.refused(capsys, tmp_path, "x = 1\ny = = 2\n")
        assert "line 2\n    y = = 2" in err
        assert "importlib" not in err

    def test_in_the_loss_their_own_line_is_shown(self, capsys, net):
        status, _, err = cli(capsys, "check", f"{net}:failing_loss")
        assert status == 2
        assert '{}["the key that is not there"]' in err
        assert "KeyError: 'the key that is not there'" in err

    def test_a_file_that_exits_is_told_about_main_guards(self, capsys, tmp_path):
        err = self.refused(capsys, tmp_path, "import sys\nsys.exit(0)\n")
        assert "ended the program (sys.exit)" in err
        assert "__main__" in err

    def test_a_missing_package_is_named(self, capsys, tmp_path):
        err = self.refused(capsys, tmp_path, "import no_such_package_here\n")
        assert "ModuleNotFoundError: No module named 'no_such_package_here'" in err


def test_control_c_ends_with_130(capsys, tmp_path):
    file = tmp_path / "interrupted.py"
    file.write_text("def problem():\n    raise KeyboardInterrupt\n")
    status, _, err = cli(capsys, "check", file)
    assert status == 130
    assert "interrupted" in err


def test_a_fault_of_our_own_is_never_reported_as_a_failed_gradient(capsys, net, monkeypatch):
    def broken(*arguments, **options):
        raise ZeroDivisionError("a fault")

    monkeypatch.setattr(fastcheck, "check", broken)
    status, _, err = cli(capsys, "check", net)
    assert status == 2
    assert "ZeroDivisionError: a fault" in err
    assert "this is a fault in fastcheck itself" in err


class TestExplain:
    def test_it_shows_a_page_and_ends_with_0(self, capsys, net):
        status, out, _ = cli(capsys, "explain", f"{net}:problem")
        assert status == 0
        assert "W" in out

    def test_json_holds_the_explanation(self, capsys, net, tmp_path):
        file = tmp_path / "explanation.json"
        assert cli(capsys, "explain", net, "--json", file)[0] == 0
        assert isinstance(json.loads(file.read_text()), dict)


class TestDevices:
    def test_it_lists_the_cpu_and_the_versions(self, capsys):
        status, out, _ = cli(capsys, "devices")
        assert status == 0
        assert out.startswith("cpu")
        assert "NumPy" in out
        assert "llvmlite" in out
        assert "threads for kernels, which are kept in" in out

    def test_it_says_what_the_gpu_lacks(self, capsys, monkeypatch):
        monkeypatch.setitem(sys.modules, "cupy", None)
        assert "gpu  none. CuPy is not installed: `pip install" in cli(capsys, "devices")[1]


class TestAsAProgram:
    def run(self, *arguments, **environment):
        return subprocess.run(
            [sys.executable, *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            encoding="utf-8",
            env={**os.environ, "PYTHONIOENCODING": "utf-8", **environment},
        )

    def test_the_module_runs(self):
        ended = self.run("-m", "fastcheck", "--version")
        assert ended.returncode == 0
        assert ended.stdout == f"fastcheck {fastcheck.__version__}\n"

    def test_the_command_line_imports_neither_llvmlite_nor_cupy(self):
        code = (
            "import sys, fastcheck.cli; "
            "print(*({'llvmlite', 'cupy', 'matplotlib'} & set(sys.modules)))"
        )
        assert self.run("-c", code).stdout.strip() == ""

    def test_output_survives_a_terminal_without_unicode(self, net):
        ended = self.run("-m", "fastcheck", "check", net, PYTHONIOENCODING="ascii")
        assert ended.returncode == 0
        assert "Traceback" not in ended.stderr

    def test_a_pipe_carries_no_colour(self, net):
        assert "\x1b" not in self.run("-m", "fastcheck", "check", net).stdout
