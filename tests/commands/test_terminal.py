import io

import pytest

from fastcheck.commands.terminal import Terminal, wants_colour


class FakeTerminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_gets_colour():
    assert wants_colour(FakeTerminal(), environ={"TERM": "xterm"})


@pytest.mark.parametrize("environ", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_the_environment_can_refuse_colour(environ):
    assert not wants_colour(FakeTerminal(), environ=environ)


def test_an_empty_no_color_refuses_nothing():
    assert wants_colour(FakeTerminal(), environ={"NO_COLOR": ""})


def test_the_option_refuses_colour():
    assert not wants_colour(FakeTerminal(), refused=True, environ={})


def test_a_pipe_gets_no_colour():
    assert not wants_colour(io.StringIO(), environ={})


def test_bold_is_a_flag():
    assert Terminal(colour=False).bold("x") == "x"
    assert Terminal(colour=True).bold("x") == "\x1b[1mx\x1b[0m"
