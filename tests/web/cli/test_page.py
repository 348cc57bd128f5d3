"""What docs/reference/commands.rst shows is what the commands print."""

from __future__ import annotations

import re

from flask_agentuity.web import cli

from .page import PAGE, run_page


def test_the_page_shows_real_output() -> None:
    page = PAGE.read_text("utf-8")
    assert run_page(page) == page, "Run python -m web.cli.page in tests to write it again."


def test_the_page_has_every_command() -> None:
    page = PAGE.read_text("utf-8")
    for name in cli.threads.commands:
        assert f"$ flask threads {name} --help" in page, name


def test_the_help_of_every_command_has_examples_that_are_valid() -> None:
    for name, command in cli.threads.commands.items():
        assert command.epilog, name
        examples = re.findall(r"^  flask threads (\S+)(.*)$", command.epilog, re.MULTILINE)
        assert len(examples) >= 2, name
        options = {option for one in command.params for option in one.opts}
        for shown, rest in examples:
            assert shown == name
            assert set(re.findall(r" (--[a-z-]+)", rest)) <= options, rest


def test_no_help_shows_control_characters_or_filters_by_the_owner_as_metadata() -> None:
    page = PAGE.read_text("utf-8")
    assert "\\b" not in page
    assert "--where owner" not in page
