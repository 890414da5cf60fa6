"""The letters of pictures: matplotlib's own font, and Noto Sans SC where it has no glyph."""

from functools import cache


@cache
def _families() -> list[str]:
    from matplotlib import font_manager
    from pylopdf_fonts_zh_cn import sans_path

    chinese = sans_path()
    font_manager.fontManager.addfont(chinese)
    name = font_manager.FontProperties(fname=chinese).get_name()
    return ["DejaVu Sans", name]


def use_fonts() -> None:
    """Let matplotlib draw Chinese letters too, in every picture of this process from now on."""
    from matplotlib import rcParams

    rcParams["font.family"] = _families()
