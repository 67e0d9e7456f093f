"""A hook of mkdocs that fills three pages: the map of packages, the help of the commands, the list of decisions."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
MAP = re.compile(r"(?<=<!-- map -->\n).*?(?=\n<!-- end of map -->)", re.DOTALL)


def on_page_markdown(markdown: str, page: Any, **kwargs: Any) -> str:
    """Fill the page if it is one of the three."""
    if page.file.src_uri == "architecture.md":
        return MAP.sub(lambda _: package_map(), markdown)
    if page.file.src_uri == "reference/commands.md":
        return markdown + "".join(f"\n## mekiki {name}\n\n```text\n{said}\n```\n" for name, said in helps())
    if page.file.src_uri == "decisions/index.md":
        return markdown + decisions(Path(page.file.abs_src_path).parent)
    return markdown


def package_map() -> str:
    """Table of the packages by level, from the layers contract in `pyproject.toml` and the packages' docstrings."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    layers = settings["tool"]["importlinter"]["contracts"][0]["layers"]
    rows = ["| level | package | contents |", "|---:|---|---|"]
    for level, layer in zip(reversed(range(len(layers))), layers, strict=True):
        for name in sorted(re.split(r"\s*[:|]\s*", layer)):
            folder = ROOT / "src" / "mekiki" / name
            file = folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")
            docstring = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
            shown = f"{name}/" if folder.is_dir() else f"{name}.py"
            rows.append(f"| {level} | `{shown}` | {docstring.splitlines()[0]} |")
    return "\n".join(rows)


def helps() -> list[tuple[str, str]]:
    """Name and help of every command, in order."""
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
    """Links to the decisions, by their headings."""
    pages = sorted(folder.glob("[0-9]*.md"))
    titles = [page.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ") for page in pages]
    return "\n" + "".join(f"- [{title}]({page.name})\n" for title, page in zip(titles, pages, strict=True))


if __name__ == "__main__":
    page = ROOT / "docs" / "architecture.md"
    page.write_text(MAP.sub(lambda _: package_map(), page.read_text(encoding="utf-8")), encoding="utf-8")
