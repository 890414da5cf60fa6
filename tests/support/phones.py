"""Phone numbers that nobody has."""


def phone(number: int) -> str:
    """A number from the unassigned country code 999."""
    return f"+999{number:010d}"
