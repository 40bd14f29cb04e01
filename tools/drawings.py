"""Fetch the SVG sets from the npm registry and rasterise the catalogue once.

Result: `drawings_144.npz` with `rgba`, uint8 `(objects, styles, 144, 144, 4)`: every drawing
cropped to its own bounding box, centred on a transparent square, alpha premultiplied.
"""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from pathlib import Path

import numpy as np
import resvg_py
from PIL import Image

from tools.catalog import OBJECTS, STYLES
from tools.checkpoint import BUILD

SIZE = 144  # pixels: a little more than a picture's 128, so that placing a drawing only shrinks it


def fetch(package: str) -> dict:
    """The icon set `@iconify-json/<package>` as its parsed `icons.json`."""
    folder = BUILD / "npm"
    folder.mkdir(parents=True, exist_ok=True)
    if not (found := list(folder.glob(f"iconify-json-{package}-[0-9]*.tgz"))):
        command = ["npm", "pack", "--silent", f"@iconify-json/{package}"]
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        found = list(folder.glob(f"iconify-json-{package}-[0-9]*.tgz"))
    with tarfile.open(found[0]) as archive:
        member = archive.extractfile("package/icons.json")
        assert member is not None
        return json.load(member)


def rasterise(icon_set: dict, slug: str, size: int = SIZE) -> Image.Image:
    """One drawing as a premultiplied `size` x `size` RGBA picture, cropped and centred."""
    icons, aliases = icon_set["icons"], icon_set.get("aliases", {})
    icon = icons[slug] if slug in icons else icons[aliases[slug]["parent"]]
    width, height = (icon.get(k, icon_set.get(k, 16)) for k in ("width", "height"))
    box = f"{icon.get('left', 0)} {icon.get('top', 0)} {width} {height}"
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{box}" width="{4 * size}" height="{4 * size}">{icon["body"]}</svg>'
    ).replace("currentColor", "#000")
    large = Image.open(io.BytesIO(bytes(resvg_py.svg_to_bytes(svg_string=svg)))).convert("RGBa")
    large = large.crop(large.getchannel("a").point(lambda a: 255 * (a > 8)).getbbox())
    side = max(large.size)
    square = Image.new("RGBa", (side, side))
    square.paste(large, ((side - large.width) // 2, (side - large.height) // 2))
    return square.resize((size, size), Image.Resampling.LANCZOS)


def build() -> Path:
    """Rasterise every object in every style, unless that was done before."""
    path = BUILD / f"drawings_{SIZE}.npz"
    if path.exists():
        return path
    rgba = np.zeros((len(OBJECTS), len(STYLES), SIZE, SIZE, 4), np.uint8)
    for column, (package, _, _) in enumerate(STYLES.values()):
        icon_set = fetch(package)
        for row, thing in enumerate(OBJECTS):
            rgba[row, column] = np.asarray(rasterise(icon_set, thing.slug))
    np.savez_compressed(path, rgba=rgba)
    return path


if __name__ == "__main__":
    print(f"{build()}: {len(OBJECTS)} objects x {len(STYLES)} styles")
