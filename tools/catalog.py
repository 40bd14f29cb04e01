"""The words of the embedded model: which objects, styles and backgrounds it is taught to draw.

An object is written `name` or `name=slug` where the drawing sets file it under another slug;
`_` is a space and a trailing `+` marks a plural ("grapes", not "a grapes").
"""

from __future__ import annotations

from typing import NamedTuple

_OBJECTS = {
    "animals": """ant bear bee=honeybee bird butterfly camel=two-hump-camel cat=cat-face
        chick=baby-chick cow=cow-face crab crocodile dog=dog-face dragon=dragon-face duck
        elephant fish flamingo fox frog giraffe hippo=hippopotamus horse=horse-face jellyfish
        koala ladybug=lady-beetle lion lobster monkey=monkey-face mouse=mouse-face octopus owl
        panda parrot peacock penguin pig=pig-face rabbit=rabbit-face rooster shark sheep=ewe
        snail snake spider tiger=tiger-face turtle unicorn whale=spouting-whale zebra""",
    "plants": """cactus clover=four-leaf-clover hibiscus maple_leaf mushroom palm_tree
        pine_tree=evergreen-tree rose sunflower tree=deciduous-tree tulip""",
    "food": """apple=red-apple avocado banana beer=beer-mug broccoli burger=hamburger
        cake=birthday-cake carrot cheese=cheese-wedge cherries+ coffee=hot-beverage cookie
        corn=ear-of-corn croissant cupcake doughnut egg=cooking eggplant fries=french-fries+
        grapes+ hot_dog ice_cream=soft-ice-cream kiwi=kiwi-fruit lemon lollipop pancakes+ peach
        pear pepper=hot-pepper pineapple pizza popcorn strawberry sushi taco teapot tomato
        watermelon wine=wine-glass""",
    "places and vehicles": """airplane ambulance anchor bicycle bus car=automobile castle church
        ferris_wheel fire_engine gas_pump=fuel-pump helicopter house motorcycle
        mountain=snow-capped-mountain parachute rocket sailboat ship skateboard taxi tractor
        train truck=delivery-truck volcano""",
    "sky": """cloud fire globe=globe-showing-europe-africa lightning=high-voltage
        moon=crescent-moon planet=ringed-planet rainbow snowflake snowman star sun umbrella""",
    "things": """axe backpack balloon basketball bell bomb book=closed-book broom camera candle
        chair clock=alarm-clock crown diamond=gem-stone dice=game-die door dress drum envelope
        floppy_disk gift=wrapped-gift glasses+ guitar hammer hat=top-hat headphones=headphone+
        hourglass=hourglass-done jeans+ key kite laptop light_bulb lock=locked magnet
        medal=sports-medal microphone microscope necktie palette=artist-palette pencil
        phone=mobile-phone piano=musical-keyboard ring saxophone scissors+ shield shirt=t-shirt
        shoe=running-shoe soccer_ball socks+ sunglasses+ teddy_bear telephone television toilet
        trophy trumpet violin watch yo-yo""",
    "characters": """alien brain clown=clown-face eye ghost heart=red-heart
        pumpkin=jack-o-lantern robot skull smiley=grinning-face""",
}

# style name -> (npm package holding the drawings, licence, credit)
STYLES = {
    "fluent": ("fluent-emoji", "MIT", "Fluent Emoji, Microsoft Corporation"),
    "flat": ("fluent-emoji-flat", "MIT", "Fluent Emoji Flat, Microsoft Corporation"),
    "monochrome": ("fluent-emoji-high-contrast", "MIT", "Fluent Emoji High Contrast, Microsoft Corporation"),
    "noto": ("noto", "Apache-2.0", "Noto Emoji, Google Inc"),
    "openmoji": ("openmoji", "CC-BY-SA-4.0", "OpenMoji, HfG Schwäbisch Gmünd and contributors"),
    "twemoji": ("twemoji", "CC-BY-4.0", "Twemoji, Twitter Inc and other contributors"),
}

# background name -> sRGB; light enough that black line art stays readable on all of them
BACKGROUNDS = {
    "red": (238, 96, 92),
    "orange": (250, 168, 80),
    "yellow": (252, 222, 96),
    "green": (126, 204, 126),
    "blue": (112, 172, 244),
    "purple": (176, 136, 226),
    "pink": (252, 180, 208),
}


class Object(NamedTuple):
    """One thing the model can draw."""

    name: str  # "palm tree"
    phrase: str  # "a palm tree"
    slug: str  # "palm-tree"
    category: str


def _parse(word: str, category: str) -> Object:
    plural = word.endswith("+")
    name, _, slug = word.removesuffix("+").partition("=")
    name = name.replace("_", " ")
    vowel = name[0] in "aeiou" and name != "unicorn" or name == "hourglass"
    article = "" if plural else "an " if vowel else "a "
    return Object(name, article + name, slug or name.replace(" ", "-"), category)


OBJECTS = tuple(_parse(word, cat) for cat, words in _OBJECTS.items() for word in words.split())
