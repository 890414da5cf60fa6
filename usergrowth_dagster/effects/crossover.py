"""Texts that blur the arms: control users who were texted, treated users who got others besides.

They are counted, not removed: leaving out those who were texted by another campaign would make the
arms differ by what the campaigns chose them for. By intention to treat they stay in their arm, and
the effect measured is that of this campaign on top of whatever else goes on.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

CONTROL_ELSEWHERE = "control_texted_by_others"
TREATED_ELSEWHERE = "treated_texted_by_others"
CONTROL_HERE = "control_texted_by_this"
MEANINGS = {
    CONTROL_ELSEWHERE: "control users who got a text of another task in the window",
    TREATED_ELSEWHERE: "treated users who got a text of another task in the window too",
    CONTROL_HERE: "control users who got this task's text, which must never be",
}


def crossover(treated: "Array", sent: "Array", others: "Array") -> dict[str, int]:
    """Users by what they got besides; see :data:`MEANINGS`.

    Args:
        treated: whether each row is of the treatment arm, shape (n,), booleans.
        sent: whether a text of this task went out, shape (n,), booleans.
        others: texts of other tasks in the window, shape (n,).
    """
    return {
        CONTROL_ELSEWHERE: int((~treated & (others > 0)).sum()),
        TREATED_ELSEWHERE: int((treated & (others > 0)).sum()),
        CONTROL_HERE: int((~treated & sent).sum()),
    }


def notes(people: dict[str, int]) -> list[str]:
    """A sentence about each kind of crossing that there is."""
    sentences = []
    if people[CONTROL_HERE]:
        sentences.append(
            f"{people[CONTROL_HERE]} users of the control group got this task's text, which must "
            "never be: the effect is underrated."
        )
    if people[CONTROL_ELSEWHERE] or people[TREATED_ELSEWHERE]:
        sentences.append(
            f"{people[CONTROL_ELSEWHERE]} users of the control group and "
            f"{people[TREATED_ELSEWHERE]} of the chosen got texts of other campaigns in the "
            "window; the effect is that of this text on top of those."
        )
    return sentences
