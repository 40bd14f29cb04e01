"""The app's look: paper and ink, one accent, type that Gradio carries with it (no network).

Beware: many font files in gradio 6.31, the semibold of its own default theme among them, are
subsets without most of the Latin alphabet. IBM Plex Sans is whole in regular and bold.
"""

from __future__ import annotations

from pathlib import Path

from gradio.themes import Base, Color
from gradio.themes.utils import fonts

HERE = Path(__file__).parent
CSS = HERE / "style.css"
HEAD = f"<script>{(HERE / 'keys.js').read_text()}</script>"

# Text on its background has a contrast of at least 4.5 : 1 in both modes (tests/test_app.py).
TEAL = Color(
    *"#eef6f5 #d5eae8 #aed6d2 #7dbcb6 #4a9c95 #2a7f78 #17665f #12524d #10413d #0d3431 #07211f".split(),
    name="teal",
)
STONE = Color(
    *"#faf9f6 #f2f0eb #e3e0d8 #cbc7bd #98948a #67635b #514e47 #3d3b36 #292825 #1d1c1a #131312".split(),
    name="stone",
)

# (light, dark) for every role that differs from Gradio's base theme.
ROLES = {
    "body_background_fill": ("*neutral_50", "*neutral_950"),
    "body_text_color": ("*neutral_900", "#e9e7e1"),
    "body_text_color_subdued": ("*neutral_500", "#aaa69c"),
    "background_fill_primary": ("white", "*neutral_900"),
    "background_fill_secondary": ("*neutral_50", "*neutral_950"),
    "border_color_primary": ("*neutral_200", "*neutral_700"),
    "block_background_fill": ("transparent", "transparent"),
    "block_border_color": ("*neutral_200", "*neutral_700"),
    "block_info_text_color": ("*neutral_500", "#aaa69c"),
    "block_label_background_fill": ("transparent", "transparent"),
    "block_label_text_color": ("*neutral_600", "#c9c5bb"),
    "block_title_text_color": ("*neutral_900", "#e9e7e1"),
    "input_background_fill": ("white", "*neutral_950"),
    "input_border_color": ("*neutral_400", "*neutral_500"),
    "input_border_color_focus": ("*primary_600", "*primary_300"),
    "input_placeholder_color": ("*neutral_500", "#aaa69c"),
    "button_primary_background_fill": ("*primary_600", "*primary_300"),
    "button_primary_background_fill_hover": ("*primary_700", "*primary_200"),
    "button_primary_text_color": ("white", "*neutral_950"),
    "button_primary_text_color_hover": ("white", "*neutral_950"),
    "button_secondary_background_fill": ("white", "*neutral_800"),
    "button_secondary_background_fill_hover": ("*neutral_100", "*neutral_700"),
    "button_secondary_border_color": ("*neutral_400", "*neutral_500"),
    "button_secondary_text_color": ("*neutral_900", "#e9e7e1"),
    "color_accent_soft": ("*primary_50", "*neutral_800"),
    "slider_color": ("*primary_600", "*primary_300"),
    "checkbox_background_color_selected": ("*primary_600", "*primary_500"),
    "checkbox_border_color": ("*neutral_400", "*neutral_500"),
    "checkbox_border_color_selected": ("*primary_600", "*primary_400"),
    "block_border_width": ("0px", "0px"),
    "input_border_width": ("1px", "1px"),
    "input_shadow_focus": ("0 0 0 1px *primary_600", "0 0 0 1px *primary_300"),
    "button_border_width": ("1px", "1px"),
    "button_primary_border_color": ("transparent", "transparent"),
    "error_background_fill": ("#fdf2ef", "#2a1714"),
    "error_text_color": ("#8f2413", "#f3a493"),
    "error_border_color": ("#b3402b", "#b3402b"),
    "error_icon_color": ("#8f2413", "#f3a493"),
}


def theme() -> Base:
    """Gradio's base theme in our colours and type."""
    whole = (400, 700)
    base = Base(
        primary_hue=TEAL,
        secondary_hue=TEAL,
        neutral_hue=STONE,
        radius_size="sm",
        font=[fonts.LocalFont("IBM Plex Sans", whole), "system-ui", "sans-serif"],
        font_mono=[fonts.LocalFont("IBM Plex Mono", whole), "ui-monospace", "monospace"],
    )
    both = {name: light for name, (light, _) in ROLES.items()}
    both |= {f"{name}_dark": dark for name, (_, dark) in ROLES.items()}
    return base.set(
        **both,
        block_padding="0px",
        layout_gap="20px",
        form_gap_width="20px",
        block_shadow="none",
        block_label_border_width="0px",
        block_title_text_weight="600",
        block_info_text_size="13px",
    )
