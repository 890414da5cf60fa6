"""When the rounds are, what world they meet, and what the two policies beside each other are."""

from dataclasses import dataclass
from datetime import date, timedelta

from usergrowth_dagster.examples.worlds.synthetic import SyntheticWorld

START = date(2017, 1, 2)
"""First day of the world."""

HISTORY_DAYS = 120
"""Days before the first round; the world texts at random in them, without a control group."""

LEARN_DAYS = 45
"""Days before the first round that the response model learns from."""

SEEN_DAYS = 90
"""The people of a round were seen within so many days, had nobody texted them: the same people for
both policies."""

STRENGTH = 2.0
"""Texts of this world work twice as often as by default, for good and bad: effects that some
thousand users can show."""

RETURN_DAYS = 14
"""A session within so many days after a text is a return."""

EVERY_DAYS = RETURN_DAYS + 1
"""Days from round to round: the window of one is over when the next begins."""

VALUE_PER_RETURN = 2.0
"""Worth of a return, in currency."""

THRESHOLD = 0.8
"""Of the fixed policy, and of ours until it knows what a text adds: everyone whose chance to
return, if texted, is above it."""

EXPLORE_FIRST, EXPLORE = 0.3, 0.1
"""Share of those below the cut whom our policy texts at random, to learn of them too: in its first
rounds, and from then on."""

FIRST_ROUNDS = 4
"""Rounds that explore more: a model of effects needs three to learn from and to be tested on."""

HOLDOUT = 0.2
"""Share of the chosen whom both policies hold out."""

USERS = 4_000
"""Users by default: enough that effects of some percent stand out from noise."""

TRAINING_ROWS = 14_000
"""Rows that a model of our rounds learns from at most, so that a training takes about a minute."""

MOST_ROUNDS = 40
"""Rounds that the world is long enough for; any number of them can be added to those before."""

MIN_USERS = 2_000


@dataclass(frozen=True)
class RoundPlan:
    """The rounds of a demo.

    Args:
        users: users of the world.
        campaigns: rounds.
        seed: seed of the world.
    """

    users: int
    campaigns: int
    seed: int

    @property
    def first_day(self) -> date:
        """First execution date: the first snapshots lie before the first event."""
        return START - timedelta(days=7)

    def day(self, number: int) -> date:
        """Execution date of a round, counted from 1; of the one after the last: when all is in."""
        return START + timedelta(days=HISTORY_DAYS + EVERY_DAYS * (number - 1))

    @property
    def numbers(self) -> range:
        """The rounds, from 1."""
        return range(1, self.campaigns + 1)

    def task(self, number: int) -> str:
        """Task of a round."""
        return f"round-{number:02d}"

    def stretch(self, number: int) -> tuple[date, date]:
        """The days that pass before a round, since the one before it."""
        first = self.first_day if number == 1 else self.day(number - 1)
        return first, self.day(number) - timedelta(days=1)

    def world(self, message_price: float) -> SyntheticWorld:
        """The world of both policies; its own texts end a window before the first round.

        It is the same whatever the number of rounds, so more can be added.
        """
        return SyntheticWorld(
            users=self.users,
            days=HISTORY_DAYS + EVERY_DAYS * MOST_ROUNDS,
            start=START,
            seed=self.seed,
            return_days=RETURN_DAYS,
            message_price=message_price,
            texts_until=HISTORY_DAYS - RETURN_DAYS,
            strength=STRENGTH,
        )

    def ours(self, number: int) -> str:
        """Our campaign file for a round."""
        explore = EXPLORE_FIRST if number <= FIRST_ROUNDS else EXPLORE
        return self._campaign(_MONEY.format(threshold=THRESHOLD, explore=explore))

    def fixed(self, number: int) -> str:
        """The fixed policy's campaign file, the same for all rounds."""
        return self._campaign(_FIXED.format(threshold=THRESHOLD))

    def _campaign(self, selection: str) -> str:
        return _CAMPAIGN.format(
            return_days=RETURN_DAYS,
            learn_from=self.day(1) - timedelta(days=LEARN_DAYS),
            learn_until=self.day(MOST_ROUNDS + 1),
            selection=selection,
            holdout=HOLDOUT,
            every=EVERY_DAYS,
            value=VALUE_PER_RETURN,
        )


_MONEY = "{{money: {{}}, fallback: {{threshold: {threshold}}}, explore: {explore}}}"
_FIXED = "{{threshold: {threshold}}}"
_CAMPAIGN = """\
name: comeback
algorithm: {{kind: winback, return_days: {return_days}}}
training: {{start_date: {learn_from}, end_date: {learn_until}}}
population: population/round-*
execution_date: on upload
selection: {selection}
holdout: {{share: {holdout}, rotate_days: {every}}}
effect: {{return_days: {return_days}, value_per_return: {value}}}
signature: {{name: Example, description: Demonstration only}}
template:
  name: short
  content: We miss you! A gift waits in the app. 拒收请回复R
  type: promotion
schedule: {{name: comeback}}
"""
