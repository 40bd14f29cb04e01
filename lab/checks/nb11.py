"""Exercises of notebook 11, Stable Diffusion."""

from __future__ import annotations

from lab.checks import Exercise

CROSS, ALL = 43_962_560, 859_520_964  # weights of Stable Diffusion 1.4: esd-x's, and all

EXERCISES = {
    "11.1": Exercise(
        answer=16 * CROSS / 1e9,
        wrong=(
            (4 * CROSS / 1e9, "These are the weights alone. What does training keep beside them?"),
            (8 * CROSS / 1e9, "With the gradient, good; now count what Adam keeps."),
            (12 * CROSS / 1e9, "One of gradient and Adam's two running means is missing."),
            (2 * CROSS / 1e9, "Half precision is for what stays frozen."),
            (16 * ALL / 1e9, "esd-x trains the cross-attention only; the rest has no gradient."),
            (16 * CROSS, "That many bytes; divide by 10^9."),
        ),
        praise="Sixteen bytes for each trained weight, and still less than the frozen ones take.",
        hint="Count the numbers that go with each trained weight, four bytes each.",
        tolerance=0.02,
    ),
    "11.2": Exercise(
        answer="50",
        wrong=(
            ("1", "One prediction makes one step; x_t lies many steps from pure noise."),
            ("25", "That is the number of steps. How many predictions does a guided step need?"),
            ("100", "That would be the whole schedule; the loop stops at a random step."),
        ),
        praise="Half of the steps, two predictions each; the update itself needs three more.",
    ),
}
