"""The bodies of the thirteen synthetic cars: proportions and details, one `CarShape` per class.

Proportions follow the real models loosely, enough to tell them apart. Neighbours share most of their
numbers on purpose (206 and 207i, 405 and Pars, Pride 111 and 131, Samand and Shahin).
"""

from dataclasses import dataclass, replace
from typing import Literal


@dataclass(frozen=True)
class CarShape:
    """One body. Lengths in metres; x runs from the front bumper backwards, y from the ground up."""

    body: Literal["hatchback", "sedan", "pickup"]
    """Silhouette: decides the tail, and whether there is an open bed."""
    length: float
    width: float
    height: float
    wheelbase: float
    front_overhang: float
    """From the front bumper to the front axle."""
    cowl: tuple[float, float]
    """(x, y) where bonnet and windscreen meet."""
    roof: tuple[float, float]
    """x of the roof's front and rear ends."""
    deck: tuple[float, float]
    """(x, y) where the rear window meets the boot, the tailgate or the bed."""
    nose_height: float
    """Height of the bonnet's leading edge."""
    tail_height: float
    """Height of the boot's (tailgate's, bed's) rear edge."""
    pillars: tuple[float, ...]
    """x of each bar between two side windows."""
    rear_pillar: float
    """Width of the metal behind the last side window."""
    wheel_radius: float = 0.29
    clearance: float = 0.19
    softness: float = 0.22
    """How much of each corner of the outline is rounded off, in [0, 0.25]."""
    headlight: Literal["slim", "feline", "block", "round", "blade"] = "block"
    headlight_length: float = 0.3
    """How far the headlight reaches round the side."""
    tail_light: Literal["block", "upright", "wide", "slim"] = "block"
    grille: Literal["slats", "mouth", "bar", "frame", "wide"] = "slats"
    rim: Literal["disc", "five", "multi", "cap"] = "cap"
    doors: int = 4
    dark_bumpers: bool = False
    moulding: bool = False
    """A black rubbing strip along the doors."""
    cladding: bool = False
    """Black plastic round the wheel arches and along the sill."""
    roof_rails: bool = False
    ribs: int = 0
    """Upright ribs pressed into each wall of the bed."""
    crease: float = 0.0
    """How far the line along the doors rises from front to rear."""


_PEUGEOT_206 = CarShape(
    body="hatchback", length=3.84, width=1.65, height=1.43, wheelbase=2.44, front_overhang=0.74,
    cowl=(0.98, 0.98), roof=(1.78, 2.98), deck=(3.60, 1.02), nose_height=0.70, tail_height=0.96,
    pillars=(2.10, 2.92), rear_pillar=0.30, headlight="feline", headlight_length=0.52,
    tail_light="block", grille="bar", rim="cap", moulding=True, softness=0.25, crease=0.06,
)  # fmt: skip

_PEUGEOT_405 = CarShape(
    body="sedan", length=4.41, width=1.70, height=1.39, wheelbase=2.67, front_overhang=0.84,
    cowl=(1.20, 0.93), roof=(1.98, 3.08), deck=(3.72, 0.98), nose_height=0.72, tail_height=0.96,
    pillars=(2.26, 3.02), rear_pillar=0.10, headlight="slim", headlight_length=0.22,
    tail_light="slim", grille="slats", rim="disc", moulding=True, dark_bumpers=True, softness=0.14,
)  # fmt: skip

_PRIDE = CarShape(
    body="hatchback", length=3.50, width=1.60, height=1.45, wheelbase=2.34, front_overhang=0.66,
    cowl=(0.92, 0.94), roof=(1.48, 2.86), deck=(3.36, 0.96), nose_height=0.72, tail_height=0.90,
    pillars=(1.90, 2.62), rear_pillar=0.16, wheel_radius=0.26, headlight="block", headlight_length=0.20,
    tail_light="upright", grille="bar", rim="disc", dark_bumpers=True, softness=0.12,
)  # fmt: skip

_SAMAND = CarShape(
    body="sedan", length=4.50, width=1.72, height=1.49, wheelbase=2.67, front_overhang=0.90,
    cowl=(1.26, 0.98), roof=(2.00, 3.16), deck=(3.84, 1.06), nose_height=0.76, tail_height=1.04,
    pillars=(2.32, 3.14), rear_pillar=0.36, headlight="block", headlight_length=0.36,
    tail_light="block", grille="frame", rim="cap", moulding=True, softness=0.24, crease=0.05,
)  # fmt: skip

SHAPES: dict[str, CarShape] = {
    "Mazda 2000": CarShape(
        body="pickup", length=4.60, width=1.68, height=1.52, wheelbase=2.86, front_overhang=0.76,
        cowl=(1.22, 1.00), roof=(1.74, 2.36), deck=(2.54, 1.00), nose_height=0.86, tail_height=0.98,
        pillars=(), rear_pillar=0.12, wheel_radius=0.31, clearance=0.28, headlight="block",
        headlight_length=0.10, tail_light="upright", grille="slats", rim="disc", doors=2,
        dark_bumpers=True, moulding=True, softness=0.12,
    ),
    "Nissan Zamiad": CarShape(
        body="pickup", length=4.72, width=1.72, height=1.72, wheelbase=2.78, front_overhang=0.66,
        cowl=(1.04, 1.12), roof=(1.40, 2.02), deck=(2.12, 1.12), nose_height=1.00, tail_height=1.22,
        pillars=(), rear_pillar=0.10, wheel_radius=0.34, clearance=0.34, headlight="round",
        headlight_length=0.08, tail_light="block", grille="wide", rim="disc", doors=2,
        dark_bumpers=True, softness=0.06, ribs=7,
    ),
    "Peugeot 206": _PEUGEOT_206,
    "Peugeot 207i": replace(
        _PEUGEOT_206, length=3.92, front_overhang=0.82, cowl=(1.04, 1.00), roof=(1.84, 3.10),
        deck=(3.70, 1.06), nose_height=0.75, tail_height=1.00, pillars=(2.18, 3.02), rear_pillar=0.22,
        headlight_length=0.72, tail_light="upright", grille="mouth", rim="five", moulding=False,
        wheel_radius=0.31, crease=0.12,
    ),
    "Peugeot 405": _PEUGEOT_405,
    "Peugeot Pars": replace(
        _PEUGEOT_405, length=4.50, front_overhang=0.90, cowl=(1.26, 0.94), roof=(2.04, 3.14),
        deck=(3.78, 1.02), nose_height=0.70, tail_height=1.01, pillars=(2.32, 3.08), headlight="feline",
        headlight_length=0.46, tail_light="wide", grille="mouth", rim="five", dark_bumpers=False,
        softness=0.24,
    ),
    "Pride 111": replace(
        _PRIDE, rim="multi", dark_bumpers=False, tail_light="block", headlight_length=0.26, softness=0.18,
    ),
    "Pride 131": replace(
        _PRIDE, body="sedan", length=3.94, roof=(1.48, 2.58), deck=(3.16, 0.98), tail_height=0.96,
        pillars=(1.90, 2.62), rear_pillar=0.20,
    ),
    "Quik": CarShape(
        body="hatchback", length=3.90, width=1.68, height=1.61, wheelbase=2.42, front_overhang=0.80,
        cowl=(1.02, 1.06), roof=(1.76, 3.06), deck=(3.66, 1.16), nose_height=0.84, tail_height=1.06,
        pillars=(2.08, 2.88), rear_pillar=0.40, wheel_radius=0.31, clearance=0.27, headlight="blade",
        headlight_length=0.46, tail_light="wide", grille="mouth", rim="five", cladding=True,
        roof_rails=True, softness=0.2, crease=0.12,
    ),
    "Renault L90": CarShape(
        body="sedan", length=4.25, width=1.74, height=1.60, wheelbase=2.63, front_overhang=0.78,
        cowl=(1.08, 1.02), roof=(1.68, 3.02), deck=(3.52, 1.10), nose_height=0.80, tail_height=1.08,
        pillars=(2.10, 2.92), rear_pillar=0.14, wheel_radius=0.30, headlight="block",
        headlight_length=0.30, tail_light="upright", grille="bar", rim="cap", softness=0.16,
        dark_bumpers=True,
    ),
    "Samand": _SAMAND,
    "Shahin": replace(
        _SAMAND, length=4.44, height=1.45, wheelbase=2.65, cowl=(1.22, 1.02), roof=(2.06, 3.04),
        deck=(3.94, 1.14), nose_height=0.80, tail_height=1.14, pillars=(2.30, 3.10), rear_pillar=0.30,
        wheel_radius=0.33, headlight="blade", headlight_length=0.56, tail_light="slim", grille="wide",
        rim="multi", moulding=False, softness=0.22, crease=0.14,
    ),
    "Tiba 2": CarShape(
        body="hatchback", length=3.86, width=1.64, height=1.52, wheelbase=2.41, front_overhang=0.76,
        cowl=(1.00, 0.98), roof=(1.66, 3.10), deck=(3.64, 1.00), nose_height=0.76, tail_height=0.92,
        pillars=(2.00, 2.76), rear_pillar=0.12, wheel_radius=0.28, headlight="block",
        headlight_length=0.42, tail_light="upright", grille="bar", rim="cap", softness=0.2, crease=0.08,
    ),
}  # fmt: skip
"""Every class's body, by name."""
