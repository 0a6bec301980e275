"""Short descriptions of objects that hold tensors: one line in a terminal, a small table in a notebook."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape


class Brief:
    """Gives a class whose `about` names a few facts a short `repr` and an HTML table."""

    def about(self) -> Mapping[str, object]:
        """The facts, in the order in which they are shown."""
        raise NotImplementedError

    def __repr__(self) -> str:
        facts = ", ".join(f"{name}={value}" for name, value in self.about().items())
        return f"{type(self).__name__}({facts})"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th>{escape(name)}</th><td>{escape(str(value))}</td></tr>" for name, value in self.about().items()
        )
        return f"<table><caption>{escape(type(self).__name__)}</caption><tbody>{rows}</tbody></table>"
