"""Write a new plugin project as a starting point for its author.

Notable choices:

- Each template becomes one file of the project, with the same name.
- All templates are rendered before the first file is written.
- An existing folder is never changed.
"""

from __future__ import annotations

import importlib.util
import keyword
import re
import sys
from pathlib import Path

from ..core.errors import OssicleError
from ..core.plugin_loading import load_plugins

TEMPLATES = Path(__file__).parent / "tokenizer"
SUFFIX = ".j2"
_WORDS_OF_YAML = ("true", "false", "null")


def new_tokenizer(name: str, into: Path) -> Path:
    """Write the project of a tokenizer: its module, tests, packaging, an ablation and a README.

    Args:
        name: name of the tokenizer in YAML; converted to lower case, with underscores for spaces and dashes
        into: parent folder of the project; created if it is missing

    Returns:
        The folder of the project.

    Raises:
        OssicleError: if the name is not a valid module name or is taken, or if the folder exists
    """
    module = module_name(name)
    folder = into / module
    if folder.exists() or folder.is_symlink():
        raise OssicleError(f"{folder} already exists: give another name, or another folder with --into")
    _refuse_taken(module)
    files = _rendered(module)
    try:
        folder.mkdir(parents=True)
        for file, text in files.items():
            (folder / file).write_text(text, encoding="utf-8")
    except OSError as error:
        raise OssicleError(f"{folder} cannot be written: {error.strerror}") from error
    return folder


def module_name(name: str) -> str:
    """Convert the name of a tokenizer to the name of its Python module.

    >>> module_name("My-Tokenizer")
    'my_tokenizer'

    Raises:
        OssicleError: if the result is not a valid module name
    """
    module = re.sub(r"[\s-]+", "_", name.strip()).lower()
    if re.fullmatch(r"[a-z][a-z0-9_]*", module) and not keyword.iskeyword(module) and module not in _WORDS_OF_YAML:
        return module
    raise OssicleError(
        "the name of a tokenizer must begin with a letter, contain only letters from a to z, digits, `_` and `-`, and "
        f"must not be a reserved word of Python or YAML, such as `my_tokenizer`, but is `{name}`"
    )


def _refuse_taken(module: str) -> None:
    """Check that the name is free.

    Raises:
        OssicleError: if a tokenizer or a Python module already has the name
    """
    catalog = load_plugins().catalog
    if module in catalog.names("tokenizer"):
        origin = catalog.get("tokenizer", module).origin.describe()
        raise OssicleError(f"a tokenizer called `{module}` already exists, from {origin}: give yours another name")
    found = None if module in sys.builtin_module_names else importlib.util.find_spec(module)
    # A folder without code in the search path has no origin, and does not conflict.
    if module in sys.stdlib_module_names or (found is not None and found.origin is not None):
        raise OssicleError(f"a Python module called `{module}` already exists: give your tokenizer another name")


def _rendered(module: str) -> dict[str, str]:
    """Render the templates: file names to texts."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    loader = FileSystemLoader(TEMPLATES)
    environment = Environment(loader=loader, undefined=StrictUndefined, keep_trailing_newline=True)
    values = {
        "module": module,
        "title": module.replace("_", "-").strip("-"),
        "class_name": "".join(part.capitalize() for part in module.split("_")),
    }
    return {
        template.removesuffix(SUFFIX).replace("module", module): environment.get_template(template).render(values)
        for template in environment.list_templates(extensions=[SUFFIX.removeprefix(".")])
    }
