"""A hook of mkdocs: pages whose content is elsewhere, the help of the commands and the list of decisions."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def on_page_markdown(markdown: str, page: Any, **kwargs: Any) -> str:
    """Those two pages with what belongs below; others as they are."""
    if page.file.src_uri == "reference/commands.md":
        return markdown + "".join(f"\n## mekiki {name}\n\n```text\n{said}\n```\n" for name, said in helps())
    if page.file.src_uri == "decisions/index.md":
        return markdown + decisions(Path(page.file.abs_src_path).parent)
    return markdown


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


def decisions(folder: Path) -> str:
    """A link to each, by its heading."""
    pages = sorted(folder.glob("[0-9]*.md"))
    titles = [page.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ") for page in pages]
    return "\n" + "".join(f"- [{title}]({page.name})\n" for title, page in zip(titles, pages, strict=True))
