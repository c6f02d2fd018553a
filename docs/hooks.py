"""Hooks of the documentation's site: links out of docs/ become names of files of the repository.

The pages are also read in the repository, where such links work; the site has no copy of those files.
"""

import pathlib
import re
import shutil

_ROOT = pathlib.Path(__file__).resolve().parents[1]
_PARTS = ("layers", "training", "saved_models")  # top-level folders that setup.cfg puts into the package
_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)#\s]+)(#[^)]*)?\)")


def on_startup(**kwargs):
    """Lay out build/docs_source/zoo as the installed package is, for mkdocstrings to read.

    Examples get the heading by which mkdocstrings knows them, and what is returned is text to the end.

    Args:
        kwargs: command and dirty.
    """
    target = _ROOT / "build" / "docs_source" / "zoo"
    shutil.rmtree(target, ignore_errors=True)
    sources = {_ROOT / "zoo": target, **{_ROOT / part: target / part for part in _PARTS}}
    for source, copy in sources.items():
        for path in source.rglob("*.py"):
            made = copy / path.relative_to(source)
            made.parent.mkdir(parents=True, exist_ok=True)
            made.write_text(_with_returns(_with_examples(path.read_text())))


def _with_examples(source):
    """Rename "Example:" to "Examples:"."""
    return re.sub(r"^( +)Example:$", r"\1Examples:", source, flags=re.M)


def _with_returns(source):
    """Put an empty type before what is returned; else a colon in its text would end one."""
    return re.sub(r"^( +(?:Returns|Yields):\n +)(?=\S)", r"\1: ", source, flags=re.M)


def on_post_build(config, **kwargs):
    """Put the HTML reports, which would be overwritten by their Markdown pages, beside them.

    Args:
        config: mkdocs' configuration.
        kwargs: not used.
    """
    for report in (_ROOT / "docs" / "reports").glob("*/report.html"):
        target = pathlib.Path(config["site_dir"]) / "reports" / report.parent.name
        shutil.copy(report, target / "page.html")


def on_page_content(html, page, **kwargs):
    """Let pictures lead to themselves in full size, and links of notebooks to the site's pages.

    Args:
        html: str, the page's content.
        page: `mkdocs.structure.pages.Page`.
        kwargs: config and files.

    Returns:
        str.
    """
    if page.file.src_uri.endswith(".ipynb"):  # mkdocs does not follow their links
        return re.sub(r'href="(?!\w+:)([^"#]+)\.(?:ipynb|md)(#[^"]*)?"', r'href="\1.html\2"', html)
    return re.sub(r'<img [^>]*src="([^"]+)"[^>]*>', r'<a href="\1">\g<0></a>', html)


def on_page_markdown(markdown, page, **kwargs):
    """Replace links to files that the site does not have.

    Args:
        markdown: str, the page's source.
        page: `mkdocs.structure.pages.Page`.
        kwargs: config and files.

    Returns:
        str.

    Raises:
        FileNotFoundError: if a link leads nowhere in the repository either.
    """
    folder = (_ROOT / "docs" / page.file.src_uri).parent
    site = {file.src_uri for file in kwargs["files"]}

    def replaced(match):
        text, target, _ = match.groups()
        if "://" in target or target.startswith("mailto:"):
            return match.group(0)
        path = (folder / target).resolve()
        if path.is_relative_to(_ROOT / "docs") and str(path.relative_to(_ROOT / "docs")) in site:
            return match.group(0)
        if not path.exists():
            raise FileNotFoundError(f"{page.file.src_uri} links to {target}, which does not exist")
        name = str(path.relative_to(_ROOT))
        return text if name in text else f"{text} (`{name}`)"

    if page.file.src_uri.startswith("reports/"):
        markdown = (
            f'<a href="page.html">This report as a page with charts and photographs</a>\n\n{markdown}'
        )
    return _LINK.sub(replaced, markdown)
