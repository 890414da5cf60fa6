"""One person behind many ids: which ids are one person's, by a stable ``one_id``.

``identity.yml`` says which types of ids link users (:mod:`~.definition`). Landed rows become links
or are left out with a reason (:mod:`~.links`), links become persons (:mod:`~.partition`), and
persons keep the name that they had the day before (:mod:`~.people`). :mod:`~.run` writes the tables
of :mod:`~.tables`, and :mod:`~.look` reads them.
"""
