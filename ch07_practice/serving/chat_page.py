"""The chat page: one HTML file, and the Content-Security-Policy that lets the browser run nothing
but its own style and script.
"""

import base64
import hashlib
import re
from pathlib import Path

PAGE = Path(__file__).with_name("chat_page.html")


def content_policy(page: str) -> str:
    """A Content-Security-Policy that allows only the page's own script and style, and connections
    only to this server.

    >>> content_policy("<style></style>").split("; ")[-1]
    "style-src 'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='"
    """
    kinds = {"script-src": "script", "style-src": "style"}
    hashes = {
        kind: (
            " ".join(
                f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
                for text in re.findall(rf"<{tag}>(.*?)</{tag}>", page, flags=re.DOTALL)
            )
            or "'none'"
        )
        for kind, tag in kinds.items()
    }
    return (
        "default-src 'none'; connect-src 'self'; img-src data:; base-uri 'none'; form-action"
        " 'none'; frame-ancestors 'none'; "
        + "; ".join(f"{kind} {value}" for kind, value in hashes.items())
    )


def chat_page() -> tuple[str, dict[str, str]]:
    """The page and its HTTP headers."""
    page = PAGE.read_text(encoding="utf-8")
    return page, {
        "Content-Security-Policy": content_policy(page),
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-cache",
    }
