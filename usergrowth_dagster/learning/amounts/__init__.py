"""Models of amounts: a past average, Tweedie boosting, and two stages of whether and how much."""
