"""MyST as Markdown that GitHub, Colab, VS Code and JupyterLab show as meant.

The text is parsed by myst-parser, as for the site, and written by mdformat. What this
module does not know is an error, so that no raw MyST ever reaches a reader.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from types import SimpleNamespace
from typing import Any

from regdrop_lite.course.author.predict import PROMPT, parse_question
from regdrop_lite.course.extras import needs

with needs("author", "mdformat, myst-parser or PyYAML"):
    import mdformat_tables
    import yaml
    from markdown_it import MarkdownIt
    from markdown_it.renderer import RendererHTML
    from mdformat.renderer import DEFAULT_RENDERERS, MDRenderer, RenderContext
    from mdformat.renderer import RenderTreeNode as Node
    from myst_parser.config.main import MdParserConfig
    from myst_parser.parsers.mdit import create_md_parser

__all__ = ["PlainError", "Resolver", "parse_directive", "parser", "to_plain"]

_DIRECTIVE = re.compile(r"\{([^}\s]+)\}\s*(.*)", flags=re.S)
_BOXES = {
    *("admonition", "attention", "caution", "danger", "error", "hint", "important"),
    *("note", "seealso", "tip", "warning", "margin", "sidebar", "topic"),
}
_CODE = {"code", "code-block", "sourcecode"}
_RELATIVE = re.compile(r"""\b(?:src|href)\s*=\s*["']?(?![a-z]+:|#|["'])""", flags=re.I)


class PlainError(ValueError):
    """Something that cannot be said in plain Markdown, or that leads nowhere."""


class Resolver:
    """What roles and links mean; the edition of a book gives the answers.

    Each method may raise :class:`PlainError`. The class itself knows no answer.
    """

    def role(self, name: str, text: str) -> str:
        """Give the Markdown of a role that needs to know the book."""
        raise PlainError(f"the role {{{name}}}`{text}` is unknown")

    def link(self, address: str) -> str:
        """Give the address to which a link or an image of a page leads."""
        return address

    def equation(self, label: str) -> str:
        """Give the number of a labelled equation."""
        raise PlainError(f"the equation {label!r} has no number")


@dataclass(frozen=True)
class Directive:
    """A parsed directive: its name, what follows it, its options and its body."""

    name: str
    argument: str
    options: dict[str, str]
    body: str


def parse_directive(info: str, content: str) -> Directive | None:
    """Read a fence of MyST; None if it is one of code.

    Example:
        >>> parse_directive("{tip} A", ":class: b\\n\\nText.")
        Directive(name='tip', argument='A', options={'class': 'b'}, body='Text.')
    """
    match = _DIRECTIVE.fullmatch(info.strip())
    if match is None:
        return None
    lines = content.splitlines()
    options: dict[str, str] = {}
    if lines and lines[0].strip() == "---" and "---" in map(str.strip, lines[1:]):
        end = [line.strip() for line in lines].index("---", 1)
        block, lines = "\n".join(lines[1:end]), lines[end + 1 :]
        options = {k: str(v or "") for k, v in (yaml.safe_load(block) or {}).items()}
    else:
        end = next(
            (i for i, line in enumerate(lines) if not re.match(r":[\w-]+:", line)),
            len(lines),
        )
        for line in lines[:end]:
            key, _, value = line[1:].partition(":")
            options[key.strip()] = value.strip()
        lines = lines[end:]
    return Directive(match[1], match[2].strip(), options, "\n".join(lines).strip("\n"))


def parser(extensions: Sequence[str]) -> MarkdownIt:
    """Make the parser of the site, with these extensions of MyST."""
    config = MdParserConfig(enable_extensions=set(extensions))
    return create_md_parser(config, RendererHTML)


def to_plain(text: str, markdown: MarkdownIt, resolver: Resolver) -> str:
    """Turn MyST into plain Markdown.

    Args:
        text: the source of a cell.
        markdown: from :func:`parser`.
        resolver: knows the book.

    Raises:
        PlainError: for a construct that is not known, or a reference that is not.

    Example:
        >>> box = ":::{dropdown} Hint\\nLook at $u$.\\n:::"
        >>> print(to_plain(box, parser(["colon_fence", "dollarmath"]), Resolver()))
        <details>
        <summary>Hint</summary>
        <BLANKLINE>
        Look at $u$.
        <BLANKLINE>
        </details>
    """
    return _Writer(markdown, resolver).write(text)


class _Writer:
    """Holds what the renderers of one text share."""

    def __init__(self, markdown: MarkdownIt, resolver: Resolver) -> None:
        self.markdown, self.resolver = markdown, resolver
        known: dict[str, Callable[[Node, RenderContext], str]] = {
            "text": self._text,
            "link": self._link,
            "image": self._image,
            "fence": self._fence,
            "colon_fence": self._fence,
            "math_inline": lambda node, _: self._inline_math(node.content),
            "math_inline_double": lambda node, _: self._display(node.content),
            "math_block": lambda node, _: self._display(node.content),
            "math_block_label": lambda node, _: self._display(node.content, node.info),
            "myst_role": lambda node, _: self._role(node.meta["name"], node.content),
            "myst_target": lambda *_: "",
            "myst_line_comment": lambda *_: "",
            "myst_block_break": lambda *_: "",
            "html_block": self._html,
            "html_inline": self._html,
            "dl": self._join("\n\n"),
            "dt": lambda node, context: f"**{self._join('')(node, context)}**",
            "dd": lambda node, context: _quote(self._join("\n\n")(node, context)),
            "span": self._join(""),
            "blockquote": lambda node, context: _quote(
                self._join("\n\n")(node, context)
            ),
        }
        known |= dict(mdformat_tables.RENDERERS)
        self.options = {
            "parser_extension": [SimpleNamespace(RENDERERS=known)],
            "mdformat": {"wrap": "keep", "number": True},
        }

    def write(self, text: str) -> str:
        env: dict[str, Any] = {}
        tokens = self.markdown.parse(text, env)
        try:
            written = MDRenderer().render(tokens, self.options, env)
        except KeyError as error:
            raise PlainError(f"{error.args[0]!r} has no plain Markdown") from error
        return re.sub(r"\n{3,}", "\n\n", written).strip("\n")

    @staticmethod
    def _join(separator: str) -> Callable[[Node, RenderContext], str]:
        def join(node: Node, context: RenderContext) -> str:
            parts = (child.render(context) for child in node.children)
            return separator.join(part for part in parts if part)

        return join

    def _text(self, node: Node, context: RenderContext) -> str:
        return DEFAULT_RENDERERS["text"](node, context).replace("$", r"\$")

    def _link(self, node: Node, context: RenderContext) -> str:
        address = str(node.attrs.get("href", ""))
        if node.info == "auto" and re.match(r"https?:|mailto:", address):
            return DEFAULT_RENDERERS["link"](node, context)
        text = self._join("")(node, context)
        target = self.resolver.link(address)
        if not text:
            raise PlainError(f"the link to {address!r} has no text")
        return f"[{text}](<{target}>)" if " " in target else f"[{text}]({target})"

    def _image(self, node: Node, context: RenderContext) -> str:
        address = self.resolver.link(str(node.attrs["src"]))
        return f"![{node.content}]({address})"

    def _html(self, node: Node, context: RenderContext) -> str:
        if _RELATIVE.search(node.content):
            raise PlainError(f"HTML with a relative address: {node.content.strip()}")
        return node.content.strip("\n")

    def _inline_math(self, content: str) -> str:
        return f"${' '.join(content.split())}$"

    def _display(self, content: str, label: str = "") -> str:
        """Display one formula; a number becomes a tag of TeX."""
        formula = content.strip()
        if re.search(r"(?<!\\)%", formula):
            raise PlainError(f"a comment in a formula: {formula}")
        if ("&" in formula or r"\\" in formula) and r"\begin" not in formula:
            formula = rf"\begin{{aligned}} {formula} \end{{aligned}}"
        if label:
            formula += rf" \tag{{{self.resolver.equation(label)}}}"
        # On one line: JupyterLab takes formulas out before it reads the Markdown, so
        # that the marks of a quotation would become part of a longer one.
        return f"$$ {' '.join(formula.split())} $$"

    def _role(self, name: str, content: str) -> str:
        content = " ".join(content.split())
        if name == "math":
            return self._inline_math(content)
        if name in ("sub", "subscript", "sup", "superscript"):
            return f"<{name[:3]}>{escape(content)}</{name[:3]}>"
        if name in ("code", "literal", "kbd", "file", "samp"):
            return f"`{content}`"
        return self.resolver.role(name, content)

    def _fence(self, node: Node, context: RenderContext) -> str:
        directive = parse_directive(node.info, node.content)
        if directive is not None:
            return self._directive(directive)
        if node.type == "colon_fence":
            raise PlainError(f"a box without a name: {node.info!r}")
        return DEFAULT_RENDERERS["fence"](node, context)

    def _directive(self, directive: Directive) -> str:
        name, title, body = directive.name, directive.argument, directive.body
        folded = "dropdown" in directive.options.get("class", "").split()
        if name == "math":
            return self._display(
                "\n".join([title, body]), directive.options.get("label", "")
            )
        if name in _CODE:
            longest = max(map(len, re.findall(r"`{3,}", body)), default=2)
            marks = "`" * (longest + 1)
            return f"{marks}{title}\n{body}\n{marks}"
        if name == "exercise":  # it fills a section of its own, below its heading
            heading = f"**{self.write(title)}**\n\n" if title else ""
            return heading + self.write(body)
        if name == "dropdown" or (name in _BOXES and folded):
            return self._details(title or name.capitalize(), body)
        if name in _BOXES:
            # Docutils takes what follows "{note}" for the first line of its text.
            if name not in ("admonition", "sidebar", "topic"):
                title, body = name.capitalize(), "\n".join([title, body]).strip()
            heading = self.write(title) if title else name.capitalize()
            return _quote(f"**{heading}**\n\n{self.write(body)}")
        if name == "predict":
            return self._predict(directive)
        if name == "explore" and "figure" in directive.options:
            return ""  # where no script runs, the figure that it names is enough
        if name in ("figure", "image", "explore"):
            # The same: the picture of an interactive figure.
            address = directive.options.get("image", title)
            alt = directive.options.get("alt", "")
            image = f"![{alt}]({self.resolver.link(address)})"
            return f"{image}\n\n{self.write(body)}".strip()
        if name == "table":
            return f"**{self.write(title)}**\n\n{self.write(body)}"
        raise PlainError(f"the directive {{{name}}} is unknown")

    def _predict(self, directive: Directive) -> str:
        """Write a question; each answer that it offers unfolds what is said to it."""
        try:
            number = not {"number", "mark"}.isdisjoint(directive.options)
            asked = parse_question(directive.body, number)
        except ValueError as error:
            raise PlainError(str(error)) from error
        title = directive.argument or PROMPT.rstrip(".")
        parts = [self.write(f"**{title}.** {asked.text}")]
        for choice in asked.choices:
            verdict = "**Right.**" if choice.right else "**Not so.**"
            parts.append(self._details(choice.text, f"{verdict} {choice.feedback}"))
        return "\n\n".join(parts)

    def _details(self, summary: str, body: str) -> str:
        return (
            f"<details>\n<summary>{self._html_line(summary)}</summary>\n\n"
            f"{self.write(body)}\n\n</details>"
        )

    def _html_line(self, text: str) -> str:
        html: str = MarkdownIt("commonmark").renderInline(self.write(text))
        return html


def _quote(text: str) -> str:
    return "\n".join(f"> {line}".rstrip() for line in text.splitlines())
