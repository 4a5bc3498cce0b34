"""Puts each picture of gradviz into a box that scrolls, so that a phone shows it legibly."""

from pathlib import PurePath

from docutils import nodes
from sphinx.transforms.post_transforms import SphinxPostTransform


class ScrollingPictures(SphinxPostTransform):
    """Wraps the pictures, once they are drawn."""

    default_priority = 9  # right after they are drawn
    formats = ("html",)

    def run(self, **_):
        for image in list(self.document.findall(nodes.image)):
            if PurePath(image["uri"]).suffix != ".svg":
                continue
            box = nodes.container(classes=["picture", *image["classes"]])
            image.replace_self(box)
            box += image


def setup(app):
    app.add_post_transform(ScrollingPictures)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
