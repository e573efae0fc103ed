"""Draw the pictures of a server's phases and states, from the transitions that the core allows.

`docs/pictures/phases.svg` shows the phases of the core, `docs/pictures/states.svg` the states that
callers see.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pool_service.core.lifecycle import TRANSITIONS
from pool_service.core.server import Phase
from pool_service.rpc.wire import STATES
from pool_service_client import ServerState

PICTURES: Final = Path(__file__).resolve().parent.parent / "docs/pictures"

Point = tuple[float, float]
"""Across and down, in user units of the picture."""

HALF_WIDTH: Final = 58.0
HALF_HEIGHT: Final = 20.0
NEXT_GENERATION: Final = ("STOPPING", "CLEANING_UP")
"""What the next generation of a model follows, whichever of the two there is."""

STYLE: Final = """
    .page { fill: #ffffff; }
    .box { fill: #f6f8fa; stroke: #57606a; stroke-width: 1.5; }
    .READY { fill: #dafbe1; stroke: #1a7f37; }
    .FAILED, .BACKING_OFF { fill: #fff1e5; stroke: #bc4c00; }
    .line { fill: none; stroke: #57606a; stroke-width: 1.5; }
    .next { stroke-dasharray: 5 4; }
    .tip { fill: #57606a; }
    text { fill: #1f2328; text-anchor: middle; font-weight: 600; }
    .small { font-size: 12.5px; fill: #57606a; font-weight: 400; }
    @media (prefers-color-scheme: dark) {
      .page { fill: #0d1117; }
      .box { fill: #161b22; stroke: #8b949e; }
      .READY { fill: #10271a; stroke: #56d364; }
      .FAILED, .BACKING_OFF { fill: #2d1d10; stroke: #f0883e; }
      .line { stroke: #8b949e; }
      .tip { fill: #8b949e; }
      text { fill: #e6edf3; }
      .small { fill: #9ea7b3; }
    }
"""


@dataclass(frozen=True)
class Picture:
    """A picture: where its nodes are, and the size of the page."""

    title: str
    nodes: Mapping[str, Point]
    width: float
    height: float


PHASES: Final = Picture(
    "The phases of a server",
    {
        "QUEUED": (80, 50),
        "PREPARING": (240, 50),
        "SPAWNING": (400, 50),
        "STARTING": (560, 50),
        "READY": (720, 50),
        "STOPPING": (480, 165),
        "CLEANING_UP": (640, 250),
        "FAILED": (240, 250),
        "BACKING_OFF": (80, 250),
    },
    800,
    330,
)
STATES_SEEN: Final = Picture(
    "The states of a server",
    {
        "QUEUED": (80, 50),
        "STARTING": (280, 50),
        "READY": (480, 50),
        "STOPPING": (480, 165),
        "FAILED": (280, 165),
        "BACKING_OFF": (80, 165),
    },
    560,
    245,
)


def main() -> None:
    """Write the pictures."""
    for name, content in pictures().items():
        (PICTURES / name).write_text(content)


def pictures() -> dict[str, str]:
    """Return the content of each picture by its file name."""
    return {
        "phases.svg": drawn(PHASES, {phase: phase.name for phase in Phase}),
        "states.svg": drawn(STATES_SEEN, {phase: _state(phase) for phase in Phase}),
    }


def _state(phase: Phase) -> str:
    return ServerState(STATES[phase]).name


def edges(names: Mapping[Phase, str]) -> list[tuple[str, str]]:
    """Return the arrows between nodes that the allowed transitions mean, each once."""
    found = {
        (names[before], names[after]): None
        for before, followers in TRANSITIONS.items()
        for after in followers
        if before is not None and after is not None and names[before] != names[after]
    }
    return sorted(found)


def leaving(names: Mapping[Phase, str]) -> list[str]:
    """Return the nodes from which a server may leave the pool."""
    return sorted({names[one] for one, after in TRANSITIONS.items() if one and None in after})


def drawn(picture: Picture, names: Mapping[Phase, str]) -> str:
    """Return a picture as SVG; `names` has the node of each phase."""
    arrows = edges(names)
    gone = leaving(names)
    told = "; ".join(f"{before} to {after}" for before, after in arrows)
    lines = [
        (
            '<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-labelledby="t d"'
            f' viewBox="0 0 {picture.width} {picture.height}" font-size="13"'
            " font-family=\"system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif\">"
        ),
        f'  <title id="t">{picture.title}</title>',
        f'  <desc id="d">{told}.</desc>',
        f"  <style>{STYLE}  </style>",
        (
            '  <defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7"'
            ' markerHeight="7" orient="auto"><path class="tip" d="M0 0 10 5 0 10z"/></marker>'
            "</defs>"
        ),
        f'  <rect class="page" width="{picture.width}" height="{picture.height}" rx="8"/>',
        *(f"  {_arrow(picture.nodes[one], picture.nodes[other])}" for one, other in arrows),
        *(f"  {line}" for line in _next_generation(picture)),
        *(f"  {_box(name, at, leaves=name in gone)}" for name, at in picture.nodes.items()),
        (
            f'  <text class="small" x="{picture.width / 2}" y="{picture.height - 10}">'
            "⊗: may leave the pool from here. Dashed: the next generation of the model.</text>"
        ),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _box(name: str, at: Point, *, leaves: bool) -> str:
    x, y = at
    mark = f'<text x="{x + HALF_WIDTH}" y="{y - HALF_HEIGHT + 5}">⊗</text>' if leaves else ""
    return (
        f'<rect class="box {name}" x="{x - HALF_WIDTH}" y="{y - HALF_HEIGHT}"'
        f' width="{2 * HALF_WIDTH}" height="{2 * HALF_HEIGHT}" rx="8"/>'
        f'<text x="{x}" y="{y + 5}">{name}</text>{mark}'
    )


def _arrow(start: Point, end: Point) -> str:
    (x1, y1), (x2, y2) = _border(start, end), _border(end, start)
    return f'<path class="line" marker-end="url(#tip)" d="M{x1:.1f} {y1:.1f} L{x2:.1f} {y2:.1f}"/>'


def _border(at: Point, towards: Point) -> Point:
    """Return where the line from a box's middle to a point leaves the box."""
    dx, dy = towards[0] - at[0], towards[1] - at[1]
    share = min(HALF_WIDTH / abs(dx) if dx else math.inf, HALF_HEIGHT / abs(dy) if dy else math.inf)
    return at[0] + dx * share, at[1] + dy * share


def _next_generation(picture: Picture) -> Iterator[str]:
    """Draw the way from a server that is gone to the next one, below all others."""
    last = [picture.nodes[name] for name in NEXT_GENERATION if name in picture.nodes][-1]
    x, y = picture.nodes["BACKING_OFF"]
    below = picture.height - 42
    yield (
        f'<path class="line next" marker-end="url(#tip)" d="M{last[0]} {last[1] + HALF_HEIGHT}'
        f' V{below} H{x} V{y + HALF_HEIGHT}"/>'
    )
    queued = picture.nodes["QUEUED"]
    beside = 12.0
    yield (
        f'<path class="line next" marker-end="url(#tip)" d="M{x} {below} H{beside} V{queued[1]}'
        f' H{queued[0] - HALF_WIDTH}"/>'
    )


if __name__ == "__main__":
    main()
