"""The count of lines and arrows (`make size`), on a checkout of four modules."""

from tools import size


def test_arrows_are_found_through_public_names_and_not_for_type_checkers():
    texts = {
        "esd_core": "if TYPE_CHECKING:\n    from esd_core.study.probe import probe\n",
        "esd_core.erasing": "from esd_core import probe\nif TYPE_CHECKING:\n    import app\n",
        "esd_core.study.probe": "def f():\n    from esd_core import erasing\n",
        "app": "import esd_core.erasing\nimport torch\n",
    }
    arrows = size.arrows(texts)
    up, down = ("esd_core.erasing", "esd_core.study.probe"), ("esd_core.study.probe", "esd_core.erasing")
    assert arrows == {up, down, ("app", "esd_core.erasing")}
    assert size.upward(arrows) == [" -> ".join(up)]
    assert size.cycles(arrows) == set(up)
    assert size.cycles(arrows - {up}) == set()
    assert size.function_lines("x = 1\n\ndef f():\n    return 2\n") == {"f:3": 2}
