"""The most telling values of a profile."""

from usergrowth_dagster.profiles.profile import PAR, TELLING, Profile, ValueShare


def telling_values(profile: Profile) -> list[tuple[str, ValueShare]]:
    """The most telling value of each of the most different tags, with the tag's key."""
    values = []
    for tag in profile.tags[:TELLING]:
        telling = [one for one in tag.values if one.is_telling]
        if tag.differs and telling:
            values.append((tag.key, max(telling, key=_distance)))
    return values


def _distance(one: ValueShare) -> float:
    """How far the nearer end of the interval is from par, as a ratio."""
    return max(one.low / PAR, PAR / one.high if one.high else 0.0)
