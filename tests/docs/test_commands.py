"""Every command of README, docs, data cards and configs is one that the programs take."""

import argparse
import importlib.util
import re
from collections.abc import Iterator

import pytest
from torch.distributed.run import get_args_parser

from medmol_diffusion.cli import parser
from medmol_diffusion.cli.parser import model_there, there, there_or_part
from medmol_diffusion.training.fit import FitCLI, assemble, quiet
from tests.docs.pages import CONFIGS, PAGES, ROOT, Command, commands, commented, inline

COMMANDS = [command for page in PAGES for command in commands(page)]
# their commands of fit are run by tests/test_configs.py
COMMANDS += [command for config in CONFIGS for command in commented(config) if command.words[1] != "fit"]
OF_USERS = {"my.yaml": "configs/mri/hippocampus.yaml"}
"""Configs that a reader writes, and one like them."""


class Parsed(FitCLI):
    """What `medmol fit` parses, and no more."""

    def before_instantiate_classes(self) -> None:
        """Asks for no run folder."""

    def instantiate_classes(self) -> None:
        """Builds nothing."""


@pytest.fixture(scope="module")
def verbs() -> dict[str, argparse.ArgumentParser]:
    """The verbs' parsers, which take files and models that are not there."""
    (choices,) = (action.choices for action in parser()._actions if isinstance(action, argparse._SubParsersAction))
    for sub in choices.values():
        for action in sub._actions:
            if action.type in (there, there_or_part, model_there):
                action.type = str
    return dict(choices)


def medmol(words: tuple[str, ...]) -> tuple[str, ...] | None:
    """What follows `medmol`, however it is started; None of another program."""
    if words[0] == "srun":
        words = words[1:]
    if words[0] == "medmol":
        return words[1:]
    if words[0] == "torchrun":
        assert get_args_parser().parse_args(words[1:]).training_script == "medmol_diffusion"
        return words[words.index("medmol_diffusion") + 1 :]
    return None


OURS = [(str(one), words) for one in COMMANDS if not one.synopsis and (words := medmol(one.words)) is not None]


def test_there_are_commands_of_all_kinds() -> None:
    """Else the tests below would pass for want of something to look at."""
    assert len(OURS) > 60
    assert {words[0] for _, words in OURS} > {"fit", "sample", "score", "detect", "doctor", "inpaint", "evaluate"}


@pytest.mark.parametrize("words", [pytest.param(words, id=name) for name, words in OURS if words[0] != "fit"])
def test_a_command_parses(words: tuple[str, ...], verbs: dict[str, argparse.ArgumentParser]) -> None:
    verbs[words[0]].parse_args(words[1:])


def _fits() -> Iterator[object]:
    seen = set()
    for name, words in OURS:
        if words[0] == "fit" and words not in seen:
            seen.add(words)
            yield pytest.param(words[1:], id=name)


@pytest.mark.parametrize("words", list(_fits()))
def test_a_command_of_fit_parses_with_its_config(words: tuple[str, ...]) -> None:
    given = [OF_USERS.get(word, word) for word in words]
    config = given[given.index("--config") + 1]
    assert (ROOT / config).is_file()
    with quiet():
        assemble(Parsed, [str(ROOT / word) if word == config else word for word in given])


@pytest.mark.parametrize("command", [one for one in COMMANDS if one.words[0] in ("python", "make")], ids=str)
def test_a_script_a_module_or_a_target_is_there(command: Command) -> None:
    program, first = command.words[:2]
    if program == "make":
        assert re.search(rf"^{first}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
    elif first == "-m":
        assert importlib.util.find_spec(command.words[2]) is not None
    else:
        assert (ROOT / first).is_file()


@pytest.mark.parametrize("page", PAGES)
def test_verbs_and_options_in_the_running_text_exist(page: str, verbs: dict[str, argparse.ArgumentParser]) -> None:
    """In a table of synopses, too."""
    spoken = [token.content for token in inline(page, "code_inline")]
    spoken += [" ".join(command.words) for command in commands(page) if command.synopsis]
    for text in spoken:
        match = re.match(r"medmol ([a-z-]+)(.*)", text)
        if match is None or match[1] == "fit":
            continue
        known = verbs[match[1]]._option_string_actions
        assert set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", match[2])) <= set(known), text


@pytest.mark.parametrize("page", PAGES)
def test_configs_that_are_named_exist(page: str) -> None:
    for name in re.findall(r"configs/[\w/-]+\.yaml", (ROOT / page).read_text()):
        assert (ROOT / name).is_file()
