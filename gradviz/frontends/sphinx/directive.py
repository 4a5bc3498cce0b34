"""The directive ``gradviz``: from the code on a page to a node that can be drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from gradviz.errors import GradvizError
from gradviz.frontends.sphinx.options import OPTIONS
from gradviz.frontends.sphinx.picture import picture
from gradviz.frontends.sphinx.running import (
    CodeError,
    Namespace,
    Outcome,
    run_block,
    run_target,
    target_of,
)

__all__ = ["GradvizDirective"]

_log = logging.getLogger(__name__)
_NAMESPACE = "gradviz_namespace"


class GradvizDirective(SphinxDirective):
    """Draws what autograd recorded of the code in its body, or of a file."""

    has_content = True
    optional_arguments = 1
    final_argument_whitespace = True
    option_spec: ClassVar[Any] = OPTIONS

    def run(self) -> list[nodes.Node]:
        """The code, unless it is hidden, and the picture, or a box with the reason for none."""
        shown: list[nodes.Node] = []
        try:
            if self.content or "context" in self.options:
                code, outcome = "\n".join(self.content), self._run_block
            else:
                code, outcome = self._target_code(), self._run_target
            if code.strip() and "hide-code" not in self.options:
                shown.append(self._code(code))
            return [*shown, self._figure(outcome())]
        except GradvizError as error:
            return [*shown, self._failed(error)]

    def _run_block(self) -> Outcome:
        context = self.options.get("context")
        shared = self.env.temp_data
        if context in (None, "reset") or _NAMESPACE not in shared:
            namespace = Namespace(self.config.gradviz_pre_code)
        else:
            namespace = shared[_NAMESPACE]
        if context:
            shared[_NAMESPACE] = namespace
        try:
            argument = " ".join(self.arguments)
            return run_block(
                namespace, "\n".join(self.content), argument, self.options.get("frames", ())
            )
        finally:
            if context == "close":
                del shared[_NAMESPACE]

    def _target(self) -> Any:
        if not self.arguments:
            raise GradvizError(
                "there is nothing to draw: give code, or a target like train.py:loss"
            )
        folder = Path(self.env.doc2path(self.env.docname)).parent
        return target_of(" ".join(self.arguments), folder, Path(self.env.srcdir))

    def _target_code(self) -> str:
        target = self._target()
        if not target.is_script:
            return ""
        self.env.note_dependency(target.place)
        path = Path(target.place)
        return path.read_text(encoding="utf-8") if path.is_file() else ""

    def _run_target(self) -> Outcome:
        return run_target(self._target(), self.options.get("frames", ()))

    def _code(self, code: str) -> nodes.Node:
        block = nodes.literal_block(code, code, language="python")
        self.set_source_info(block)
        return block

    def _figure(self, outcome: Outcome) -> nodes.Node:
        for warning in outcome.warnings:
            _log.warning(warning, type="gradviz", location=self._place())
        kept = ("alt", "depth", "format", "theme", "views", "width")
        node = picture("", **{key: self.options[key] for key in kept if key in self.options})
        node["story"] = outcome.story
        self.set_source_info(node)
        outer: nodes.Element = node
        if "caption" in self.options:
            outer = nodes.figure("", node)
            words, messages = self.parse_inline(self.options["caption"], lineno=self.lineno)
            caption = nodes.caption(self.options["caption"], "", *words)
            self.set_source_info(caption)
            outer += [caption, *messages]
            self.set_source_info(outer)
        if "align" in self.options:
            outer["align"] = self.options["align"]
        outer["classes"] += self.options.get("class", [])
        self.add_name(outer)
        return outer

    def _failed(self, error: GradvizError) -> nodes.Node:
        line = error.line if isinstance(error, CodeError) else 0
        _log.warning("%s", error, type="gradviz", location=self._place(line))
        where = f" (line {line})" if line else ""
        said = f"gradviz: {error}{where}"
        box = nodes.error("", nodes.paragraph(said, said))
        self.set_source_info(box)
        self.add_name(box)
        return box

    def _place(self, line: int = 0) -> str:
        """``path:line`` of the directive, or of a line of its code, as Sphinx prints it."""
        source, first = self.get_source_info()
        if line and self.content:
            source, first = self._first_line()
            first += line - 1
        return f"{source}:{first}"

    def _first_line(self) -> tuple[str, int]:
        """The file and the line in it where the code begins."""
        if type(self.state).__module__.startswith("myst_parser"):
            # There the lines of the content are counted from the content itself.
            return self.get_source_info()[0], self.lineno + 1 + self.content_offset
        source, offset = self.content.info(0)
        return str(source), int(offset or 0) + 1
