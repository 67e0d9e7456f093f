"""An extension of griffe, which knows examples by the heading `Examples:`; here it is `Example:`."""

from __future__ import annotations

from typing import Any

import griffe


class Examples(griffe.Extension):
    """Show the doctests of `Example:` as code."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Called for each module, class, function and attribute."""
        if obj.docstring is not None:
            obj.docstring.value = obj.docstring.value.replace("\nExample:\n", "\nExamples:\n")
