"""What a reader would stumble over in a picture: the geometry of its scenes, one line a fault."""

import itertools

from gradviz.renderers.compose import compose_each
from gradviz.renderers.scene import Curve, Rectangle, Scene, Text
from gradviz.story import Story


def points_of(curve: Curve, steps: int = 12):
    """Points along a chain of cubic Bezier segments."""
    points = curve.points
    for start in range(0, len(points) - 1, 3):
        a, b, c, d = points[start : start + 4]
        for n in range(steps + 1):
            t = n / steps
            weights = ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3)
            yield tuple(
                sum(w * p[axis] for w, p in zip(weights, (a, b, c, d), strict=True))
                for axis in (0, 1)
            )


def width_of(text: Text) -> float:
    return sum(words.width for words in text.words) + text.gap * (len(text.words) - 1)


def box_of(text: Text):
    size = max(words.size for words in text.words)
    return text.x, text.y - 0.72 * size, text.x + width_of(text), text.y + 0.2 * size


def overlap(a, b, by=1.0):
    return min(a[2], b[2]) - max(a[0], b[0]) > by and min(a[3], b[3]) - max(a[1], b[1]) > by


def faults(scene: Scene):
    """What a reader would stumble over, one line each."""
    groups = list(scene.groups)
    nodes = {
        group.key: next(shape for shape in group.shapes if isinstance(shape, Rectangle))
        for group in groups
        if group.kind.startswith("node")
    }
    boxes = {key: (r.x, r.y, r.x + r.width, r.y + r.height) for key, r in nodes.items()}
    found = []
    texts = []
    lines = []
    for group in groups:
        for shape in group.shapes:
            if isinstance(shape, Text) and shape.words:
                texts.append((group, shape))
        if not group.kind.startswith("edge"):
            continue
        source, target, _ = group.key.rsplit("-", 2)
        panel = source[: source.rfind("-") + 1]  # of a story of several frames
        ends = {source, panel + target}
        for curve in (shape for shape in group.shapes if isinstance(shape, Curve)):
            lines.append((group, list(points_of(curve))))
            for x, y in lines[-1][1]:
                for key, (left, top, right, bottom) in boxes.items():
                    inside = left + 2 < x < right - 2 and top + 2 < y < bottom - 2
                    if inside and key not in ends:
                        found.append(f"edge {group.key} passes through {key}")
    for group, text in texts:
        left, top, right, bottom = box_of(text)
        if left < 0 or top < 0 or right > scene.width + 0.5 or bottom > scene.height + 0.5:
            found.append(f"text of {group.key} is off the page")
        if group.key in boxes:
            card = boxes[group.key]
            if left < card[0] or right > card[2] or top < card[1] or bottom > card[3]:
                found.append(f"text of {group.key} leaves its box")
    for (one, a), (other, b) in itertools.combinations(texts, 2):
        if overlap(box_of(a), box_of(b)):
            found.append(f"text of {one.key} and of {other.key} overlap")
    for group, text in texts:
        if group.key in boxes:
            continue
        left, top, right, bottom = box_of(text)
        for key, card in boxes.items():
            if overlap((left, top, right, bottom), card):
                found.append(f"text of {group.key} lies on {key}")
        for line, points in lines:
            if any(left + 1 < x < right - 1 and top + 1 < y < bottom - 1 for x, y in points):
                found.append(f"edge {line.key} strikes {text.words[0].text!r} of {group.key}")
    for (one, a), (two, b) in itertools.combinations(boxes.items(), 2):
        if overlap(a, b):
            found.append(f"{one} and {two} overlap")
    return sorted(set(found))


def faults_of(drawing):
    """Those of the picture, and of each frame as the page shows it."""
    scenes = [drawing._drawn[1], *compose_each(Story(drawing.shown.frames))]
    return [fault for scene in scenes for fault in faults(scene)]
