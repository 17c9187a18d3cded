"""Write the project of a plugin for its author to go on from.

Notable choices: the templates are the files that are written, named as they will be; everything is rendered before the
first file is made, and a folder that exists is left alone.
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
        name: what YAML shall call it; spaces and dashes become underscores, and it is put in small letters
        into: the folder that shall hold the project's; made if it is missing

    Returns:
        The project's folder.

    Raises:
        OssicleError: if the name cannot be that of a Python module or is taken, or if the folder exists
    """
    module = module_name(name)
    folder = into / module
    if folder.exists() or folder.is_symlink():
        raise OssicleError(f"{folder} exists and is left as it is: give another name, or another folder with --into")
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
    """The Python module that a name stands for.

    >>> module_name("My-Tokenizer")
    'my_tokenizer'

    Raises:
        OssicleError: if there is none
    """
    module = re.sub(r"[\s-]+", "_", name.strip()).lower()
    if re.fullmatch(r"[a-z][a-z0-9_]*", module) and not keyword.iskeyword(module) and module not in _WORDS_OF_YAML:
        return module
    raise OssicleError(
        "a tokenizer's name must be made of letters from a to z, digits, `_` and `-`, begin with a letter and be no "
        f"word of Python's or YAML's own, such as `my_tokenizer`, but is `{name}`"
    )


def _refuse_taken(module: str) -> None:
    """Refuse a name that would hide something else.

    Raises:
        OssicleError: with what has it
    """
    catalog = load_plugins().catalog
    if module in catalog.names("tokenizer"):
        origin = catalog.get("tokenizer", module).origin.describe()
        raise OssicleError(f"there is a tokenizer called `{module}` already, of {origin}: give yours another name")
    found = None if module in sys.builtin_module_names else importlib.util.find_spec(module)
    # A folder without code that happens to lie in the search path is in nobody's way.
    if module in sys.stdlib_module_names or (found is not None and found.origin is not None):
        raise OssicleError(f"there is a Python module called `{module}` already: give your tokenizer another name")


def _rendered(module: str) -> dict[str, str]:
    """File names to texts."""
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
