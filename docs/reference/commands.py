"""A hook of mkdocs: the page of commands is what the commands say of themselves."""

from __future__ import annotations

from typing import Any

PAGE = "reference/commands.md"


def on_page_markdown(markdown: str, page: Any, **kwargs: Any) -> str:
    """The page with the help of every command below it; other pages as they are."""
    if page.file.src_uri != PAGE:
        return markdown
    return markdown + "".join(f"\n## mekiki {name}\n\n```text\n{said}\n```\n" for name, said in helps())


def helps() -> list[tuple[str, str]]:
    """Every command in order, and its help."""
    from typer.main import get_command
    from typer.testing import CliRunner

    from mekiki.cli import app

    names: list[list[str]] = []
    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]
        inner = getattr(command, "commands", None)
        names += [[name, each] for each in inner] if inner else [[name]]
    runner = CliRunner(env={"COLUMNS": "100", "NO_COLOR": "1"})
    said = [runner.invoke(app, [*name, "--help"], prog_name="mekiki").output.strip() for name in names]
    return [(" ".join(name), text) for name, text in zip(names, said, strict=True)]
